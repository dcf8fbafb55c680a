package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
	"wayfarer/tun"
)

// A connection whose interface somebody removes gets a new one, with the same wishes, by
// connecting anew; its block stands meanwhile. Whoever removes it again and again meets the
// usual back-off.
func TestInterfaceVanishes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := request()
		req.Profile.BlockOutside = true
		id := w.connect(req)
		wanted, held := w.host.last(), w.host.count()
		w.device(0).broken <- tun.ErrRemoved
		synctest.Wait()
		c := w.wantState(id, app.StateBlocked)
		if c.TUN != nil || !w.device(0).isClosed() || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Text, "removed the tunnel's interface") {
			t.Errorf("without an interface: %+v", c)
		}
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if got := w.host.last(); !reflect.DeepEqual(got, wanted) {
			t.Errorf("the host is asked for\n%+v, before it was\n%+v", got, wanted)
		}
		began, opened := time.Now(), w.opened()
		for w.opened() < opened+40 {
			if dev := w.device(w.opened() - 1); !dev.isClosed() {
				dev.broken <- tun.ErrRemoved
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if took := time.Since(began); took < 5*time.Minute {
			t.Errorf("40 interfaces within %v", took)
		}
		for _, cfg := range w.host.sets[held:] {
			if !cfg.BlockOutside {
				t.Fatal("the block was lifted meanwhile")
			}
		}
	})
}

func TestInterfaceVanishesForGood(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := request()
		req.NoReconnect = true
		id := w.connect(req)
		w.device(0).broken <- tun.ErrRemoved
		synctest.Wait()
		w.wantFailure(id, app.CodeNetworkConfig)
		w.checkNothingLeft()
	})
}

// An interface that vanishes right when the gateway pushes settings, or the path changes,
// is not replaced by one that nobody reads: it is noticed as removed.
func TestInterfaceVanishesDuringAChange(t *testing.T) {
	for name, change := range map[string]func(t *tunnel){
		"settings": func(t *tunnel) { t.pushed <- struct{}{} },
		"path":     func(t *tunnel) { t.resized <- struct{}{} },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var session *fakeSession
				w.script = func(context.Context, int, *ike.Config) (Session, error) {
					session = newSession()
					return session, nil
				}
				id := w.connect(request())
				session.mtu.Store(1200) // the host has to be asked
				w.host.fail(&platform.Error{Part: platform.PartAddress, Err: platform.ErrNoInterface})
				change(w.tunnels[0])
				synctest.Wait()
				w.device(0).broken <- tun.ErrRemoved
				w.host.fail(nil)
				time.Sleep(2 * minBackoff)
				synctest.Wait()
				w.wantState(id, app.StateConnected)
				w.device(1).packets <- []byte{0x45, 1}
				synctest.Wait()
				if len(session.written()) != 1 {
					t.Error("the new interface carries nothing")
				}
			})
		})
	}
}

// An always-on connection gets a new interface, whenever it has lost the old one, and
// keeps no part of the host for that meanwhile.
func TestManagedInterfaceVanishes(t *testing.T) {
	for name, lose := range map[string]func(w *world, session *fakeSession){
		"connected": func(w *world, _ *fakeSession) { w.device(0).broken <- tun.ErrRemoved },
		"reconnecting": func(w *world, session *fakeSession) {
			session.end(&ike.NoAnswerError{})
			synctest.Wait()
			w.device(0).broken <- tun.ErrRemoved
		},
	} {
		t.Run(name, func(t *testing.T) {
			var first *fakeSession
			inManagedWorld(t, func(w *world, n int) (Session, error) {
				session := newSession()
				if n == 0 {
					first = session
				}
				return session, nil
			}, []Managed{managed(nil)}, func(t *testing.T, w *world) {
				synctest.Wait()
				lose(w, first)
				synctest.Wait()
				if name == "connected" {
					if last := w.host.last(); len(last.Tunnels) != 0 || !w.device(0).isClosed() {
						t.Errorf("the host keeps %+v", last)
					}
				}
				time.Sleep(minRest * 9 / 8)
				synctest.Wait()
				if w.opened() != 2 || !w.device(0).isClosed() || w.device(1).isClosed() {
					t.Fatalf("%d interfaces", w.opened())
				}
				if last := w.host.last(); len(last.Tunnels) != 1 {
					t.Errorf("the host has %+v", last)
				}
			})
		})
	}
}

// What forbids an interface is told before anybody is asked or dialled, so that no
// one-time password is lost; and with its remedy once.
func TestNoInterfaceToHope(t *testing.T) {
	for hint, err := range map[string]error{hints.rights: tun.ErrNoRights, hints.device: tun.ErrNoDevice} {
		inWorld(t, func(t *testing.T, w *world) {
			w.checkTUN = func() error { return fmt.Errorf("%w (try this)", err) }
			req := request()
			req.Ask, req.Password = true, nil
			f := w.wantFailure(w.connect(req), app.CodeNetworkConfig)
			if strings.Count(f.Error(), hint) != 1 || strings.Contains(f.Error(), "try this") || f.Step != app.StepBuildTunnel {
				t.Errorf("%+v", f)
			}
			if w.dialled() != 0 {
				t.Error("dialled all the same")
			}
		})
	}
}

func TestHostRefuses(t *testing.T) {
	t.Run("interface", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.openErr = errors.New("interface: no right")
			id := w.connect(request())
			w.wantFailure(id, app.CodeNetworkConfig)
		})
	})
	t.Run("network", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			session := newSession()
			w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
			w.host.fail(errors.New("route: file exists"))
			id := w.connect(request())
			w.wantFailure(id, app.CodeNetworkConfig)
			if !session.isClosed() || !w.devices[0].isClosed() {
				t.Error("session or interface stays")
			}
			w.host.fail(nil)
		})
	})
	t.Run("socket", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.host.listenErr = errors.New("operation not permitted")
			w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
				_, err := cfg.ListenPacket(ctx, netip.MustParseAddr("192.0.2.1"), 0)
				return nil, &ike.NoAnswerError{Step: ike.StepFindGateway, Err: err}
			}
			id := w.connect(request())
			w.wantFailure(id, app.CodeNetworkConfig)
		})
	})
}

// The interface is made while the gateway tells the settings, once, and given back if
// nothing comes of it.
func TestInterfaceIsMadeAhead(t *testing.T) {
	for name, tt := range map[string]struct {
		dialErr, openErr, hostErr error
		code                      app.Code
	}{
		"connected":        {},
		"gateway refuses":  {dialErr: &ike.RefusedError{Step: ike.StepGetSettings, What: ike.RefusedSettings}, code: app.CodeSettingsRefused},
		"no interface":     {openErr: tun.ErrNoDevice, code: app.CodeNetworkConfig},
		"host cannot have": {hostErr: &platform.Error{Part: platform.PartRoute, Err: errors.New("no")}, code: app.CodeNetworkConfig},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.opensAhead, w.openErr, w.host.err = true, tt.openErr, tt.hostErr
				signIn, settings := make(chan struct{}), make(chan struct{})
				w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
					cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.StepSignIn})
					<-signIn
					cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.StepGetSettings})
					cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.StepGetSettings})
					<-settings
					if tt.dialErr != nil {
						return nil, tt.dialErr
					}
					return newSession(), nil
				}
				id := w.connect(request())
				if n := w.opened(); n != 0 {
					t.Fatalf("%d interfaces before the sign-in is over", n)
				}
				close(signIn)
				synctest.Wait()
				if n := w.opened(); tt.openErr == nil && n != 1 {
					t.Fatalf("%d interfaces while the settings come", n)
				}
				close(settings)
				synctest.Wait()
				if tt.code != "" {
					w.wantFailure(id, tt.code)
					w.host.err = nil
					return
				}
				if c := w.wantState(id, app.StateConnected); w.opened() != 1 || c.TUN == nil || c.TUN.Name != w.device(0).cfg.Name {
					t.Errorf("%d interfaces, %+v", w.opened(), c.TUN)
				}
				if got := w.host.last().Tunnels; len(got) != 1 || got[0].Interface != w.device(0).cfg.Name || got[0].MTU != newSession().MTU() {
					t.Errorf("the host is asked for %+v", got)
				}
			})
		})
	}
}

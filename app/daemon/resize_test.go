package daemon

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"wayfarer/app"
	"wayfarer/ike"
)

// resizable connects a session whose path the test changes.
func (w *world) resizable(mtu int, change func(*fakeSession)) (id string, session *fakeSession, resize func(int)) {
	w.t.Helper()
	session = newSession()
	if change != nil {
		change(session)
	}
	session.mtu.Store(int64(mtu))
	var event func(ike.Event)
	w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
		event = cfg.Event
		return session, nil
	}
	id = w.connect(request())
	return id, session, func(mtu int) {
		session.mtu.Store(int64(mtu))
		event(ike.Event{Kind: ike.EventMTU})
		synctest.Wait()
	}
}

// TestResize: what the engine finds out about the path goes to the interface, the pump
// and the status, and nothing else happens to the connection.
func TestResize(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id, session, resize := w.resizable(1300, nil)
		dev := w.devices[0]
		for _, tt := range []struct{ path, mtu int }{{1422, 1422}, {1198, 1198}, {576, 576}, {510, 576}, {1438, 1438}} {
			resize(tt.path)
			c := w.wantState(id, app.StateConnected)
			if c.TUN.MTU != tt.mtu || w.host.last().Tunnels[0].MTU != tt.mtu {
				t.Errorf("%d: status %+v, host %+v", tt.path, c.TUN, w.host.last().Tunnels)
			}
			before := len(session.written())
			dev.packets <- syn(9000)
			dev.packets <- ipv4(tt.path, dontFragment, 1)
			dev.packets <- ipv4(tt.path+1, dontFragment, 1)
			synctest.Wait()
			if got := session.written()[before:]; len(got) != 2 || int(mssOf(got[0])) != tt.path-40 || len(got[1]) != tt.path {
				t.Errorf("%d: %d packets, MSS %d", tt.path, len(got), mssOf(got[0]))
			}
		}
		sets := w.host.count()
		resize(1438)
		if w.host.count() != sets || len(w.devices) != 1 || w.dialled() != 1 {
			t.Errorf("%d changes of the host for nothing, %d devices, %d dials", w.host.count()-sets, len(w.devices), w.dialled())
		}
	})
}

// TestResizeRefused: a host that does not take an MTU does not end the connection; the
// pump keeps to the path.
func TestResizeRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id, session, resize := w.resizable(1300, nil)
		w.host.fail(errors.New("no"))
		resize(900)
		w.host.fail(nil)
		if c := w.wantState(id, app.StateConnected); c.TUN.MTU != 1300 {
			t.Errorf("status %+v", c.TUN)
		}
		w.devices[0].packets <- ipv4(1300, 0, 1)
		synctest.Wait()
		for _, p := range session.written() {
			if len(p) > 900 {
				t.Errorf("a packet of %d bytes", len(p))
			}
		}
		resize(901)
		if c := w.wantState(id, app.StateConnected); c.TUN.MTU != 901 {
			t.Errorf("status %+v", c.TUN)
		}
	})
}

// TestResizeIPv6: an interface with IPv6 keeps IPv6's least MTU.
func TestResizeIPv6(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id, _, resize := w.resizable(1198, func(s *fakeSession) {
			s.assignment.Addresses = append(s.assignment.Addresses, netip.MustParsePrefix("fd00::1/128"))
		})
		if c := w.get(id); c.TUN.MTU != 1280 {
			t.Errorf("at first %+v", c.TUN)
		}
		for path, mtu := range map[int]int{510: 1280, 1418: 1418} {
			resize(path)
			if c := w.wantState(id, app.StateConnected); c.TUN.MTU != mtu {
				t.Errorf("%d: %+v", path, c.TUN)
			}
		}
	})
}

// TestResizePinned: what the profile says counts.
func TestResizePinned(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		var event func(ike.Event)
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			event = cfg.Event
			return session, nil
		}
		r := request()
		r.Profile.MTU = 1234
		id := w.connect(r)
		session.mtu.Store(1422)
		event(ike.Event{Kind: ike.EventMTU})
		synctest.Wait()
		w.devices[0].packets <- ipv4(1235, dontFragment, 1)
		w.devices[0].packets <- ipv4(1234, dontFragment, 1)
		synctest.Wait()
		if c := w.wantState(id, app.StateConnected); c.TUN.MTU != 1234 || len(session.written()) != 1 {
			t.Errorf("%+v, %d packets", c.TUN, len(session.written()))
		}
	})
}

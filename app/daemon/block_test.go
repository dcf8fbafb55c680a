package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
	"wayfarer/platform"
)

// blocking is a request that wants nothing to leave but by the tunnel.
func blocking() *control.ConnectRequest {
	req := request()
	req.Profile.BlockOutside = true
	return req
}

// blocks lists, for each wish since the given one, whether it held traffic back.
func (n *fakeNetwork) blocks(since int) []bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []bool
	for _, cfg := range n.sets[since:] {
		list = append(list, cfg.BlockOutside)
	}
	return list
}

func TestBlockStandsWhileTheConnectionLives(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var sessions []*fakeSession
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			if cfg := w.host.last(); !cfg.BlockOutside || cfg.AllowLocal {
				t.Errorf("dial %d with %+v", n, cfg)
			}
			if n == 1 || n == 2 {
				return nil, &ike.NoAnswerError{Step: ike.StepFindGateway}
			}
			s := newSession()
			sessions = append(sessions, s)
			return s, nil
		}
		id := w.connect(blocking())
		w.wantState(id, app.StateConnected)
		if cfg := w.host.last(); !cfg.BlockOutside || len(cfg.Tunnels) != 1 {
			t.Errorf("connected with %+v", cfg)
		}
		sessions[0].end(&ike.NoAnswerError{})
		synctest.Wait()
		if c := w.wantState(id, app.StateBlocked); c.Failure != nil || c.TUN == nil {
			t.Errorf("while reconnecting: %+v", c)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if failure := w.Disconnect(t.Context(), id); failure != nil {
			t.Error(failure)
		}
		if list := w.host.blocks(0); list[len(list)-1] {
			t.Error("the block outlives the connection")
		} else {
			for i, up := range list[:len(list)-1] {
				if !up {
					t.Errorf("wish %d of %d opens the host", i, len(list))
				}
			}
		}
	})
}

// Whoever was never connected is not left offline.
func TestBlockIsLiftedWhenTheFirstAttemptFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(context.Context, int, *ike.Config) (Session, error) {
			return nil, &ike.CredentialsError{Step: ike.StepSignIn}
		}
		id := w.connect(blocking())
		w.wantFailure(id, app.CodeSignInRefused)
		if list := w.host.blocks(0); len(list) != 2 || !list[0] || list[1] {
			t.Errorf("blocks %v", list)
		}
	})
}

// Nobody is offline while a password is asked for: nothing has left yet.
func TestNoBlockBeforeThePassword(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := blocking()
		req.Ask, req.Password = true, nil
		id := w.connect(req)
		c := w.wantState(id, app.StateActionNeeded)
		if w.host.count() != 0 {
			t.Errorf("the host got %+v", w.host.last())
		}
		if f := w.Answer(id, &control.Answer{PromptID: c.Prompt.ID, Text: []byte("hush")}); f != nil {
			t.Fatal(f)
		}
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if list := w.host.blocks(0); !list[0] {
			t.Error("no block")
		}
	})
}

// loseForGood is a connection with a block whose password is changed at the gateway.
func loseForGood(t *testing.T, w *world, req *control.ConnectRequest) string {
	t.Helper()
	first := newSession()
	w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
		switch n {
		case 0:
			return first, nil
		case 1:
			return nil, &ike.CredentialsError{Step: ike.StepSignIn}
		}
		return newSession(), nil
	}
	id := w.connect(req)
	w.wantState(id, app.StateConnected)
	first.end(&ike.NoAnswerError{})
	time.Sleep(minBackoff)
	synctest.Wait()
	return id
}

func TestBlockOutlastsAConnectionThatIsLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := loseForGood(t, w, blocking())
		c := w.wantState(id, app.StateBlocked)
		if c.Failure == nil || c.Failure.Code != app.CodeSignInRefused || c.TUN != nil || len(c.Routes) > 0 {
			t.Errorf("lost: %+v", c)
		}
		if cfg := w.host.last(); !cfg.BlockOutside || len(cfg.Tunnels) != 0 || !w.devices[0].isClosed() {
			t.Errorf("lost with %+v", cfg)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		w.wantState(id, app.StateBlocked)
		if w.dialled() != 2 {
			t.Errorf("dialled %d times", w.dialled())
		}
		if failure := w.Disconnect(t.Context(), id); failure != nil {
			t.Error(failure)
		}
		w.checkNothingLeft()
	})
	inWorld(t, func(t *testing.T, w *world) {
		req := blocking()
		req.NoReconnect = true
		session := newSession()
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
		id := w.connect(req)
		session.end(&ike.NoAnswerError{})
		synctest.Wait()
		w.wantState(id, app.StateBlocked)
	})
	// Control: without the wish for a block nothing is left.
	inWorld(t, func(t *testing.T, w *world) {
		id := loseForGood(t, w, request())
		w.wantFailure(id, app.CodeSignInRefused)
		w.checkNothingLeft()
	})
}

// Connecting anew takes the place of what is lost, and there is no gap between.
func TestBlockIsHandedOver(t *testing.T) {
	for _, works := range []bool{true, false} {
		inWorld(t, func(t *testing.T, w *world) {
			old := loseForGood(t, w, blocking())
			w.wantState(old, app.StateBlocked)
			if !works {
				w.script = func(context.Context, int, *ike.Config) (Session, error) {
					return nil, &ike.CredentialsError{Step: ike.StepSignIn}
				}
			}
			since := w.host.count()
			id := w.connect(blocking())
			if n := len(w.Connections()); n != 1 {
				t.Errorf("%d connections", n)
			}
			if works {
				w.wantState(id, app.StateConnected)
			} else if c := w.wantState(id, app.StateBlocked); c.Failure == nil {
				t.Error("no failure")
			}
			for i, up := range w.host.blocks(since) {
				if !up {
					t.Errorf("wish %d opens the host", i)
				}
			}
			if !w.host.last().BlockOutside {
				t.Error("the host is open")
			}
			w.Disconnect(t.Context(), id)
			w.checkNothingLeft()
		})
	}
}

func TestBlockThatCannotBe(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.host.fail(&platform.Error{Part: platform.PartFirewall, Err: errors.New("no nftables")})
		id := w.connect(blocking())
		w.wantFailure(id, app.CodeNetworkConfig)
		if w.dialled() != 0 {
			t.Error("dialled without the block")
		}
		w.host.fail(nil)
	})
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{}) // rootless
		if _, f := d.Connect(t.Context(), "ada", blocking()); f == nil || f.Code != app.CodeUsage {
			t.Errorf("without the service: %v", f)
		}
	})
}

func TestWishesTogether(t *testing.T) {
	tunnels := []platform.Tunnel{{Interface: "wayfarer0"}, {Interface: "wayfarer1"}}
	for _, tt := range []struct {
		name         string
		wishes       []wish
		block, local bool
		tunnels      int
	}{
		{"nobody", nil, false, false, 0},
		{"one", []wish{{tunnel: &tunnels[0]}}, false, false, 1},
		{"one of two blocks", []wish{{tunnel: &tunnels[0]}, {tunnel: &tunnels[1], block: true}}, true, false, 2},
		{"only a block", []wish{{block: true, local: true}}, true, true, 0},
		{"the stricter counts", []wish{{block: true}, {tunnel: &tunnels[0], local: true}}, true, false, 1},
		{"local beside a tunnel without", []wish{{tunnel: &tunnels[0]}, {tunnel: &tunnels[1], local: true}}, false, true, 2},
		{"blocks that agree", []wish{{block: true, local: true}, {tunnel: &tunnels[1], block: true, local: true}}, true, true, 1},
		{"a portal stands aside", []wish{{tunnel: &tunnels[0], block: true, portal: addrs("192.0.2.1")}, {tunnel: &tunnels[1]}}, true, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configOf(tt.wishes)
			if cfg.BlockOutside != tt.block || cfg.AllowLocal != tt.local || len(cfg.Tunnels) != tt.tunnels {
				t.Errorf("%+v", cfg)
			}
		})
	}
}

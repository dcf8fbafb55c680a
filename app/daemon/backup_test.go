package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
)

// lose ends a session and waits until the next attempt is over.
func lose(session *fakeSession) {
	session.end(&ike.NoAnswerError{})
	time.Sleep(2 * maxBackoff)
	synctest.Wait()
}

// The servers that the gateway names are tried after it, once the connection is lost.
func TestBackupServers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var sessions []*fakeSession
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			s := newSession()
			if n == 0 {
				s.assignment.BackupServers = []string{"backup.example.com", "192.0.2.9"}
			}
			sessions = append(sessions, s)
			return s, nil
		}
		id := w.connect(request())
		lose(sessions[0])
		w.wantState(id, app.StateConnected)
		lose(sessions[1]) // which named none
		w.wantState(id, app.StateConnected)
		for i, want := range []string{"vpn.example.com", "vpn.example.com, backup.example.com, 192.0.2.9", "vpn.example.com"} {
			if got := w.dials[i].Gateway; got != want {
				t.Errorf("dial %d to %q, want %q", i, got, want)
			}
		}
	})
}

// Settings that are pushed bring new backup servers.
func TestPushedBackupServers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var sessions []*fakeSession
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			sessions = append(sessions, newSession())
			return sessions[len(sessions)-1], nil
		}
		id := w.connect(request())
		first := sessions[0]
		first.mu.Lock()
		first.assignment.BackupServers = []string{"backup.example.com"}
		first.mu.Unlock()
		w.dials[0].Event(ike.Event{Kind: ike.EventAssignment})
		synctest.Wait()
		lose(first)
		w.wantState(id, app.StateConnected)
		if got := w.dials[1].Gateway; got != "vpn.example.com, backup.example.com" {
			t.Errorf("dialled %q", got)
		}
	})
}

// A backup server that nothing vouches for neither ends the connection nor is the
// user asked about it: the gateway itself may be back.
func TestUntrustedBackupServer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var sessions []*fakeSession
		w.script = func(_ context.Context, n int, cfg *ike.Config) (Session, error) {
			if cfg.Gateway != "vpn.example.com" {
				return nil, unknownGateway(t)
			}
			s := newSession()
			s.assignment.BackupServers = []string{"backup.example.com"}
			sessions = append(sessions, s)
			return s, nil
		}
		req := request()
		req.Ask = true
		id := w.connect(req)
		lose(sessions[0])
		w.wantState(id, app.StateConnected)
		if w.dialled() != 3 || w.dials[2].Gateway != "vpn.example.com" || w.dials[2].Trust.Pin != [32]byte{} {
			t.Errorf("dials %+v", w.dials)
		}
		// They are back with the next connection.
		lose(sessions[1])
		if w.dialled() != 5 || w.dials[3].Gateway != "vpn.example.com, backup.example.com" {
			t.Errorf("%d dials", w.dialled())
		}
	})
}

// When the gateway itself is not trusted any more, backup servers change nothing.
func TestUntrustedGatewayWithBackupServers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := newSession()
		first.assignment.BackupServers = []string{"backup.example.com"}
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			if n == 0 {
				return first, nil
			}
			return nil, &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustPin}
		}
		id := w.connect(request())
		lose(first)
		w.wantFailure(id, app.CodeUntrusted)
		if w.dialled() != 3 {
			t.Errorf("%d dials", w.dialled())
		}
	})
}

package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
)

func TestRestoreNetwork(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, &ike.CredentialsError{} }
		w.wantFailure(w.connect(named("failed")), app.CodeSignInRefused)
		sets := w.host.count()
		if f := w.RestoreNetwork(t.Context()); f != nil {
			t.Fatal(f)
		}
		if w.host.count() != sets+1 || len(w.host.last().Tunnels) != 0 || w.host.recovered != 1 {
			t.Errorf("the wish %+v, recovered %d times", w.host.last(), w.host.recovered)
		}
	})
}

// What connections have is not taken away from under them.
func TestRestoreNetworkBesideConnections(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.wantState(w.connect(request()), app.StateConnected)
		sets := w.host.count()
		f := w.RestoreNetwork(t.Context())
		if f == nil || f.Code != app.CodeUsage || !strings.Contains(f.Hint, "wayfarer disconnect") {
			t.Errorf("got %+v", f)
		}
		if w.host.count() != sets || w.host.recovered > 0 {
			t.Error("the host was changed")
		}
	})
}

func TestRestoreNetworkFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.host.fail(&platform.Error{Part: platform.PartDNS, Err: errors.New("read-only file system")})
		defer w.host.fail(nil)
		f := w.RestoreNetwork(t.Context())
		if f == nil || f.Exit != 7 || !strings.Contains(f.Message, "dns: read-only file system") {
			t.Errorf("got %+v", f)
		}
	})
}

// Where the host's network is never changed, nothing is to be restored.
func TestRestoreNetworkRootless(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.network = nil
		if f := w.RestoreNetwork(t.Context()); f != nil {
			t.Error(f)
		}
	})
}

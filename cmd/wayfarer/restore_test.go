package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"wayfarer/app"
	"wayfarer/platform"
)

// TestRestoreNetwork: it is done here, unless there is a service or no right, and a
// service that runs is asked.
func TestRestoreNetwork(t *testing.T) {
	busy := fmt.Errorf("journal: %w", &platform.BusyError{PID: 7})
	denied := fmt.Errorf("open: %w", fs.ErrPermission)
	refused := app.NewFailure(app.CodeUsage, "", "connections are in use (1)", "disconnect")
	absent := app.NewFailure(app.CodeNoService, "", "the service does not run", "start it")
	for _, tt := range []struct {
		name    string
		err     error // of the work done here
		service error
		exit    int
		asks    bool
		says    string
	}{
		{"no service", nil, absent, 0, true, "Nothing that connections changed is left"},
		{"a service with another directory", nil, nil, 0, true, "Nothing that connections changed is left"},
		{"connections of a service with another directory", nil, refused, 2, true, "connections are in use (1); disconnect"},
		{"a service", busy, nil, 0, true, "Nothing that connections changed is left"},
		{"a service with connections", busy, refused, 2, true, "connections are in use (1); disconnect"},
		{"a silent service", busy, absent, 7, true, "process 7 controls the host's network already, and does not answer; stop it"},
		{"no rights, a service", denied, nil, 0, true, "Nothing that connections changed is left"},
		{"no rights, no service", denied, absent, 7, true, "open: permission denied; " + adminHint()},
		{"something stays", errors.New("route: busy"), nil, 7, false, "not everything could be undone: route: busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newFakeService(nil)
			svc.gone = tt.service
			w := newWorld(t, svc)
			var dir string
			w.env.restore = func(_ context.Context, stateDir string) error { dir = stateDir; return tt.err }
			got := w.run(t, "restore-network", "--state-dir", "/some/where")
			if all := w.out.String() + w.err.String(); got != tt.exit || !strings.Contains(all, tt.says) || dir != "/some/where" {
				t.Errorf("exit %d, dir %q: %s", got, dir, all)
			}
			if asked := len(svc.asked) > 0; asked != tt.asks {
				t.Errorf("asked the service: %v", asked)
			}
		})
	}
}

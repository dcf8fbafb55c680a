package main

import (
	"context"
	"errors"
	"testing"

	"wayfarer/app"
	"wayfarer/platform"
)

func TestSelftest(t *testing.T) {
	good := []platform.Check{{Name: "interface"}, {Name: "name servers", Answer: "systemd-resolved", System: []string{"server 198.18.255.2", "domain\x1b selftest.invalid"}}}
	bad := platform.Check{Name: "route and rule", Err: errors.New("no\nbuffer space")}
	for name, tt := range map[string]struct {
		checks    []platform.Check
		err       error
		exit      int
		out, says string
	}{
		"good": {good, nil, 0, "interface                     ok\nname servers                  ok: systemd-resolved\n    server 198.18.255.2\n    domain selftest.invalid\n", ""},
		"bad": {
			append(good[:1:1], bad), nil, 7, "interface                     ok\nroute and rule                failed: no buffer space\n",
			"wayfarer: this computer's network cannot be configured as connections need it; see above what the system answered\n",
		},
		"impossible": {nil, app.NewFailure(app.CodeNetworkConfig, "", "busy", "stop it"), 7, "", "wayfarer: busy; stop it\n"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newFakeService(nil)
			svc.gone = app.NewFailure(app.CodeNoService, "", "the service does not run", "start it")
			w := newWorld(t, svc)
			w.env.selftest = func(_ context.Context, tell func(platform.Check)) error {
				for _, c := range tt.checks {
					tell(c)
				}
				return tt.err
			}
			if got := w.run(t, "selftest"); got != tt.exit || w.out.String() != tt.out || w.err.String() != tt.says {
				t.Errorf("exit %d\n%s%s", got, &w.out, &w.err)
			}
		})
	}
}

// TestSelftestBesideService: nothing is changed while a service runs, whichever its state
// directory is.
func TestSelftestBesideService(t *testing.T) {
	w := newWorld(t, newFakeService(nil))
	w.env.selftest = func(context.Context, func(platform.Check)) error {
		t.Error("the network was changed")
		return nil
	}
	w.expect(t, 7, "", "wayfarer: the service runs, and controls this computer's network; stop it first\n", "selftest")
}

package main

import (
	"testing"
	"time"

	"wayfarer/app"
)

func TestLogs(t *testing.T) {
	svc := newFakeService(nil)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	svc.log = []app.LogRecord{
		{Time: at, Level: "info", Message: "the service begins"},
		{Time: at, Level: "warn", Connection: "c1", Owner: "ada", Message: "from the \x1b[31mgateway", Attributes: map[string]string{
			"step": "sign-in", "err": "no answer", "empty": "", "banner": "a\n2026-01-02T03:04:05Z error forged",
		}},
	}
	w := newWorld(t, svc)
	if got := w.run(t, "logs"); got != 0 {
		t.Errorf("exit %d: %s", got, &w.err)
	}
	const want = "2026-01-02T03:04:05Z info  -   the service begins\n" +
		`2026-01-02T03:04:05Z warn  c1  from the [31mgateway banner="a\n2026-01-02T03:04:05Z error forged" empty="" err="no answer" step=sign-in` + "\n"
	if w.out.String() != want {
		t.Errorf("got\n%swant\n%s", &w.out, want)
	}
	if got := w.run(t, "logs", "--follow", "--level", "Debug"); got != 0 {
		t.Errorf("exit %d: %s", got, &w.err)
	}
	if len(svc.asked) != 2 || svc.asked[0] != "logs info false" || svc.asked[1] != "logs debug true" {
		t.Errorf("asked %q", svc.asked)
	}
	w = newWorld(t, svc)
	if got := w.run(t, "logs", "--level", "loud"); got != 2 || w.err.String() != "wayfarer: unknown level \"loud\"; one of error, warn, info, debug, trace\n" {
		t.Errorf("exit %d: %s", got, &w.err)
	}
}

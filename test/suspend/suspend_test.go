//go:build suspend && linux

package suspend

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		guest()
	}
	os.Exit(m.Run())
}

// steps are what the machine does, one after the other, and what it is then told within
// quietTime: once of each sleep, and of nothing else.
var steps = []struct {
	name  string
	do    func() error
	sleep bool
	told  string
}{
	{"nothing", func() error { return nil }, false, ""},
	{"the clock is set", func() error { return setClock(oneHour) }, false, ""},
	{"and back", func() error { return setClock(-oneHour) }, false, ""},
	{"s2idle", func() error { return suspend("freeze") }, true, "wake"},
	{"s2idle again", func() error { return suspend("freeze") }, true, "wake"},
	{"S3", func() error { return suspend("mem") }, true, "wake"},
	{"the clock is set after it", func() error { return setClock(oneHour) }, false, ""},
	{"S3 again", func() error { return suspend("mem") }, true, "wake"},
	{"nothing more", func() error { return nil }, false, ""},
}

// TestSuspend: the watch tells of each sleep once, and of none when the clock is set.
func TestSuspend(t *testing.T) {
	m := start(t)
	t.Log(m.await("kernel"))
	frozen := m.await("frozen")
	for _, step := range steps {
		var held <-chan error
		if strings.HasPrefix(step.name, "s2idle") {
			held = m.holdAt(frozen)
		}
		m.send(step.name)
		var slept int
		answer := m.await(step.name)
		if held != nil {
			m.must(<-held)
		}
		told, _, _ := strings.Cut(answer, ";")
		if _, err := fmt.Sscanf(answer[len(told):], "; slept %d s", &slept); err != nil {
			t.Fatalf("%s: %s", step.name, answer)
		}
		t.Logf("%s: told [%s]", step.name, answer)
		if told != step.told || step.sleep != (slept >= 2) || slept > 2*int(sleepTime.Seconds()) {
			t.Errorf("%s: told [%s]", step.name, answer)
		}
	}
}

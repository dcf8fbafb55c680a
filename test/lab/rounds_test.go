//go:build lab && linux

package lab

import (
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wayfarer/app"
)

// round is what a gateway asks for beside login and password, and the answer.
type round struct {
	kind   app.PromptKind
	text   string // of the gateway
	answer string
	secret bool
	attr   int // of XAUTH (draft-beaulieu-ike-xauth-02 §6)
}

const (
	xauthPasscode = 16523
	xauthNextPIN  = 16528
	xauthAnswer   = 16529
)

// What the gateway's RADIUS server wants, joined, behind the password: etc/radiusd.conf.
var (
	passcodeRounds = []round{{app.PromptOTP, "Code of the token", "271828", true, xauthPasscode}}
	allRounds      = append(slices.Clone(passcodeRounds),
		round{app.PromptNextPIN, "Choose a new PIN", "4711", true, xauthNextPIN},
		round{app.PromptChallenge, "Name of the first cat", "Dinah", false, xauthAnswer})
)

func radiusProfile(t *testing.T, name string) profile {
	t.Helper()
	p := loadProfile(t, name)
	if p["RADIUS"] != "yes" {
		t.Skip("no freeradius on this machine")
	}
	return p
}

// terminal is wayfarer connect on a terminal of its own.
type terminal struct {
	keys   io.WriteCloser
	screen strings.Builder
	cmd    *exec.Cmd
}

// onTerminal starts connecting; script(1) is the terminal and exits as the program does.
func (h *host) onTerminal(t *testing.T, p profile) *terminal {
	t.Helper()
	command := strings.Join([]string{
		filepath.Join(binDir, "wayfarer"), "connect", p["WAYFARER"],
		"--login", p["USER"], "--password-file", file(t, "password", p["PASSWORD"]),
	}, " ")
	term := &terminal{cmd: exec.Command(script, "exec", h.ns, "script", "-qec", command, "/dev/null")}
	term.cmd.Stdout, term.cmd.Stderr = &term.screen, &term.screen
	var err error
	if term.keys, err = term.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return term
}

// end waits for the program and returns its exit code.
func (term *terminal) end() int {
	stuck := time.AfterFunc(time.Minute, func() { term.cmd.Process.Kill() })
	term.cmd.Wait()
	stuck.Stop()
	term.keys.Close()
	return term.cmd.ProcessState.ExitCode()
}

// asked waits for the prompt of a round.
func (h *host) asked(t *testing.T, r round) {
	t.Helper()
	var p *app.Prompt
	eventually(t, 10*time.Second, r.text, func() bool {
		c := h.status(t).Connections
		if len(c) != 1 {
			return false
		}
		p = c[0].Prompt
		return c[0].State == app.StateActionNeeded && p != nil && p.Text == r.text
	})
	if p.Kind != r.kind || p.Secret != r.secret {
		t.Errorf("prompt %+v, want kind %s, secret %v", p, r.kind, r.secret)
	}
}

// A gateway asks in several rounds for what its RADIUS server wants to know: the
// password is not asked for, everything else is, in the gateway's words, on the
// terminal or through "wayfarer answer", and each answer is sent once.
func TestXAUTHRounds(t *testing.T) {
	for _, tc := range []struct {
		profile string
		rounds  []round
		typed   bool // on the terminal of wayfarer connect
	}{
		{"passcode", passcodeRounds, true},
		{"passcode", passcodeRounds, false},
		{"rounds", allRounds, true},
		{"rounds", allRounds, false},
	} {
		name := tc.profile + "/answer"
		if tc.typed {
			name = tc.profile + "/terminal"
		}
		t.Run(name, func(t *testing.T) {
			h := start(t, "rw", "trace")
			p := radiusProfile(t, tc.profile)
			before := network(t, h.ns)
			var screen string
			dump := capture(t, func() {
				screen = h.answerRounds(t, p, tc.rounds, tc.typed)
				probe(t, h.ns, p)
				h.down(t)
			})
			restored(t, h.ns, before)
			checkRounds(t, messages(t, dump, p["GATEWAY"]), tc.rounds)
			for _, r := range tc.rounds {
				if tc.typed && !strings.Contains(screen, r.text) {
					t.Errorf("the terminal does not show %q:\n%s", r.text, screen)
				}
				for form, s := range disguises(r.answer) {
					if r.secret && len(r.answer) > 4 && strings.Contains(h.log(), s) {
						t.Errorf("the log shows the answer to %q, in the form %s", r.text, form)
					}
				}
			}
		})
	}
}

// answerRounds connects and returns what stood on the terminal.
func (h *host) answerRounds(t *testing.T, p profile, rounds []round, typed bool) string {
	t.Helper()
	term := h.onTerminal(t, p)
	for _, r := range rounds {
		h.asked(t, r)
		if typed {
			io.WriteString(term.keys, r.answer+"\n")
			continue
		}
		if got := execute(t, r.answer+"\n", "exec", h.ns, filepath.Join(binDir, "wayfarer"), "answer"); got.exit != 0 {
			t.Fatalf("answer: exit %d\n%s", got.exit, got.stderr)
		}
	}
	if exit := term.end(); exit != 0 {
		t.Fatalf("connect: exit %d\n%s", exit, term.screen.String())
	}
	h.connection(t)
	return term.screen.String()
}

// checkRounds: the gateway has asked in so many rounds, and each was answered once and
// with what it asked for.
func checkRounds(t *testing.T, all []message, rounds []round) {
	t.Helper()
	wanted := []int{xauthPassword}
	for _, r := range rounds {
		wanted = append(wanted, r.attr)
	}
	var answered []int
	for _, m := range all {
		if !m.fromClient || m.cfg != cfgReply {
			continue
		}
		for _, a := range m.attrs {
			if slices.Contains(wanted, a) {
				answered = append(answered, a)
			}
		}
	}
	if !slices.Equal(answered, wanted) {
		t.Errorf("answered attributes %v, want %v", answered, wanted)
	}
	if n := xauthReplies(all); n != len(wanted) {
		t.Errorf("%d XAUTH replies, want %d", n, len(wanted))
	}
}

// Wrong answers and none.
func TestXAUTHRoundsRefused(t *testing.T) {
	t.Run("wrong code", func(t *testing.T) {
		h := start(t, "rw", "debug")
		p := radiusProfile(t, "passcode")
		before := network(t, h.ns)
		term := h.onTerminal(t, p)
		h.asked(t, passcodeRounds[0])
		io.WriteString(term.keys, "161803\n")
		if exit := term.end(); exit != app.CodeSignInRefused.Exit() {
			t.Errorf("exit %d\n%s", exit, term.screen.String())
		}
		restored(t, h.ns, before)
	})
	t.Run("cancelled", func(t *testing.T) {
		h := start(t, "rw", "debug")
		p := radiusProfile(t, "passcode")
		before := network(t, h.ns)
		term := h.onTerminal(t, p)
		h.asked(t, passcodeRounds[0])
		io.WriteString(term.keys, "\x03") // Ctrl+C
		if exit := term.end(); exit != app.CodeCancelled.Exit() {
			t.Errorf("exit %d\n%s", exit, term.screen.String())
		}
		restored(t, h.ns, before)
	})
	t.Run("nobody there", func(t *testing.T) {
		h := start(t, "rw", "debug")
		p := radiusProfile(t, "passcode")
		before := network(t, h.ns)
		refusal(t, h.connect(t, p, p["USER"], p["PASSWORD"], "--json"), app.CodeCancelled, app.StepSignIn)
		restored(t, h.ns, before)
	})
}

package gui

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
)

// story collects what a notifier says while a story goes on in virtual time.
type story struct {
	*testing.T
	notifier notifier
	status   *app.Status
	inFront  bool
	wait     time.Duration
	heard    []string
}

func newStory(t *testing.T, connections ...app.Connection) *story {
	s := &story{T: t, status: &app.Status{}}
	s.now(connections...)
	return s
}

// now is what the service shows from now on.
func (s *story) now(connections ...app.Connection) {
	s.status = &app.Status{Connections: connections}
	s.look()
}

// gone: from now on the service cannot be reached.
func (s *story) gone() {
	s.status = nil
	s.look()
}

func (s *story) look() {
	var notices []notice
	notices, s.wait = s.notifier.update(s.status, time.Now(), s.inFront)
	for _, n := range notices {
		if n.text != "" {
			n.title += ": " + n.text
		}
		s.heard = append(s.heard, n.title)
	}
}

// after lets time pass, in which the notifier is called when it asked for it.
func (s *story) after(d time.Duration) {
	for s.wait > 0 && s.wait <= d {
		d -= s.wait
		time.Sleep(s.wait)
		s.look()
	}
	time.Sleep(d)
	if s.wait > 0 {
		s.wait -= d
	}
}

// says checks what was said since the last call.
func (s *story) says(want ...string) {
	s.Helper()
	if !slices.Equal(s.heard, want) {
		s.Errorf("heard %q, want %q", s.heard, want)
	}
	s.heard = nil
}

func inState(id, profile string, state app.State) app.Connection {
	return app.Connection{ID: id, Profile: profile, State: state}
}

func office(state app.State) app.Connection { return inState("c1", "office", state) }

func asking(prompt string, kind app.PromptKind) app.Connection {
	c := office(app.StateActionNeeded)
	c.Prompt = &app.Prompt{ID: prompt, Kind: kind, Text: "$(calc)"}
	return c
}

func TestNotices(t *testing.T) {
	connected := office(app.StateConnected)
	connected.Addresses = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}
	const (
		up    = "Connected to office: Your address is 10.1.2.3."
		again = "Connected to office again"
		down  = "Connection to office lost: Wayfarer is connecting again."
	)
	for _, tt := range []struct {
		name string
		tell func(s *story)
	}{
		{"connect", func(s *story) {
			s.now(office(app.StateConnecting))
			s.says()
			s.now(connected)
			s.says(up)
			s.now(connected)
			s.after(time.Minute)
			s.says()
		}},
		{"loss and return", func(s *story) {
			s.now(connected)
			s.says(up)
			s.now(office(app.StateReconnecting))
			s.after(settleTime - 1)
			s.says()
			s.after(1)
			s.says(down)
			for range 20 { // retries
				s.now(office(app.StateReconnecting))
				s.after(10 * time.Second)
			}
			s.says()
			s.now(connected)
			s.after(settleTime)
			s.says(again)
		}},
		{"flaps", func(s *story) {
			s.now(connected)
			s.says(up)
			for range 20 {
				s.now(office(app.StateReconnecting))
				s.after(settleTime - 1)
				s.now(connected)
				s.after(settleTime - 1)
			}
			s.says()
		}},
		{"up too shortly to be seen", func(s *story) {
			s.now(office(app.StateConnecting))
			s.now(office(app.StateReconnecting))
			s.says()
			s.after(settleTime)
			s.says(down)
		}},
		{"a short return", func(s *story) {
			s.now(connected)
			s.now(office(app.StateReconnecting))
			s.after(settleTime)
			s.says(up, down)
			s.now(connected)
			s.after(time.Second)
			s.now(office(app.StateReconnecting))
			s.after(time.Minute)
			s.says()
		}},
		{"blocked", func(s *story) {
			s.now(connected)
			s.now(office(app.StateReconnecting))
			s.after(time.Second)
			s.now(office(app.StateBlocked))
			s.after(settleTime)
			s.says(up, "Connection to office lost: Traffic is blocked until the connection is back.")
		}},
		{"lost for good", func(s *story) {
			s.now(connected)
			s.now(office(app.StateFailed))
			s.says(up, "Connection to office lost: Open Wayfarer to see why.")
		}},
		{"could not connect", func(s *story) {
			s.now(office(app.StateConnecting))
			s.now(office(app.StateFailed))
			s.now(office(app.StateFailed))
			s.says("Could not connect to office: Open Wayfarer to see why.")
		}},
		{"ended by the user", func(s *story) {
			s.now(connected)
			s.now(office(app.StateDisconnecting))
			s.now()
			s.after(time.Minute)
			s.says(up)
		}},
		{"ended while away", func(s *story) {
			s.now(connected)
			s.now() // disconnecting was too short to be seen
			s.says(up)
		}},
		{"prompts", func(s *story) {
			s.now(asking("p1", app.PromptPassword))
			s.now(asking("p1", app.PromptPassword))
			s.says("office waits for your answer: It asks for your password.")
			s.now(asking("p2", app.PromptOTP))
			s.says("office waits for your answer: It asks for a one-time code.")
			s.now(connected)
			s.says(up)
		}},
		{"prompts of all kinds", func(s *story) {
			for _, kind := range []app.PromptKind{app.PromptTrust, app.PromptBanner, app.PromptChallenge} {
				s.now(asking(string(kind), kind))
			}
			s.says("office waits for your answer: The gateway is not known yet.",
				"office waits for your answer: There is a message to read.",
				"office waits for your answer: Open Wayfarer to answer.")
		}},
		{"window in front", func(s *story) {
			s.inFront = true
			s.now(asking("p1", app.PromptTrust))
			s.now(connected)
			s.inFront = false
			s.now(connected)
			s.after(time.Minute)
			s.says() // it was seen
			s.now(office(app.StateReconnecting))
			s.after(settleTime)
			s.says(down)
		}},
		{"service restarted", func(s *story) {
			s.now(connected)
			s.gone()
			s.after(settleTime - 1)
			s.says(up)
			s.now()
			s.says("Connection to office lost: The Wayfarer service was restarted.")
		}},
		{"service stopped", func(s *story) {
			s.now(connected)
			s.gone()
			s.after(settleTime)
			s.says(up, "Connection to office lost: The Wayfarer service has stopped.")
			s.gone()
			s.now()
			s.says()
		}},
		{"service restarted with another", func(s *story) {
			s.now(connected)
			s.gone()
			s.now(inState("c1", "home", app.StateConnecting))
			s.says(up, "Connection to office lost: The Wayfarer service was restarted.")
		}},
		{"service out of sight", func(s *story) {
			s.now(connected)
			s.gone()
			s.after(time.Second)
			s.now(connected)
			s.after(time.Minute)
			s.says(up)
		}},
		{"another user's", func(s *story) {
			s.now(app.Connection{State: app.StateConnected, Owner: "eve"})
			s.says()
		}},
		{"two", func(s *story) {
			s.now(connected, inState("c2", "home", app.StateConnecting))
			s.now(connected, inState("c2", "home", app.StateConnected))
			s.says(up, "Connected to home")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tt.tell(newStory(t)) })
		})
	}
}

// What had happened before the window was started is no news.
func TestNoticesBeginWithTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, office(app.StateConnected), inState("c2", "home", app.StateFailed))
		s.after(time.Minute)
		s.says()
		s.now(office(app.StateReconnecting))
		s.after(settleTime)
		s.says("Connection to office lost: Wayfarer is connecting again.")
	})
	synctest.Test(t, func(t *testing.T) {
		s := &story{T: t}
		s.gone()
		s.after(time.Minute)
		s.now(office(app.StateConnected))
		s.says()
	})
}

// Names go to shells and markup.
func TestNoticeNames(t *testing.T) {
	for name, want := range map[string]string{
		`a$(calc)"b` + "`c": "a  calc  b c",
		"Büro 2.1_é-x":      "Büro 2.1_é-x",
		"<b>x</b>&amp;":     " b x  b  amp ",
		"“x”‘y’\\;|":        " x  y    ",
		"x\u202e\n$":        "x  ",
	} {
		c := app.Connection{Profile: name}
		if got := noticeName(&c); got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
	c := app.Connection{Gateway: &app.Gateway{Host: "[2001:db8::1]:500"}}
	if got := noticeName(&c); got != " 2001:db8::1 :500" {
		t.Errorf("got %q", got)
	}
}

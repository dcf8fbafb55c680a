package gui

import (
	"strings"
	"time"
	"unicode"

	"fyne.io/fyne/v2/lang"

	"wayfarer/app"
)

// settleTime is how long a loss, or the end of one, must last before it is told: most
// are over before anybody has noticed.
const settleTime = 5 * time.Second

// notice is a notification of the system's.
type notice struct{ title, text string }

// notifier decides what is worth a notification: that a connection was made, that it was
// lost, that somebody is needed. What happens while the window is in front is seen
// there, and counts as told; so does what was there before the notifier.
//
// For each connection it knows what was told last:
//
//	(nothing) -> up, at once
//	up -> down, and down -> up, after settleTime
//	any -> failed, asked: at once
type notifier struct {
	known   map[string]*told // by noticeKey
	started bool
	gone    bool // the service was, when last looked
}

// told is what the user knows of a connection.
type told struct {
	name   string
	state  toldState
	seen   toldState // the newest that was seen
	since  time.Time // of seen
	prompt string    // ID of the last prompt that was told
}

type toldState int

const (
	toldNothing toldState = iota // on its way up for the first time, or on its way down
	toldUp
	toldDown
	toldFailed
)

// toldStateOf is what a state means to somebody who does not look; false: nothing new.
func toldStateOf(s app.State) (toldState, bool) {
	switch s {
	case app.StateConnected:
		return toldUp, true
	case app.StateReconnecting, app.StateBlocked:
		return toldDown, true
	case app.StateFailed:
		return toldFailed, true
	case app.StateDisconnecting, app.StateDisconnected:
		return toldNothing, true
	}
	return toldNothing, false
}

// update looks at a status, nil while the service cannot be reached, and returns what is
// to be told now. If wait is not zero it is to be called again after that time, also if
// nothing changes.
func (n *notifier) update(status *app.Status, now time.Time, inFront bool) (notices []notice, wait time.Duration) {
	if n.known == nil {
		n.known = map[string]*told{}
	}
	if status == nil {
		notices, wait = n.serviceGone(now)
	} else {
		notices, wait = n.look(status, now)
	}
	if inFront {
		notices = nil
	}
	return notices, wait
}

// serviceGone: connections end with their service, but it may be back in a moment.
func (n *notifier) serviceGone(now time.Time) (notices []notice, wait time.Duration) {
	n.gone = n.started
	for _, t := range n.known {
		if t.seen == toldNothing || t.seen == toldFailed {
			continue
		}
		t.see(toldDown, now)
		if left := t.settles(now); left > 0 {
			wait = sooner(wait, left)
		} else if t.state != toldDown {
			t.state = toldDown
			notices = append(notices, lost(t.name, lang.L("The Wayfarer service has stopped.")))
		}
	}
	return notices, wait
}

func (n *notifier) look(status *app.Status, now time.Time) (notices []notice, wait time.Duration) {
	present := map[string]bool{}
	for i := range status.Connections {
		c := &status.Connections[i]
		if c.ID == "" {
			continue // another user's
		}
		key := noticeKey(c)
		present[key] = true
		t, ok := n.known[key]
		if !ok {
			t = n.meet(c, now)
		}
		what, left := t.look(c, now)
		notices = append(notices, what...)
		wait = sooner(wait, left)
	}
	for key, t := range n.known {
		if present[key] {
			continue
		}
		// It was ended, unless its service was: that the user may not know yet.
		if n.gone && t.state == toldUp {
			notices = append(notices, lost(t.name, lang.L("The Wayfarer service was restarted.")))
		}
		delete(n.known, key)
	}
	n.started, n.gone = true, false
	return notices, wait
}

// meet begins to follow a connection. What had happened before the notifier looked for
// the first time is no news.
func (n *notifier) meet(c *app.Connection, now time.Time) *told {
	t := &told{name: noticeName(c), since: now}
	if !n.started {
		t.state, _ = toldStateOf(c.State)
		t.seen = t.state
	}
	n.known[noticeKey(c)] = t
	return t
}

// noticeKey tells connections apart also when the service was restarted, and counts
// them from one again.
func noticeKey(c *app.Connection) string { return c.ID + " " + c.Profile }

// look compares a connection with what was told of it.
func (t *told) look(c *app.Connection, now time.Time) ([]notice, time.Duration) {
	if c.State == app.StateActionNeeded && c.Prompt != nil && c.Prompt.ID != t.prompt {
		t.prompt = c.Prompt.ID
		return []notice{asks(t.name, c.Prompt.Kind)}, 0
	}
	state, known := toldStateOf(c.State)
	if !known {
		return nil, 0
	}
	t.see(state, now)
	if t.state == t.seen {
		return nil, 0
	}
	if t.seen == toldNothing {
		t.state = toldNothing // the user's own wish
		return nil, 0
	}
	before := t.state
	if before == toldNothing && t.seen == toldDown {
		before = toldUp // it was up, too shortly to be seen
	}
	if left := t.settles(now); left > 0 && before != toldNothing && t.seen != toldFailed {
		return nil, left
	}
	t.state = t.seen
	return []notice{t.tell(before, c)}, 0
}

// see notes a state and when it began.
func (t *told) see(state toldState, now time.Time) {
	if t.seen != state {
		t.seen, t.since = state, now
	}
}

// settles is how long the newest state still has to last.
func (t *told) settles(now time.Time) time.Duration {
	return settleTime - now.Sub(t.since)
}

// tell is the notice of a new state.
func (t *told) tell(before toldState, c *app.Connection) notice {
	data := map[string]any{"Name": t.name}
	switch {
	case t.state == toldUp && before == toldDown:
		return notice{lang.L("Connected to {{.Name}} again", data), ""}
	case t.state == toldUp:
		what := notice{lang.L("Connected to {{.Name}}", data), ""}
		if len(c.Addresses) > 0 {
			what.text = lang.L("Your address is {{.Address}}.", map[string]any{"Address": c.Addresses[0].Addr().String()})
		}
		return what
	case t.state == toldDown && c.State == app.StateBlocked:
		return lost(t.name, lang.L("Traffic is blocked until the connection is back."))
	case t.state == toldDown:
		return lost(t.name, lang.L("Wayfarer is connecting again."))
	case before == toldNothing:
		return failed(t.name)
	}
	return lost(t.name, lang.L("Open Wayfarer to see why."))
}

func failed(name string) notice {
	return notice{lang.L("Could not connect to {{.Name}}", map[string]any{"Name": name}), lang.L("Open Wayfarer to see why.")}
}

func lost(name, text string) notice {
	return notice{lang.L("Connection to {{.Name}} lost", map[string]any{"Name": name}), text}
}

// asks is the notice of a prompt. What the gateway says stays in the window.
func asks(name string, kind app.PromptKind) notice {
	title := lang.L("{{.Name}} waits for your answer", map[string]any{"Name": name})
	switch kind {
	case app.PromptPassword:
		return notice{title, lang.L("It asks for your password.")}
	case app.PromptOTP:
		return notice{title, lang.L("It asks for a one-time code.")}
	case app.PromptTrust:
		return notice{title, lang.L("The gateway is not known yet.")}
	case app.PromptBanner:
		return notice{title, lang.L("There is a message to read.")}
	}
	return notice{title, lang.L("Open Wayfarer to answer.")}
}

// noticeName is a connection's name in a notification.
func noticeName(c *app.Connection) string {
	name := c.Profile
	if name == "" && c.Gateway != nil {
		name = c.Gateway.Host
	}
	return noticeText(name)
}

// noticeText is a name of nothing but letters, digits and a few signs: it goes to
// programs of the system's that take some characters for markup, or, as the PowerShell by
// which Fyne notifies on Windows, for commands.
func noticeText(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || strings.ContainsRune(" .:-_@+", r) {
			return r
		}
		return ' '
	}, plainLine(name))
}

// sooner is the shorter of two times of which zero is none.
func sooner(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

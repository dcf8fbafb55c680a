package platform

import (
	"context"
	"encoding/xml"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// authority is an org.freedesktop.PolicyKit1.Authority with the signature that polkit's
// reference manual gives, but for its answer.
type authority struct {
	answer func() (any, *dbus.Error)
	mu     sync.Mutex
	asked  []string
}

// CheckAuthorization is of org.freedesktop.PolicyKit1.Authority.
func (a *authority) CheckAuthorization(subject polkitSubject, action string, details map[string]string, flags uint32, cancellation string) (any, *dbus.Error) {
	var known []string
	for _, key := range slices.Sorted(maps.Keys(subject.Details)) {
		value := subject.Details[key]
		known = append(known, fmt.Sprintf("%s=%v:%v", key, value.Value(), value.Signature()))
	}
	a.mu.Lock()
	a.asked = append(a.asked, fmt.Sprintf("%s %s %s %v %d %q", subject.Kind, strings.Join(known, " "), action, details, flags, cancellation))
	a.mu.Unlock()
	return a.answer()
}

// authorityOn puts an authority on a message bus.
func authorityOn(t *testing.T, address string, answer func() (any, *dbus.Error)) *authority {
	t.Helper()
	conn, err := dbus.Connect(address)
	run(t, "connect", err)
	t.Cleanup(func() { conn.Close() })
	a := &authority{answer: answer}
	run(t, "export", conn.Export(a, polkitPath, "org.freedesktop.PolicyKit1.Authority"))
	_, err = conn.RequestName(polkitName, dbus.NameFlagDoNotQueue)
	run(t, "name", err)
	return a
}

// TestAuthorize is the whole way to polkit, over a real bus.
func TestAuthorize(t *testing.T) {
	answers := func(answer any) func() (any, *dbus.Error) {
		return func() (any, *dbus.Error) { return answer, nil }
	}
	for _, tt := range []struct {
		name   string
		answer func() (any, *dbus.Error) // nil: polkit is not there
		want   string                    // of the error; empty: may
	}{
		{"active", answers(polkitResult{Authorized: true}), ""},
		{"with details", answers(polkitResult{true, false, map[string]string{"polkit.retains_authorization_after_challenge": "1"}}), ""},
		{"not active", answers(polkitResult{}), "not in the active local session"},
		{"with a password", answers(polkitResult{Challenge: true}), "not in the active local session"},
		{"absent", nil, "org.freedesktop.PolicyKit1"},
		{"unknown action", func() (any, *dbus.Error) {
			return nil, dbus.NewError("org.freedesktop.PolicyKit1.Error.Failed", []any{"Action io.github.wayfarer.connect is not registered"})
		}, "is not registered"},
		{"a bare yes", answers(true), "its answer: "},
		{"words", answers("yes"), "its answer: "},
		{"too little", answers(struct{ A bool }{true}), "its answer: "},
		{"numbers", answers(struct {
			A, B uint32
			C    map[string]string
		}{1, 1, nil}), "its answer: "},
		{"hanging", func() (any, *dbus.Error) {
			<-t.Context().Done()
			return polkitResult{Authorized: true}, nil
		}, context.DeadlineExceeded.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := privateBus(t)
			a := &authority{}
			if tt.answer != nil {
				a = authorityOn(t, address, tt.answer)
			}
			err := systemBus{address}.authorize(t.Context(), 4711, 1000)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			want := []string{`unix-process pid=4711:u start-time=0:t uid=1000:i io.github.wayfarer.connect map[] 0 ""`}
			a.mu.Lock()
			defer a.mu.Unlock()
			if tt.answer != nil && !slices.Equal(a.asked, want) {
				t.Errorf("asked %q", a.asked)
			}
		})
	}
}

// TestAuthorizeWithoutBus: a bus that is not there, or does not answer, is a no.
func TestAuthorizeWithoutBus(t *testing.T) {
	t.Parallel()
	if (systemBus{"unix:path=/nowhere"}).authorize(t.Context(), 4711, 1000) == nil {
		t.Error("yes without a bus")
	}
	path := filepath.Join(t.TempDir(), "bus")
	silent, err := net.Listen("unix", path)
	run(t, "listen", err)
	defer silent.Close()
	if (systemBus{"unix:path=" + path}).authorize(t.Context(), 4711, 1000) == nil {
		t.Error("yes from a silent bus")
	}
	if err := (systemBus{"unix:path=/nowhere"}).authorize(t.Context(), 0, 1000); err == nil || !strings.Contains(err.Error(), "no process 0") {
		t.Errorf("a process outside of the namespace: %v", err)
	}
}

// TestPolicyFacts: the shipped policy is about the action that is asked for, says yes
// to the active session only, and lets the service's user ask.
func TestPolicyFacts(t *testing.T) {
	content, err := os.ReadFile("../installer/linux/io.github.wayfarer.policy")
	run(t, "policy", err)
	type defaults struct {
		Any      string `xml:"allow_any"`
		Inactive string `xml:"allow_inactive"`
		Active   string `xml:"allow_active"`
	}
	type annotation struct {
		Key   string `xml:"key,attr"`
		Value string `xml:",chardata"`
	}
	type action struct {
		ID          string       `xml:"id,attr"`
		Description string       `xml:"description"`
		Message     string       `xml:"message"`
		Defaults    defaults     `xml:"defaults"`
		Annotations []annotation `xml:"annotate"`
	}
	var policy struct {
		XMLName xml.Name `xml:"policyconfig"`
		Actions []action `xml:"action"`
	}
	run(t, "parse", xml.Unmarshal(content, &policy))
	if len(policy.Actions) != 1 {
		t.Fatalf("%d actions", len(policy.Actions))
	}
	a := policy.Actions[0]
	if a.ID != connectAction || a.Description == "" || a.Message == "" {
		t.Errorf("action %+v", a)
	}
	if want := (defaults{"no", "no", "yes"}); a.Defaults != want {
		t.Errorf("defaults %+v, want %+v", a.Defaults, want)
	}
	if want := []annotation{{"org.freedesktop.policykit.owner", "unix-user:wayfarer"}}; !slices.Equal(a.Annotations, want) {
		t.Errorf("annotations %+v, want %+v", a.Annotations, want)
	}
}

package main

import (
	"slices"
	"strings"
	"testing"

	"wayfarer/app"
)

// complete is what the shell would offer.
func complete(t *testing.T, w *world, args ...string) []string {
	t.Helper()
	if got := w.run(t, append([]string{"__completeNoDesc"}, args...)...); got != 0 {
		t.Fatalf("%s: exit %d", args, got)
	}
	lines := strings.Split(strings.TrimSpace(w.out.String()), "\n")
	return lines[:len(lines)-1] // without the directive
}

func TestCompletion(t *testing.T) {
	svc := newFakeService(nil)
	svc.conns = []app.Connection{
		{ID: "c1", Profile: "office"},
		{ID: "c2", Gateway: &app.Gateway{Host: "vpn.example.com"}, Prompt: &app.Prompt{ID: "p1"}},
		{State: app.StateConnected, Owner: "bob"},
	}
	w := newWorld(t, svc)
	saveProfile(t, "secret")
	for _, tt := range []struct{ typed, want string }{
		{"con|", "connect"},
		{"st|", "status"},
		{"connect |", "office"},
		{"connect office |", ""},
		{"connect --auth |", "hybrid xauth-psk xauth-rsa psk rsa"},
		{"connect --exchange |", "auto main aggressive"},
		{"connect --allow-weak 3|", "3des"},
		{"connect --allow-weak 3des,md5,exp|", "3des,md5,expired"},
		{"connect --ike 3des-md5|", "3des-md5-modp1024"},
		{"connect --esp aes256gcm16,aes256g|", ""},
		{"connect --set ipc|", "ipcomp="},
		{"connect --no-r|", "--no-reconnect"},
		{"disconnect |", "office vpn.example.com"},
		{"answer |", "c2"},
		{"completion |", "bash fish powershell zsh"},
	} {
		typed := strings.Split(strings.TrimSuffix(tt.typed, "|"), " ")
		if got := complete(t, w, typed...); !slices.Equal(got, strings.Fields(tt.want)) && strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %q, want %q", tt.typed, got, tt.want)
		}
	}
	// Without service and keyring there is nothing to offer, and no noise.
	svc.gone = app.NewFailure(app.CodeNoService, "", "the service does not run", "")
	if got := complete(t, w, "disconnect", ""); len(got) > 0 {
		t.Errorf("without a service: %q", got)
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		w := newWorld(t, newFakeService(nil))
		if got := w.run(t, "completion", shell); got != 0 || !strings.Contains(w.out.String(), "__complete") {
			t.Errorf("%s: exit %d, %d bytes", shell, got, w.out.Len())
		}
	}
}

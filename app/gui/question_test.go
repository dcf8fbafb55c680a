package gui

import (
	"strings"
	"testing"

	"wayfarer/app"
)

// asksTrust is a connection that asks about a certificate. The service numbers prompts
// from one in each connection.
func asksTrust(id, host, fingerprint string) app.Connection {
	return connection(app.StateActionNeeded, func(c *app.Connection) {
		c.ID = id
		c.Gateway.Host = host
		c.Prompt = &app.Prompt{ID: "p1", Kind: app.PromptTrust, Certificate: &app.Certificate{Subject: "CN=" + host, SHA256: fingerprint}}
	})
}

// TestTrustOfAnother: the certificate that is shown is that of the question, though two
// questions have one number, also when the service was restarted.
func TestTrustOfAnother(t *testing.T) {
	one, two := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	inWorld(t, withOffice, func(w *world) {
		for _, c := range []struct {
			connection  app.Connection
			fingerprint string
		}{
			{asksTrust("c1", "one.example.com", one), one},
			{asksTrust("c2", "two.example.com", two), two},
			{asksTrust("c2", "one.example.com", one), one},
		} {
			w.service.set(c.connection)
			w.want("trust")
			shown := texts(w.home.trust.box)
			for _, want := range []string{c.connection.Gateway.Host, twoLines(inFours(c.fingerprint))} {
				if !strings.Contains(shown, want) {
					t.Errorf("%s is not shown:\n%s", want, shown)
				}
			}
		}
	})
}

// TestPromptOfAnother: what was typed for one connection is not there for another.
func TestPromptOfAnother(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		password := app.Prompt{ID: "p1", Kind: app.PromptPassword, Secret: true}
		w.service.set(promptedBy(password))
		w.want("prompt")
		w.home.prompt.secret.SetText("lovelace")
		other := promptedBy(password)
		other.ID = "c99"
		w.service.set(other)
		w.want("prompt")
		if got := w.home.prompt.secret.Text; got != "" {
			t.Errorf("%q is still there", got)
		}
	})
}

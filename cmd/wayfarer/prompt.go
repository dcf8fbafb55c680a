package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"wayfarer/app"
	"wayfarer/app/control"
)

// askPrompt puts a connection's prompt to the person at the terminal. Without an
// answer the error says why; io.EOF: the person refuses to give one. The caller
// zeroises the answer's text.
func (e *env) askPrompt(ctx context.Context, c *app.Connection) (*control.Answer, error) {
	p := c.Prompt
	answer := &control.Answer{PromptID: p.ID}
	switch p.Kind {
	case app.PromptTrust:
		showCertificate(e.err, c)
		line, err := e.ask.line(ctx, "Trust this gateway? [y/N] ")
		answer.Accept = isYes(line)
		return answer, err
	case app.PromptBanner:
		fmt.Fprintln(e.err, plain(p.Text))
		_, err := e.ask.line(ctx, "Press Enter to go on. ")
		answer.Accept = true
		return answer, err
	}
	if p.Secret {
		text, err := e.ask.secret(ctx, promptLine(p))
		answer.Text = text
		return answer, err
	}
	line, err := e.ask.line(ctx, promptLine(p))
	answer.Text = []byte(line)
	return answer, err
}

// refuse is the answer of a person who gives none.
func refuse(p *app.Prompt) *control.Answer {
	// Distrust is an answer of its own, with its own exit code.
	return &control.Answer{PromptID: p.ID, Cancel: p.Kind != app.PromptTrust}
}

// promptNames are what is asked for when the gateway does not say.
var promptNames = map[app.PromptKind]string{
	app.PromptPassword:   "Password",
	app.PromptOTP:        "One-time password",
	app.PromptChallenge:  "Answer",
	app.PromptNextPIN:    "New PIN",
	app.PromptPassphrase: "Passphrase",
}

// promptLine is the gateway's question, on as many lines as it has, ready for the
// answer behind it.
func promptLine(p *app.Prompt) string {
	text := strings.TrimSpace(plain(p.Text))
	if text == "" {
		text = promptNames[p.Kind]
	}
	if !strings.HasSuffix(text, ":") && !strings.HasSuffix(text, "?") {
		text += ":"
	}
	return text + " "
}

func isYes(line string) bool {
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}

// showCertificate shows what a person compares before trusting a gateway.
func showCertificate(w io.Writer, c *app.Connection) {
	host := "The gateway"
	if c.Gateway != nil {
		host += " " + plainLine(c.Gateway.Host)
	}
	fmt.Fprintf(w, "%s is not trusted yet. Nothing secret has been sent.\n", host)
	cert := c.Prompt.Certificate
	if cert == nil {
		fmt.Fprintln(w, plain(c.Prompt.Text))
		return
	}
	const day = "2006-01-02"
	var t table
	t.row("Subject", cert.Subject)
	t.row("Issuer", cert.Issuer)
	t.row("Names", strings.Join(cert.Names, ", "))
	t.row("Valid", cert.NotBefore.Format(day)+" to "+cert.NotAfter.Format(day))
	t.row("SHA-256", cert.SHA256)
	t.row("Why", cert.Reason)
	t.write(w)
}

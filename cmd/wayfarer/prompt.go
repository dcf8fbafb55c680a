package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"wayfarer/app"
	"wayfarer/app/control"
)

// askPrompt puts a connection's prompt to the person at the terminal; login is the
// connection's, if it is known. Without an answer the error says why; io.EOF: the
// person refuses to give one. The caller zeroises the answer's text.
func (e *env) askPrompt(ctx context.Context, c *app.Connection, login string) (*control.Answer, error) {
	p := c.Prompt
	answer := &control.Answer{PromptID: p.ID}
	switch p.Kind {
	case app.PromptTrust:
		showCertificate(e.err, c)
		line, err := e.ask.line(ctx, "Trust this gateway? [y/N] ")
		answer.Accept = isYes(line)
		return answer, err
	case app.PromptBanner:
		showWords(e.err, c)
		_, err := e.ask.line(ctx, "Press Enter to go on. ")
		answer.Accept = true
		return answer, err
	}
	showWords(e.err, c)
	question := fmt.Sprintf("%s for %s: ", promptNames[p.Kind], whose(c, login))
	if p.Secret {
		text, err := e.ask.secret(ctx, question)
		answer.Text = text
		return answer, err
	}
	line, err := e.ask.line(ctx, question)
	answer.Text = []byte(line)
	return answer, err
}

// refuse is the answer of a person who gives none.
func refuse(p *app.Prompt) *control.Answer {
	// Distrust is an answer of its own, with its own exit code.
	return &control.Answer{PromptID: p.ID, Cancel: p.Kind != app.PromptTrust}
}

// promptNames are what is asked for, in our words.
var promptNames = map[app.PromptKind]string{
	app.PromptPassword:   "Password",
	app.PromptOTP:        "One-time password",
	app.PromptChallenge:  "Answer",
	app.PromptNextPIN:    "New PIN",
	app.PromptPassphrase: "Passphrase",
}

// showWords shows what the gateway says with a prompt: on lines of its own, set in, so
// that it cannot pass for a question of this program.
func showWords(w io.Writer, c *app.Connection) {
	text := strings.TrimSpace(plain(c.Prompt.Text))
	if text == "" {
		return
	}
	fmt.Fprintf(w, "%s says:\n", plainLine(gatewayName(c)))
	for line := range strings.Lines(text) {
		fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
	}
}

// whose says in a question for whom and where the answer is: "ada at vpn.example.com".
func whose(c *app.Connection, login string) string {
	gateway := gatewayName(c)
	switch who := cmp.Or(login, c.Profile); who {
	case "", gateway:
		return plainLine(gateway)
	default:
		return plainLine(who + " at " + gateway)
	}
}

// gatewayName is the gateway of a connection as people call it.
func gatewayName(c *app.Connection) string {
	if c.Gateway != nil && c.Gateway.Host != "" {
		return c.Gateway.Host
	}
	return "the gateway"
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

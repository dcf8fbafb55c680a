package daemon

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
)

const (
	maxText     = 2048 // bytes of a text that a gateway wrote
	maxNames    = 16   // of a certificate that is shown
	maxWarnings = 32   // of one connection
)

// unansweredError: a question that nobody is there to answer.
type unansweredError struct{ kind app.PromptKind }

func (e *unansweredError) Error() string {
	return fmt.Sprintf("nobody answers the question for the %s", e.kind)
}

// ask shows a prompt and waits for its answer, or for the end of ctx; the clock of the
// attempt that it belongs to stands still meanwhile. While another question stands it
// waits for that one. The caller owns the answer's text.
func (t *tunnel) ask(ctx context.Context, clock *clock, p app.Prompt) (control.Answer, error) {
	if !t.canAsk {
		return control.Answer{}, &unansweredError{p.Kind}
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return control.Answer{}, context.Cause(ctx)
	}
	reply := make(chan control.Answer, 1)
	clock.hold()
	defer clock.release()
	t.update(func() {
		t.prompts++
		p.ID = "p" + strconv.Itoa(t.prompts)
		t.prompt, t.reply = &p, reply
	})
	hide := func() { t.update(func() { t.prompt, t.reply = nil, nil }) }
	select {
	case answer := <-reply:
		hide()
		if answer.Cancel {
			clear(answer.Text)
			return control.Answer{}, errCancelled
		}
		return answer, nil
	case <-ctx.Done():
		hide()
		select {
		case late := <-reply: // at the same moment; nobody wants it
			clear(late.Text)
		default:
		}
		return control.Answer{}, context.Cause(ctx)
	}
}

// answer hands an answer to the ask that waits for it.
func (t *tunnel) answer(a *control.Answer) *app.Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reply == nil || t.prompt == nil || t.prompt.ID != a.PromptID {
		return app.NewFailure(app.CodeUsage, "", fmt.Sprintf("connection %s does not ask question %q", t.id, a.PromptID),
			"it may have been answered already")
	}
	own := *a
	own.Text = bytes.Clone(a.Text)
	t.reply <- own
	t.reply = nil
	return nil
}

// needPassword asks before the first packet: gateways drop a half-open SA long
// before a person has found a password.
func (t *tunnel) needPassword(ctx context.Context) error {
	if m, _ := t.profile.AuthMethod(); !m.Login || len(t.config.Password) > 0 {
		return nil
	}
	t.setStep(app.StepSignIn)
	answer, err := t.ask(ctx, t.clock, app.Prompt{
		Kind:   app.PromptPassword,
		Text:   fmt.Sprintf("Password for %s at %s", t.profile.Login, t.profile.Gateway),
		Secret: true,
	})
	if err != nil {
		return err
	}
	t.config.Password = answer.Text
	t.setStep(app.StepFindGateway)
	return nil
}

// answerGateway is the engine's Prompt. A question that is not answered ends the dial
// or the session that asks it for that reason, and ends itself with them.
func (t *tunnel) answerGateway(ctx context.Context, d *dialled, p ike.Prompt) (ike.Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lives := context.AfterFunc(d.ctx, func() { cancel(context.Cause(d.ctx)) })
	defer lives()
	question := app.Prompt{Kind: app.PromptKind(p.Kind), Text: printable(p.Text, maxText), Secret: p.Secret}
	if p.Once { // a kind whose answers nobody keeps
		question.Kind, question.Text = app.PromptChallenge, cmp.Or(question.Text, "Another password, or a one-time code")
	}
	answer, err := t.ask(ctx, d.clock, question)
	if err != nil {
		d.end(err)
		return ike.Answer{}, err
	}
	if p.Kind == ike.PromptPassword && !p.Once {
		t.mu.Lock()
		t.typed.Zero()
		t.typed = bytes.Clone(answer.Text)
		t.mu.Unlock()
	}
	return ike.Answer{Text: answer.Text}, nil
}

// adoptPassword makes the password that was typed last that of the next attempt:
// the one before was refused. No session uses that any more.
func (t *tunnel) adoptPassword() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.typed != nil {
		t.config.Password.Zero()
		t.config.Password, t.typed = t.typed, nil
	}
}

// askTrust shows a certificate that nothing vouches for.
func (t *tunnel) askTrust(ctx context.Context, trust *ike.TrustError) (bool, error) {
	if !t.canAsk {
		return false, nil
	}
	host := trust.Host
	if host == "" {
		host = t.profile.Gateway
	}
	answer, err := t.ask(ctx, t.clock, app.Prompt{
		Kind:        app.PromptTrust,
		Text:        fmt.Sprintf("Trust the gateway %s?", printable(host, 253)),
		Certificate: certificateOf(trust),
	})
	return answer.Accept, err
}

func certificateOf(trust *ike.TrustError) *app.Certificate {
	cert, sum := trust.Certificate, trust.SHA256()
	if cert == nil {
		return nil
	}
	return &app.Certificate{
		Subject:   printable(cert.Subject.String(), maxText),
		Issuer:    printable(cert.Issuer.String(), maxText),
		Names:     certificateNames(cert),
		NotBefore: cert.NotBefore.UTC(),
		NotAfter:  cert.NotAfter.UTC(),
		SHA256:    hex.EncodeToString(sum[:]),
		Reason:    printable(trust.Detail, maxText),
	}
}

func certificateNames(cert *x509.Certificate) []string {
	var names []string
	for _, name := range cert.DNSNames {
		names = append(names, printable(name, 253))
	}
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, mail := range cert.EmailAddresses {
		names = append(names, printable(mail, 253))
	}
	return names[:min(len(names), maxNames)]
}

// engineWarnings words the engine's warnings by their code. What is not here is
// shown as the engine words it.
var engineWarnings = map[string]struct {
	severity app.Severity
	text     string // around the engine's
}{
	"gateway-settings": {app.SeverityInfo, "a setting of the gateway makes no sense and is ignored: %s"},
	"network-refused":  {app.SeverityWarning, "%s: it cannot be reached"},
	"sha256-96":        {app.SeverityWarning, "%s (--esp)"},
}

func warningOf(e ike.Event) app.Warning {
	w := app.Warning{Code: e.Code, Severity: app.SeverityWarning, Text: printable(e.Text, maxText)}
	if row, ok := engineWarnings[e.Code]; ok {
		w.Severity, w.Text = row.severity, fmt.Sprintf(row.text, w.Text)
	}
	return w
}

// warn adds a remark once.
func (t *tunnel) warn(w app.Warning) {
	t.update(func() {
		for _, old := range t.warnings {
			if old == w {
				return
			}
		}
		if len(t.warnings) < maxWarnings {
			t.warnings = append(t.warnings, w)
		}
	})
}

// printable makes a stranger's text harmless on a terminal: no control or direction
// characters but the line feed, at most limit bytes.
func printable(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return -1
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

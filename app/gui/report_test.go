package gui

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"wayfarer/app"
)

// aReport is one of a connection that was refused.
func aReport() *report {
	c := wholeOffice()
	c.Owner = "ada"
	c.Prompt = &app.Prompt{ID: "p1", Kind: app.PromptOTP, Text: "The code was sent to +44 20 7946"}
	c.Profile = "R&D office"
	records := aConversation()
	for i := range maxReportLines + 10 {
		records = append(records, &app.LogRecord{Time: at(30), Level: "debug", Connection: "c1", Message: fmt.Sprintf("detail %d of vpn.example.com", i)})
	}
	records = append(records, &app.LogRecord{
		Time: at(31), Level: "error", Connection: "c1", Owner: "ada", Message: "refused",
		Attributes: map[string]string{"gateway": "198.51.100.7:500", "password": "hunter2", "login": "Lovelace", "host": "backup.example.net"},
	})
	return &report{
		at: noon, version: "1.2.3", system: "linux amd64", host: "workstation", user: "ada",
		network: []string{"eth0: up, MTU 1500, 203.0.113.9/24 192.168.1.5/24", "resolv.conf: search corp.example"},
		status:  &app.Status{Version: "1.2.2", Connections: []app.Connection{*c}},
		records: records, logins: []string{"lovelace"}, hosts: []string{"R&D office", "vpn.example.com"},
	}
}

func TestReport(t *testing.T) {
	r := aReport()
	masked := r.text(redaction{})
	for _, want := range []string{
		"Wayfarer 1.2.3, linux amd64\n2026-01-02T12:00:00Z\n", "== Status ==", `"version": "1.2.2"`, `"owner": "[login `, `"banner": "[22 characters]"`, `"text": "[32 characters]"`,
		"== Network of this computer ==\neth0: up, MTU 1500, [address ", "192.168.1.5/24", "== Conversation of c1 ==", "---> Main Mode (×3)",
		"XAUTH_USER_PASSWORD [secret]", "== Log ==", "detail 259 of [host ", "refused", "password=[secret]",
	} {
		if !strings.Contains(masked, want) {
			t.Errorf("%q is missing in\n%s", want, masked)
		}
	}
	for _, secret := range []string{
		"hunter2", "ada", "ovelace", "workstation", "office", "vpn.example", "backup.example", "corp.example", "rhum", "203.0.113", "198.51.100", "192.0.2.1", "Be kind", "R&D", "+44",
	} {
		if strings.Contains(masked, secret) {
			t.Errorf("%s is not masked:\n%s", secret, masked)
		}
	}
	if n := strings.Count(masked, "detail "); n != maxReportLines-1 {
		t.Errorf("%d lines of details", n)
	}
	whole := r.text(redaction{showLogins: true, showHosts: true, showAddresses: true})
	for _, want := range []string{`"owner": "ada"`, "login=Lovelace", "host=backup.example.net", "198.51.100.7:500", "203.0.113.9", `"profile": "R&D office"`, "Be kind", "+44 20 7946"} {
		if !strings.Contains(whole, want) {
			t.Errorf("%q is missing in\n%s", want, whole)
		}
	}
	if strings.Contains(whole, "hunter2") {
		t.Error("a password is shown")
	}
	if c := r.status.Connections[0]; !strings.Contains(c.Banner, "Be kind") || !strings.Contains(c.Prompt.Text, "+44") {
		t.Error("the status was changed")
	}
}

// A service that does not answer is a reason for a report, too.
func TestReportWithoutService(t *testing.T) {
	var asked string
	source := func(_ context.Context, level string, following bool) iter.Seq2[*app.LogRecord, error] {
		return func(yield func(*app.LogRecord, error) bool) {
			asked = fmt.Sprint(level, following)
			yield(nil, errors.New("the service does not run"))
		}
	}
	r := newReport(t.Context(), noon, "1.2.3", source, nil, []saved{{name: "office", gateway: "a.example:500, b.example", login: "ada"}})
	text := r.text(redaction{showHosts: true, showLogins: true, showAddresses: true})
	for _, want := range []string{"the service does not answer", "the service does not run", "lo: ", "MTU"} {
		if want == "lo: " && !strings.Contains(r.system, "linux") {
			continue
		}
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if asked != "tracefalse" {
		t.Errorf("asked for %s", asked)
	}
	if name, err := os.Hostname(); err != nil || r.host != name || strings.Join(r.hosts, " ") != "office a.example:500 b.example" {
		t.Errorf("this computer is %q, hosts are %q", r.host, r.hosts)
	}
}

func TestReportOfTheService(t *testing.T) {
	source := func(context.Context, string, bool) iter.Seq2[*app.LogRecord, error] {
		return func(yield func(*app.LogRecord, error) bool) {
			for _, r := range aConversation() {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	if r := newReport(t.Context(), noon, "1.2.3", source, &app.Status{}, nil); len(r.records) != len(aConversation()) || r.noLog != nil {
		t.Errorf("%d records, %v", len(r.records), r.noLog)
	}
}

func TestReportView(t *testing.T) {
	test.NewTempApp(t)
	var copied, name, saved string
	v := newReportView(&keys{}, aReport(), func(text string) { copied = text }, func(n, text string) { name, saved = n, text })
	test.NewTempWindow(t, v.content()).Resize(fyne.NewSize(460, 600))
	if strings.Contains(v.text.Text, "ovelace") || strings.Contains(v.text.Text, "vpn.example.com") || strings.Contains(v.text.Text, "198.51.100.7") {
		t.Error("names are shown that nobody ticked")
	}
	v.logins.SetChecked(true)
	v.hosts.SetChecked(true)
	v.addresses.SetChecked(true)
	if !strings.Contains(v.text.Text, "ovelace") || !strings.Contains(v.text.Text, "vpn.example.com") || !strings.Contains(v.text.Text, "198.51.100.7") {
		t.Error("names are not shown though they were ticked")
	}
	v.text.SetText("my own words")
	for _, b := range buttons(v.content()) {
		test.Tap(b)
	}
	if copied != "my own words" || saved != copied || !strings.HasPrefix(name, "wayfarer-report-2026-01-0") {
		t.Errorf("copied was %q, saved %q to %s", copied, saved, name)
	}
}

func TestReportLook(t *testing.T) {
	inBoth(t, "report", fyne.NewSize(460, 600), func() fyne.CanvasObject {
		r := aReport()
		r.records = nil // their times are local
		return newReportView(&keys{}, r, nil, nil).content()
	})
}

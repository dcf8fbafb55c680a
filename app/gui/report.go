package gui

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// Bounds of a report: it is shown in a field in which it can be changed, and read by
// people.
const (
	maxReportLines   = 250 // of the log, the newest
	maxReportRemarks = 120 // of a conversation, messages and remarks, the newest
	maxResolver      = 4 << 10
	reportTime       = 5 * time.Second // to ask the service for its log
)

// report is what helps others to find out why a connection does not work.
type report struct {
	at      time.Time
	version string // of the window
	system  string
	host    string // this computer's name
	user    string // of the operating system
	network []string
	status  *app.Status // nil: the service does not answer
	noLog   error       // why records are missing; nil: they are there
	records []*app.LogRecord
	logins  []string // that are known from profiles
	hosts   []string // names of profiles and gateways
}

// newReport gathers what there is. It blocks for a moment: call it aside.
func newReport(ctx context.Context, now time.Time, version string, source logSource, status *app.Status, profiles []saved) *report {
	r := &report{at: now, version: version, system: systemName(), network: hostNetwork(), status: status}
	r.host, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		r.user = u.Username[strings.LastIndexByte(u.Username, '\\')+1:] // without Windows' domain
	}
	for _, p := range profiles {
		r.logins = append(r.logins, p.login)
		r.hosts = append(r.hosts, p.name)
		for gateway := range strings.SplitSeq(p.gateway, ",") {
			r.hosts = append(r.hosts, strings.TrimSpace(gateway))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	for record, err := range source(ctx, app.LogLevelName(app.LevelTrace), false) {
		if err != nil {
			r.noLog = err
			break
		}
		r.records = append(r.records, record)
	}
	return r
}

// systemName is the operating system, with the distribution's own name where there is
// one (os-release(5)).
func systemName() string {
	name := runtime.GOOS + " " + runtime.GOARCH
	file, err := os.Open("/etc/os-release")
	if err != nil {
		return name
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if pretty, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return name + ", " + plainLine(strings.Trim(pretty, `"'`))
		}
	}
	return name
}

// hostNetwork is what can be known of this computer's network without any rights.
func hostNetwork() (lines []string) {
	interfaces, err := net.Interfaces()
	if err != nil {
		lines = append(lines, err.Error())
	}
	for _, i := range interfaces {
		var addresses []string
		if found, err := i.Addrs(); err == nil {
			for _, a := range found {
				addresses = append(addresses, a.String())
			}
		}
		lines = append(lines, fmt.Sprintf("%s: %v, MTU %d, %s", i.Name, i.Flags, i.MTU, strings.Join(addresses, " ")))
	}
	if resolver, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		text := plain(string(resolver[:min(len(resolver), maxResolver)]))
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, "resolv.conf: "+line)
			}
		}
	}
	return lines
}

// text is the report without secrets, and without what r does not show. It is in
// English: those who read it may be anywhere.
func (r *report) text(show redaction) string {
	show.logins = append(slices.Clone(r.logins), r.user)
	show.hosts = append(slices.Clone(r.hosts), r.host)
	var b strings.Builder
	heading := func(text string) { fmt.Fprintf(&b, "\n== %s ==\n", text) }
	fmt.Fprintf(&b, "Wayfarer %s, %s\n%s\n", r.version, r.system, r.at.UTC().Format(time.RFC3339))
	heading("Status")
	b.WriteString(r.statusText(show.showHosts))
	heading("Network of this computer")
	for _, line := range r.network {
		b.WriteString(line + "\n")
	}
	for _, id := range conversations(r.records) {
		heading("Conversation of " + id)
		all := conversation(r.records, id)
		b.WriteString(conversationText(all[max(0, len(all)-maxReportRemarks):]))
	}
	heading("Log")
	if r.noLog != nil {
		b.WriteString(plain(r.noLog.Error()) + "\n")
	}
	for _, line := range r.logLines() {
		b.WriteString(line + "\n")
	}
	return show.apply(b.String())
}

// statusText is the status as the service tells it. A gateway's own words are told by
// their length alone where names are not shown: they welcome to somewhere, or say where a
// code was sent.
func (r *report) statusText(showWords bool) string {
	if r.status == nil {
		return "the service does not answer\n"
	}
	status := app.Status{Version: r.status.Version, Connections: slices.Clone(r.status.Connections)}
	for i := range status.Connections {
		if c := &status.Connections[i]; !showWords {
			c.Banner = lengthOf(c.Banner)
			if c.Prompt != nil {
				prompt := *c.Prompt
				prompt.Text = lengthOf(prompt.Text)
				c.Prompt = &prompt
			}
		}
	}
	var b strings.Builder
	out := json.NewEncoder(&b)
	out.SetIndent("", " ")
	out.SetEscapeHTML(false) // names are looked for as they are
	if err := out.Encode(&status); err != nil {
		return err.Error() + "\n"
	}
	return b.String()
}

func lengthOf(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("[%d characters]", utf8.RuneCountInString(text))
}

// logLines are the newest lines of the log; messages stand in the conversations.
func (r *report) logLines() []string {
	var lines []string
	for _, record := range r.records {
		if record.Level != app.LogLevelName(app.LevelTrace) {
			lines = append(lines, logLine(record))
		}
	}
	return lines[max(0, len(lines)-maxReportLines):]
}

// reportView shows a report before it is saved. It can be changed there.
type reportView struct {
	report                   *report
	logins, hosts, addresses *checkBox
	text                     *field
	all                      *fyne.Container
}

// newReportView makes the view. Copy puts text on the clipboard, save asks where to and
// writes it to a file of that name.
func newReportView(k *keys, r *report, copy func(text string), save func(name, text string)) *reportView {
	v := &reportView{report: r, text: newField(k)}
	v.text.MultiLine, v.text.Wrapping, v.text.TextStyle = true, fyne.TextWrapOff, fyne.TextStyle{Monospace: true}
	again := func(bool) { v.write() }
	v.logins = newCheckBox(k, lang.L("Logins"), again)
	v.hosts = newCheckBox(k, lang.L("Names of gateways and companies"), again)
	v.addresses = newCheckBox(k, lang.L("Public addresses"), again)
	intro := wrapped(lang.L("This helps others to find out what is wrong. Read it, and take out what you do not want to give away. Passwords and keys are never in it."))
	choice := container.New(layout.NewCustomPaddedVBoxLayout(-8), caption(lang.L("Leave in the report:")), v.logins, v.hosts, v.addresses,
		quiet(lang.L("Choose before you change the text: each choice writes it anew.")))
	copyAll := newButton(k, lang.L("Copy"), theme.ContentCopyIcon(), func() { copy(v.text.Text) })
	saveAll := newButton(k, lang.L("Save"), theme.DocumentSaveIcon(), func() {
		save("wayfarer-report-"+r.at.Local().Format("2006-01-02-1504")+".txt", v.text.Text)
	})
	saveAll.Importance = widget.HighImportance
	v.all = container.NewBorder(container.NewVBox(intro, choice), container.NewGridWithColumns(2, copyAll, saveAll), nil, nil, v.text)
	v.write()
	return v
}

func (v *reportView) content() fyne.CanvasObject { return v.all }

func (v *reportView) write() {
	v.text.SetText(v.report.text(redaction{
		showLogins: v.logins.Checked, showHosts: v.hosts.Checked, showAddresses: v.addresses.Checked,
	}))
}

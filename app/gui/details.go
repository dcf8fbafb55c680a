package gui

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// section is a part of the details of a connection, row is a line of it.
type section struct {
	title string
	rows  []row
}

// row is a name and what is known; what is graded says why.
type row struct {
	name, value string
	grade       grade
	why         string
}

// sections are the details of a connection at a moment.
func sections(c *app.Connection, now time.Time) []section {
	safety := lang.L("Security")
	if g := gradeOf(c); g != gradeNone {
		safety = lang.L("Security: {{.Grade}}", map[string]any{"Grade": g.String()})
	}
	return []section{
		{lang.L("Network"), networkRows(c)},
		{lang.L("Gateway"), gatewayRows(c, now)},
		{safety, securityRows(c, now)},
		{lang.L("Traffic"), trafficRows(c)},
	}
}

// gradeOf is the worst grade of what a connection uses; none where something is unknown.
func gradeOf(c *app.Connection) grade {
	if c.IKE == nil {
		return gradeNone
	}
	g := judge(c.IKE.Suite).grade
	for i := range c.ESP {
		g = min(g, judge(c.ESP[i].Suite).grade)
	}
	return g
}

// rows are made by adding what is known.
type rows []row

func (r *rows) add(name, value string) {
	if value != "" {
		*r = append(*r, row{name: name, value: value})
	}
}

// suite adds algorithms with their grade.
func (r *rows) suite(name, suite string) {
	if suite == "" {
		return
	}
	j := judge(suite)
	*r = append(*r, row{name: name, value: strings.Join(j.names, ", "), grade: j.grade, why: strings.Join(j.why, "; ")})
}

func networkRows(c *app.Connection) (r rows) {
	r.add(lang.L("Address"), lines(c.Addresses, address))
	r.add(lang.L("DNS servers"), lines(c.DNS, netip.Addr.String))
	r.add(lang.L("Domains"), lines(c.Domains, plainLine))
	r.add(lang.L("WINS servers"), lines(c.WINS, netip.Addr.String))
	r.add(lang.L("Through the VPN"), lines(c.Routes, network))
	r.add(lang.L("Past the VPN"), lines(c.SplitExclude, network))
	if c.TUN != nil {
		r.add(lang.L("Interface"), c.TUN.Name)
		r.add(lang.L("Largest packet (MTU)"), lang.L("{{.Bytes}} bytes", map[string]any{"Bytes": c.TUN.MTU}))
	}
	return r
}

// lines puts values on a line each.
func lines[T any](values []T, text func(T) string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = text(v)
	}
	return strings.Join(out, "\n")
}

// address is one of this computer's, without the length of a network of one.
func address(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func network(p netip.Prefix) string {
	if p.Bits() == 0 {
		return lang.L("everything ({{.Network}})", map[string]any{"Network": p.String()})
	}
	return address(p)
}

func gatewayRows(c *app.Connection, now time.Time) (r rows) {
	if g := c.Gateway; g != nil {
		r.add(lang.L("Name"), plainLine(g.Host))
		if g.Address.IsValid() {
			r.add(lang.L("Address and port"), netip.AddrPortFrom(g.Address, g.Port).String())
		}
		r.add(lang.L("Identity"), plainLine(g.Identity))
		r.add(lang.L("Certificate (SHA-256)"), inFours(g.CertificateSHA256))
	}
	if c.IKE != nil {
		if c.IKE.LastHeard != nil {
			r.add(lang.L("Last reply"), formatAgo(now.Sub(*c.IKE.LastHeard)))
		}
		r.add(lang.L("Address translation"), natName(c.IKE.NAT))
		r.add(lang.L("Packets travel as"), carrierName(c.IKE.NATT))
		r.add(lang.L("Long messages in pieces"), yesNo(c.IKE.Fragmentation))
		r.add(lang.L("Says that it is alive (DPD)"), yesNo(c.IKE.DPD))
	}
	r.add(lang.L("Message"), plain(c.Banner))
	return r
}

// inFours writes a fingerprint so that it can be compared and broken into lines.
func inFours(digits string) string {
	var b strings.Builder
	for i, d := range plainLine(digits) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func yesNo(yes bool) string {
	if yes {
		return lang.L("yes")
	}
	return lang.L("no")
}

// natName words what NAT detection found.
func natName(nat string) string {
	switch nat {
	case "none":
		return lang.L("none")
	case "local":
		return lang.L("on your side")
	case "remote":
		return lang.L("on the gateway's side")
	case "both":
		return lang.L("on both sides")
	case "forced":
		return lang.L("none, but treated as if there were")
	}
	return plainLine(nat)
}

// carrierName words how ESP travels: RFC 3948 in UDP, by a standard or a draft of NAT
// traversal, else as IP protocol 50.
func carrierName(natt string) string {
	if natt == "" {
		return lang.L("ESP (IP protocol 50)")
	}
	return lang.L("ESP in UDP ({{.Standard}})", map[string]any{"Standard": plainLine(natt)})
}

func securityRows(c *app.Connection, now time.Time) (r rows) {
	if c.IKE != nil {
		r.add(lang.L("Signed in with"), authName(c.IKE.Auth))
		r.add(lang.L("Exchange"), exchangeName(c.IKE.Exchange))
		r.suite(lang.L("Control channel (IKE)"), c.IKE.Suite)
		r.add(lang.L("New keys in"), left(c.IKE.Expires, now))
		r.add(lang.L("Renewals"), strconv.Itoa(c.IKE.Rekeys))
	}
	for i := range c.ESP {
		sa := &c.ESP[i]
		r.suite(lang.L("Data (ESP)"), sa.Suite)
		r.add(lang.L("Between"), fmt.Sprintf("%s – %s", network(sa.Local), network(sa.Remote)))
		r.add(lang.L("New keys in"), left(sa.Expires, now))
		r.add(lang.L("Renewals"), strconv.Itoa(sa.Rekeys))
		r.add(lang.L("SPI in, out"), plainLine(sa.SPIIn+", "+sa.SPIOut))
	}
	return r
}

// left is the time until the latest moment of new keys.
func left(expires *time.Time, now time.Time) string {
	if expires == nil {
		return ""
	}
	return lang.L("at most {{.Time}}", map[string]any{"Time": formatTime(expires.Sub(now))})
}

// authName words a method of authentication as the engine names it: "hybrid-rsa".
func authName(auth string) string {
	own := map[string]any{"Method": plainLine(auth)}
	switch method, _, _ := strings.Cut(auth, "-"); {
	case method == "hybrid":
		return lang.L("the gateway's certificate, login and password ({{.Method}})", own)
	case auth == "xauth-psk":
		return lang.L("the group's secret, login and password ({{.Method}})", own)
	case method == "xauth":
		return lang.L("certificates, login and password ({{.Method}})", own)
	case auth == "psk":
		return lang.L("a shared secret ({{.Method}})", own)
	case auth == "":
		return ""
	}
	return lang.L("certificates ({{.Method}})", own)
}

func exchangeName(exchange string) string {
	switch exchange {
	case "main":
		return lang.L("main mode")
	case "aggressive":
		return lang.L("aggressive mode")
	}
	return plainLine(exchange)
}

func trafficRows(c *app.Connection) (r rows) {
	var sum app.ESP
	for i := range c.ESP {
		sa := &c.ESP[i]
		sum.BytesIn, sum.BytesOut = sum.BytesIn+sa.BytesIn, sum.BytesOut+sa.BytesOut
		sum.PacketsIn, sum.PacketsOut = sum.PacketsIn+sa.PacketsIn, sum.PacketsOut+sa.PacketsOut
		sum.Replayed, sum.BadICV = sum.Replayed+sa.Replayed, sum.BadICV+sa.BadICV
	}
	r.add(lang.L("Received"), formatBytes(float64(sum.BytesIn)))
	r.add(lang.L("Sent"), formatBytes(float64(sum.BytesOut)))
	r.add(lang.L("Packets received"), strconv.FormatUint(sum.PacketsIn, 10))
	r.add(lang.L("Packets sent"), strconv.FormatUint(sum.PacketsOut, 10))
	r.add(lang.L("Refused: came twice"), strconv.FormatUint(sum.Replayed, 10))
	r.add(lang.L("Refused: changed on the way"), strconv.FormatUint(sum.BadICV, 10))
	return r
}

// detailsText is all that is known of a connection, to be copied.
func detailsText(c *app.Connection, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", connectionName(c), stateName(c.State))
	if c.Since != nil {
		fmt.Fprintf(&b, "%s\n", formatTime(now.Sub(*c.Since)))
	}
	for _, w := range byGravity(c.Warnings) {
		fmt.Fprintf(&b, "! %s: %s\n", remarkOn(w.Code).headline, plain(w.Text))
	}
	for _, s := range sections(c, now) {
		fmt.Fprintf(&b, "\n%s\n", s.title)
		for _, r := range s.rows {
			fmt.Fprintf(&b, "  %s: %s", r.name, strings.ReplaceAll(r.value, "\n", ", "))
			if note := r.note(); note != "" {
				fmt.Fprintf(&b, " (%s)", note)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// note is the grade and why it is not the best.
func (r *row) note() string {
	if r.why == "" {
		return r.grade.String()
	}
	return r.grade.String() + ": " + r.why
}

// connectionName is the profile's name, or the gateway's where there is none.
func connectionName(c *app.Connection) string {
	if c.Profile == "" && c.Gateway != nil {
		return plainLine(c.Gateway.Host)
	}
	return plainLine(c.Profile)
}

// detailsView shows a connection that stands: the few things that everybody wants to
// know on top, everything else below.
type detailsView struct {
	clock, address, down, up *widget.Label
	warnings                 *warningsView
	throughput               *throughput
	history                  history
	accordion                *widget.Accordion
	parts                    []*sectionView
	all                      *fyne.Container

	shown *app.Connection
	at    time.Time
}

// newDetailsView makes the view. Copy puts text on the clipboard.
func newDetailsView(k *keys, copy func(string)) *detailsView {
	v := &detailsView{
		clock: widget.NewLabel(""), address: widget.NewLabel(""),
		down: widget.NewLabel(""), up: widget.NewLabel(""),
		warnings: newWarningsView(), throughput: newThroughput(k), accordion: widget.NewAccordion(),
	}
	v.clock.SizeName, v.clock.Alignment, v.clock.TextStyle = theme.SizeNameHeadingText, fyne.TextAlignCenter, fyne.TextStyle{Monospace: true}
	v.address.Alignment, v.address.Selectable = fyne.TextAlignCenter, true
	v.accordion.MultiOpen = true
	rates := container.NewHBox(
		layout.NewSpacer(), widget.NewIcon(theme.MoveDownIcon()), v.down,
		widget.NewIcon(theme.MoveUpIcon()), v.up, layout.NewSpacer())
	top := card(container.New(layout.NewCustomPaddedVBoxLayout(tightly), v.clock, v.address, rates))
	copyAll := newButton(k, lang.L("Copy all"), theme.ContentCopyIcon(), func() {
		if v.shown != nil {
			copy(detailsText(v.shown, v.at))
		}
	})
	v.all = container.NewVBox(top, v.warnings.content(), v.throughput.all, v.accordion, container.NewHBox(layout.NewSpacer(), copyAll))
	return v
}

func (v *detailsView) content() fyne.CanvasObject { return v.all }

// update shows a connection as it is now: to be called each second while somebody looks.
// Rates are of new values only, never of c once more.
func (v *detailsView) update(c *app.Connection, now time.Time) {
	another, fresh := v.shown == nil || v.shown.ID != c.ID, v.shown != c
	v.shown, v.at = c, now
	clock := ""
	if c.Since != nil {
		clock = formatTime(now.Sub(*c.Since))
	}
	setText(v.clock, clock)
	setText(v.address, strings.ReplaceAll(lines(c.Addresses, address), "\n", ", "))
	v.warnings.update(c.Warnings)
	if fresh && v.history.sample(c, now) {
		setText(v.down, formatRate(v.history.down))
		setText(v.up, formatRate(v.history.up))
		v.throughput.update(&v.history)
	}
	v.updateSections(sections(c, now), another)
}

func (v *detailsView) updateSections(all []section, another bool) {
	for i, s := range all {
		if i == len(v.parts) {
			part := newSectionView(s)
			v.parts = append(v.parts, part)
			v.accordion.Append(part.item)
			continue
		}
		if v.parts[i].update(s, another) {
			v.accordion.Refresh()
		}
	}
}

// sectionView is a part of the details that can be opened.
type sectionView struct {
	item *widget.AccordionItem
	form *fyne.Container
	rows []*rowView
}

func newSectionView(s section) *sectionView {
	v := &sectionView{form: container.New(&pairs{})}
	v.item = widget.NewAccordionItem(s.title, v.form)
	v.build(s.rows)
	return v
}

// update takes over new values and says whether the whole looks different now. What is
// closed is left alone, unless it is of another connection.
func (v *sectionView) update(s section, another bool) (different bool) {
	if v.item.Title != s.title {
		v.item.Title, different = s.title, true
	}
	same := slices.EqualFunc(v.rows, s.rows, func(a *rowView, b row) bool {
		return a.shown.name == b.name && (a.shown.note() == "") == (b.note() == "")
	})
	if !same {
		v.build(s.rows)
		return true
	}
	if v.item.Open || another {
		for i, r := range s.rows {
			v.rows[i].update(r)
		}
	}
	return different
}

func (v *sectionView) build(rows []row) {
	v.rows = nil
	v.form.RemoveAll()
	for _, r := range rows {
		line := newRowView(r)
		v.rows = append(v.rows, line)
		v.form.Add(line.name)
		v.form.Add(line.field)
	}
}

// rowView is a line of a section.
type rowView struct {
	shown       row
	name, value *widget.Label
	note        *widget.Label // of the grade; nil: there is none
	field       fyne.CanvasObject
}

func newRowView(r row) *rowView {
	v := &rowView{name: widget.NewLabel(r.name), value: wrapped("")}
	v.name.Importance = widget.LowImportance
	v.value.Selectable = true
	v.field = v.value
	if r.note() != "" {
		v.note = wrapped("")
		v.note.SizeName = theme.SizeNameCaptionText
		v.field = container.New(layout.NewCustomPaddedVBoxLayout(tightly), v.value, v.note)
	}
	v.update(r)
	return v
}

func (v *rowView) update(r row) {
	v.shown = r
	setText(v.value, r.value)
	if v.note == nil {
		return
	}
	importance := map[grade]widget.Importance{
		gradeStrong: widget.SuccessImportance, gradeAcceptable: widget.WarningImportance, gradeWeak: widget.DangerImportance,
	}[r.grade]
	if v.note.Importance != importance {
		v.note.Importance = importance
		v.note.Refresh()
	}
	setText(v.note, r.note())
}

// pairs is a layout of names and values, in turn: side by side, or the value below its
// name where that leaves too little room, as with large letters.
type pairs struct{ width float32 } // that it had last; text wraps by it

// usualWidth is assumed until there is one.
const usualWidth = 400

// leastValue is the width below which a value goes to a line of its own.
const leastValue = 180

// MinSize implements fyne.Layout.
func (p *pairs) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var least float32
	for _, o := range objects {
		least = max(least, o.MinSize().Width)
	}
	return fyne.NewSize(least, p.place(objects, max(cmp.Or(p.width, usualWidth), least)))
}

// Layout implements fyne.Layout.
func (p *pairs) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	p.width = size.Width
	p.place(objects, size.Width)
}

// place puts everything where it belongs and returns the height of the whole.
func (p *pairs) place(objects []fyne.CanvasObject, width float32) float32 {
	var names float32
	for i := 0; i < len(objects); i += 2 {
		names = max(names, objects[i].MinSize().Width)
	}
	beside := width-names >= leastValue
	var y float32
	for i := 0; i+1 < len(objects); i += 2 {
		name, value := objects[i], objects[i+1]
		left, top := names, y
		if !beside {
			left, top = 0, y+name.MinSize().Height+tightly
		}
		name.Move(fyne.NewPos(0, y))
		name.Resize(fyne.NewSize(names, name.MinSize().Height))
		value.Move(fyne.NewPos(left, top))
		value.Resize(fyne.NewSize(width-left, value.Size().Height))
		value.Resize(fyne.NewSize(width-left, value.MinSize().Height)) // now that its lines are known
		y = top + value.Size().Height + tightly
	}
	return max(0, y-tightly)
}

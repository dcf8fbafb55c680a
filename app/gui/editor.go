package gui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// editorView is everything about a profile, for who wants to know: the common things
// open, the rest folded away. It works on an entry of its own until that is saved.
type editorView struct {
	keys    *keys
	policy  app.Policy // what it demands cannot be changed
	entry   *store.Entry
	commits []func() error // take the fields over into the entry
	name    *field
	secrets []*field // what is typed into them is taken by a commit
	method  *picker
	byNeed  []needed
	problem *widget.Label
	root    fyne.CanvasObject
	first   fyne.Focusable
	// differs tell, of each field, choice and check, whether it is another than it was.
	differs []func() bool

	onSave   func(*store.Entry)
	onCancel func()
	// pick lets the person choose a file and returns its path by put.
	pick func(put func(path string))
}

// needed is a part of the form that only some methods of authentication need.
type needed struct {
	part fyne.CanvasObject
	by   func(app.AuthMethod) bool
}

// newEditorView edits entry, which belongs to the view then, on a computer with that
// policy. heading names what is being done.
func newEditorView(k *keys, heading string, entry *store.Entry, policy app.Policy) *editorView {
	v := &editorView{keys: k, policy: policy, entry: entry, problem: wrapped("")}
	v.problem.Importance = widget.DangerImportance
	v.problem.Hide()
	p := &entry.Profile
	common := container.NewVBox(v.common(p)...)
	fold := widget.NewAccordion(
		widget.NewAccordionItem(lang.L("Sign-in"), container.NewVBox(v.signIn(p)...)),
		widget.NewAccordionItem(lang.L("Trust in the gateway"), container.NewVBox(v.trusts(p)...)),
		widget.NewAccordionItem(lang.L("Network"), container.NewVBox(v.network(p)...)),
		widget.NewAccordionItem(lang.L("Algorithms"), container.NewVBox(v.algorithms(p)...)),
		widget.NewAccordionItem(lang.L("Protocol"), container.NewVBox(v.protocol(p)...)),
	)
	fold.MultiOpen = true
	save := newButton(k, lang.L("Save"), nil, v.save)
	save.Importance = widget.HighImportance
	cancel := newButton(k, lang.L("Cancel"), nil, func() { v.onCancel() })
	body := container.NewVScroll(margins(readable(container.NewVBox(common, fold))))
	foot := container.NewVBox(v.problem, container.NewGridWithColumns(2, cancel, save))
	v.root = pageFrame(k, heading, func() { v.onCancel() }, body, foot)
	v.showNeeds()
	return v
}

func (v *editorView) content() fyne.CanvasObject { return v.root }

// save takes the fields over and hands the entry on, if all of them can be read.
func (v *editorView) save() {
	for _, commit := range v.commits {
		if err := commit(); err != nil {
			v.complain(err.Error())
			return
		}
	}
	v.onSave(v.entry)
}

// changed says whether anything is another than when the editor was opened.
func (v *editorView) changed() bool {
	return slices.ContainsFunc(v.differs, func(differs func() bool) bool { return differs() })
}

// watch has changed notice when a value is another one than now.
func watch[T any](v *editorView, value func() T, same func(a, b T) bool) {
	before := value()
	v.differs = append(v.differs, func() bool { return !same(before, value()) })
}

func equal[T comparable](a, b T) bool { return a == b }

// complain says what is wrong, above the buttons.
func (v *editorView) complain(text string) {
	setText(v.problem, sentence(plainLine(text)))
	v.problem.Show()
}

// close overwrites the secrets.
func (v *editorView) close() {
	v.entry.Zero()
	for _, f := range v.secrets {
		f.empty()
	}
}

// common are the fields of the first run, and the name.
func (v *editorView) common(p *app.Profile) []fyne.CanvasObject {
	v.name = newField(v.keys)
	v.first = v.name
	login := v.text(lang.L("Login"), "", &p.Login)
	password := v.secret(lang.L("Password"), &v.entry.Password)
	v.need(func(m app.AuthMethod) bool { return m.Login }, login, password)
	return []fyne.CanvasObject{
		v.bind(v.name, lang.L("Name"), "", p.Name, func(s string) error { p.Name = s; return store.CheckName(s) }),
		v.text(lang.L("Gateway"), lang.L("A name or address, with :port if it is not the usual one. Several, separated by commas, are tried in turn."), &p.Gateway),
		login, password,
	}
}

func (v *editorView) signIn(p *app.Profile) []fyne.CanvasObject {
	methods := app.AuthMethods()
	current := p.Auth
	if current == "" {
		current = methods[0]
	}
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = methodName(m)
	}
	v.method = newPicker(v.keys, names, func(string) { v.showNeeds() })
	v.method.SetSelectedIndex(max(slices.Index(methods, current), 0))
	watch(v, v.method.SelectedIndex, equal)
	v.commits = append(v.commits, func() error {
		if p.Auth = methods[v.method.SelectedIndex()]; p.Auth == methods[0] {
			p.Auth = ""
		}
		return nil
	})
	group := v.text(lang.L("Group"), lang.L("The name of the group, if your administrator gave you one."), &p.GroupID)
	secret := v.secret(lang.L("Group password or shared secret"), &v.entry.GroupSecret)
	v.need(func(m app.AuthMethod) bool { return m.GroupSecret != app.NotUsed }, group, secret)
	certificate := v.file(lang.L("Your certificate"), lang.L("A file: PKCS #12 (.p12, .pfx) with its key, or PEM."), &p.Certificate)
	key := v.file(lang.L("Its key"), lang.L("A PEM file. A PKCS #12 file has its own."), &p.Key)
	v.need(func(m app.AuthMethod) bool { return m.Certificate }, certificate, key)
	return []fyne.CanvasObject{
		under(lang.L("How you sign in"), v.method, ""), group, secret, certificate, key,
		v.text(lang.L("Your identity"), lang.L("What this side calls itself, if the gateway wants something special: dn:, fqdn:, email:, ip: or keyid:, then the value."), &p.LocalID),
	}
}

// methodName is a method of authentication in people's words.
func methodName(method string) string {
	switch method {
	case "hybrid":
		return lang.L("Login and password; the gateway has a certificate")
	case "xauth-psk":
		return lang.L("Login, password and a group password")
	case "xauth-rsa":
		return lang.L("Login, password and your certificate")
	case "psk":
		return lang.L("A shared secret only")
	case "rsa":
		return lang.L("Your certificate only")
	}
	return method
}

func (v *editorView) trusts(p *app.Profile) []fyne.CanvasObject {
	return []fyne.CanvasObject{
		v.authorities(p),
		v.check(lang.L("Trust what this computer trusts"), lang.L("Certificates of the public authorities that web browsers trust, too."), &p.SystemRoots),
		v.text(lang.L("Fingerprint of the gateway (SHA-256)"), lang.L("Only a gateway with this certificate is trusted. It was stored when you trusted the gateway; empty, you are asked again."), &p.Pin),
		v.text(lang.L("Identity of the gateway"), lang.L("What the gateway calls itself, if that is not its name."), &p.RemoteID),
	}
}

func (v *editorView) network(p *app.Profile) []fyne.CanvasObject {
	return []fyne.CanvasObject{
		v.block(p),
		v.check(lang.L("Reach the local network"), localHelp(), &p.LocalNetwork),
		v.list(lang.L("More networks through the VPN"), lang.L("Such as 10.1.0.0/16, separated by commas."), &p.RoutesAdd),
		v.list(lang.L("Networks past the VPN"), "", &p.RoutesSkip),
		v.number(lang.L("Largest packet (MTU)"), lang.L("0: it is found out."), &p.MTU),
		v.list(lang.L("Networks on this side"), lang.L("For a site that is joined to another."), &p.LocalNetworks),
		v.list(lang.L("Networks on the other side"), "", &p.RemoteNetworks),
	}
}

func (v *editorView) algorithms(p *app.Profile) []fyne.CanvasObject {
	return []fyne.CanvasObject{
		v.list(lang.L("For the negotiation (IKE)"), lang.L("Such as aes256-sha256-modp2048; empty: all that are strong."), &p.IKE),
		v.list(lang.L("For the data (ESP)"), lang.L("Such as aes256gcm16; empty: all that are strong."), &p.ESP),
		v.choice(lang.L("Forward secrecy (PFS)"), "", &p.PFS, "auto", "off", "modp2048", "modp3072", "modp4096", "ecp256", "ecp384", "ecp521"),
		v.weak(p),
	}
}

// block is the switch of the leak block. Where the policy demands it, the profile keeps
// what it says.
func (v *editorView) block(p *app.Profile) fyne.CanvasObject {
	name := lang.L("Block traffic outside the VPN")
	if !v.policy.ForceBlockOutside {
		return v.check(name, blockHelp(), &p.BlockOutside)
	}
	box := newCheckBox(v.keys, name, nil)
	fix(box, true)
	return container.New(layout.NewCustomPaddedVBoxLayout(-4), box, quiet(blockText(v.policy)))
}

// weak is the field of weak algorithms. Where the policy forbids them, a profile that
// allows some could never connect: saved, it allows none.
func (v *editorView) weak(p *app.Profile) fyne.CanvasObject {
	name := lang.L("Weaknesses to allow")
	if !v.policy.ForbidWeak {
		return v.list(name, lang.L("Only if your administrator says so: 3des, md5, modp1024, modp1536, rsa1024, sha1-cert, expired, psk-aggressive."), &p.AllowWeak)
	}
	v.commits = append(v.commits, func() error { p.AllowWeak = nil; return nil })
	f := newField(v.keys)
	f.Disable()
	return under(name, f, lang.L("Weak algorithms are forbidden.")+" "+fixedHelp())
}

func (v *editorView) protocol(p *app.Profile) []fyne.CanvasObject {
	return []fyne.CanvasObject{
		v.choice(lang.L("Exchange"), "", &p.Exchange, "auto", "main", "aggressive"),
		v.choice(lang.L("Settings of the gateway (Mode-Config)"), "", &p.ModeConfig, "auto", "pull", "push", "off"),
		v.choice(lang.L("Selectors"), "", &p.Selectors, "auto", "one", "per-network"),
		v.choice(lang.L("NAT traversal"), "", &p.NATT, "auto", "off", "draft-00", "draft-01", "draft-02", "draft-03"),
		v.number(lang.L("Port on this side"), lang.L("0: any."), &p.LocalPort),
		v.check(lang.L("Offer compression"), lang.L("The lengths of packets then tell something about what is in them."), &p.IPComp),
		v.list(lang.L("Quirks"), lang.L("Names of habits of certain gateways; with a hyphen before it one is forbidden."), &p.Quirks),
	}
}

// blockHelp says what blocking means, in the editor and the settings.
func blockHelp() string {
	return lang.L("Nothing leaves this computer but through the VPN, from the first packet until you disconnect. While the connection is lost you have no Internet at all. Also printers and other devices near you cannot be reached, unless you allow the local network.")
}

func localHelp() string {
	return lang.L("Printers and other devices near you stay reachable although all traffic goes to the gateway. In a strange network, such as a hotel's, leave it off.")
}

// need ties parts of the form to the methods that need them.
func (v *editorView) need(by func(app.AuthMethod) bool, parts ...fyne.CanvasObject) {
	for _, part := range parts {
		v.byNeed = append(v.byNeed, needed{part, by})
	}
}

// showNeeds shows the parts that the chosen method needs.
func (v *editorView) showNeeds() {
	chosen := app.Profile{Auth: app.AuthMethods()[max(v.method.SelectedIndex(), 0)]}
	method, _ := chosen.AuthMethod()
	for _, n := range v.byNeed {
		showIf(n.part, n.by(method))
	}
}

// bind makes a field of f; set takes its text over.
func (v *editorView) bind(f *field, name, help, value string, set func(string) error) fyne.CanvasObject {
	f.SetText(value)
	f.OnSubmitted = func(string) { v.save() }
	watch(v, func() string { return f.trimmed() }, equal)
	v.commits = append(v.commits, func() error {
		if err := set(f.trimmed()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	return under(name, f, help)
}

func (v *editorView) text(name, help string, to *string) fyne.CanvasObject {
	return v.bind(newField(v.keys), name, help, *to, func(s string) error { *to = s; return nil })
}

func (v *editorView) list(name, help string, to *[]string) fyne.CanvasObject {
	return v.bind(newField(v.keys), name, help, strings.Join(*to, ", "), func(s string) error {
		*to = nil
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*to = append(*to, part)
			}
		}
		return nil
	})
}

func (v *editorView) number(name, help string, to *int) fyne.CanvasObject {
	return v.bind(newField(v.keys), name, help, strconv.Itoa(*to), func(s string) (err error) {
		if *to, err = strconv.Atoi(s); err != nil || *to < 0 || *to > 65535 {
			return fmt.Errorf("%s", lang.L("a number from 0 to 65535 is expected"))
		}
		return nil
	})
}

func (v *editorView) check(name, help string, to *bool) fyne.CanvasObject {
	box := newCheckBox(v.keys, name, nil)
	box.Checked = *to
	watch(v, func() bool { return box.Checked }, equal)
	v.commits = append(v.commits, func() error { *to = box.Checked; return nil })
	return container.New(layout.NewCustomPaddedVBoxLayout(-4), box, quiet(help))
}

// choice offers values as the profile has them; the first is the default.
func (v *editorView) choice(name, help string, to *string, values ...string) fyne.CanvasObject {
	box := newChoiceField(v.keys, name, values)
	if box.SetText(*to); *to == "" {
		box.SetText(values[0])
	}
	watch(v, func() string { return box.trimmed() }, equal)
	v.commits = append(v.commits, func() error {
		if *to = box.trimmed(); *to == values[0] {
			*to = ""
		}
		return nil
	})
	return under(name, box, help)
}

// secret is a field for one. What is stored is not shown: empty keeps it.
func (v *editorView) secret(name string, to *[]byte) fyne.CanvasObject {
	f := newSecretField(v.keys)
	v.secrets = append(v.secrets, f)
	forget := newCheckBox(v.keys, lang.L("Forget the stored one"), nil)
	if len(*to) > 0 {
		f.SetPlaceHolder(lang.L("stored; type to replace it"))
	} else {
		forget.Hide()
	}
	f.OnSubmitted = func(string) { v.save() }
	taken := false // by a commit; it is not saved yet
	v.differs = append(v.differs, func() bool { return f.Text != "" || forget.Checked || taken })
	v.commits = append(v.commits, func() error {
		switch {
		case f.Text != "":
			clear(*to)
			*to, taken = f.take(), true
		case forget.Checked:
			clear(*to)
			*to = nil
		}
		return nil
	})
	return under(name, container.NewVBox(f, forget), "")
}

// file is a field for the path of one, with a button to look for it.
func (v *editorView) file(name, help string, to *string) fyne.CanvasObject {
	if app.IsPEM([]byte(*to)) {
		return under(name, quiet(lang.L("It is stored with the profile.")), "")
	}
	f := newField(v.keys)
	v.bind(f, name, "", *to, func(s string) error { *to = s; return nil })
	look := newButton(v.keys, lang.L("Choose file"), theme.FolderOpenIcon(), func() { v.pick(f.SetText) })
	return under(name, container.NewBorder(nil, nil, nil, look, f), help)
}

// authorities are the CAs that the gateway's certificate may come from.
func (v *editorView) authorities(p *app.Profile) fyne.CanvasObject {
	watch(v, func() []string { return p.CA }, slices.Equal)
	list := container.NewVBox()
	var show func()
	show = func() {
		list.RemoveAll()
		for i, text := range p.CA {
			drop := newIconButton(v.keys, lang.L("Remove"), theme.DeleteIcon(), func() {
				p.CA = slices.Delete(slices.Clone(p.CA), i, i+1)
				show()
			})
			list.Add(container.NewBorder(nil, nil, nil, drop, wrapped(authorityName(text))))
		}
	}
	show()
	add := newButton(v.keys, lang.L("Choose file"), theme.FolderOpenIcon(), func() {
		v.pick(func(path string) {
			text, err := profiles.ReadCertificates(profiles.AnyOwner, path)
			if err != nil {
				v.complain(err.Error())
				return
			}
			p.CA = append(slices.Clone(p.CA), text)
			show()
		})
	})
	return under(lang.L("Certificate of the authority (CA)"), container.NewVBox(list, container.NewHBox(add)),
		lang.L("A file with the certificate of the authority that vouches for the gateway. Without any you are asked once."))
}

// authorityName is whom certificates of a profile are of: PEM, or a file's path.
func authorityName(text string) string {
	certs, err := app.ParseCertificates([]byte(text))
	if err != nil {
		return plainLine(text)
	}
	names := make([]string, len(certs))
	for i, c := range certs {
		names[i] = plainLine(c.Subject.String())
	}
	return strings.Join(names, "\n")
}

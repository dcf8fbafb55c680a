package gui

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/store"
)

// found is what was read of one file.
type found struct {
	file string // its name
	in   *store.Imported
	err  error
}

// readImports reads files of profiles. The caller zeroises what is found.
func readImports(paths []string) []found {
	list := make([]found, len(paths))
	for i, path := range paths {
		list[i].file = filepath.Base(path)
		list[i].in, list[i].err = readImport(path)
	}
	return list
}

// errNoFile: a folder, a pipe or a device is to be imported.
var errNoFile = errors.New("only an ordinary file can be imported")

func readImport(path string) (*store.Imported, error) {
	// A pipe would be waited for, perhaps for ever, when it is opened.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errNoFile
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return store.ReadImport(file, filepath.Base(path))
}

// importView shows what files hold before any of it is saved.
type importView struct {
	policy  app.Policy // what it forbids cannot be chosen
	found   []found
	choices []*choice
	save    *button
	root    fyne.CanvasObject

	onSave   func([]*store.Candidate)
	onCancel func()
}

// choice is a profile that can be taken over.
type choice struct {
	candidate  *store.Candidate
	take, weak *checkBox
}

func newImportView(k *keys, list []found, policy app.Policy) *importView {
	v := &importView{policy: policy, found: list}
	body := container.NewVBox()
	for _, f := range list {
		v.addFile(k, body, f)
	}
	v.save = newButton(k, lang.L("Save"), nil, v.take)
	v.save.Importance = widget.HighImportance
	cancel := newButton(k, lang.L("Cancel"), nil, func() { v.onCancel() })
	foot := container.NewGridWithColumns(2, cancel, v.save)
	if len(v.choices) == 0 {
		foot = container.NewGridWithColumns(1, cancel)
	}
	v.root = pageFrame(k, lang.L("Import"), func() { v.onCancel() }, container.NewVScroll(margins(readable(body))), foot)
	return v
}

func (v *importView) content() fyne.CanvasObject { return v.root }

func (v *importView) addFile(k *keys, body *fyne.Container, f found) {
	head := caption(plainLine(f.file))
	body.Add(head)
	if f.err != nil {
		problem := wrapped(plain(sentence(f.err.Error())))
		problem.Importance = widget.DangerImportance
		body.Add(problem)
		return
	}
	body.Add(quiet(plainLine(f.in.Format)))
	for _, remark := range f.in.Remarks {
		body.Add(remarkLabel(remark))
	}
	for _, candidate := range f.in.Profiles {
		body.Add(v.addChoice(k, candidate))
	}
}

// addChoice is a card with what a profile would be.
func (v *importView) addChoice(k *keys, candidate *store.Candidate) fyne.CanvasObject {
	p := &candidate.Profile
	c := &choice{candidate: candidate, take: newCheckBox(k, plainLine(p.Name), func(bool) { v.check() })}
	c.take.Checked = true
	method, _ := p.AuthMethod()
	lines := container.NewVBox(c.take, wrapped(previewText(p, method)))
	if len(candidate.Weak) > 0 {
		// Beside it, since the text of a tick does not wrap.
		what := wrapped(lang.L("Allow weak security: {{.List}}", map[string]any{"List": plainLine(strings.Join(candidate.Weak, ", "))}))
		c.weak = newCheckBox(k, "", nil)
		lines.Add(container.NewBorder(nil, nil, c.weak, nil, what))
		if v.policy.ForbidWeak {
			fix(c.weak, false)
			lines.Add(quiet(lang.L("Weak algorithms are forbidden.") + " " + fixedHelp()))
		} else {
			lines.Add(quiet(lang.L("The file asks for it. Allow it only if the gateway cannot do better: who listens may read along.")))
		}
	}
	for _, remark := range candidate.Remarks {
		lines.Add(remarkLabel(remark))
	}
	v.choices = append(v.choices, c)
	return card(lines)
}

func previewText(p *app.Profile, method app.AuthMethod) string {
	lines := []string{lang.L("Gateway: {{.Gateway}}", map[string]any{"Gateway": plainLine(p.Gateway)})}
	if p.Login != "" {
		lines = append(lines, lang.L("Login: {{.Login}}", map[string]any{"Login": plainLine(p.Login)}))
	}
	if p.GroupID != "" {
		lines = append(lines, lang.L("Group: {{.Group}}", map[string]any{"Group": plainLine(p.GroupID)}))
	}
	return strings.Join(append(lines, methodName(method.Name)), "\n")
}

func remarkLabel(text string) fyne.CanvasObject {
	l := wrapped("• " + plain(text))
	l.Importance = widget.WarningImportance
	return l
}

// check lets Save be pressed when there is something to save.
func (v *importView) check() {
	if slices.ContainsFunc(v.choices, func(c *choice) bool { return c.take.Checked }) {
		v.save.Enable()
		return
	}
	v.save.Disable()
}

func (v *importView) take() {
	var list []*store.Candidate
	for _, c := range v.choices {
		if !c.take.Checked {
			continue
		}
		if c.weak != nil && c.weak.Checked {
			c.candidate.AllowWeak()
		}
		list = append(list, c.candidate)
	}
	v.onSave(list)
}

// close overwrites the secrets.
func (v *importView) close() {
	for _, f := range v.found {
		if f.in != nil {
			f.in.Zero()
		}
	}
}

// adopt saves profiles under names that are free, and returns the first name.
func adopt(s Store, list []*store.Candidate) (first string, err error) {
	names, err := s.Names()
	if err != nil {
		return "", err
	}
	for _, candidate := range list {
		candidate.Profile.Name = store.FreeName(candidate.Profile.Name, names)
		names = append(names, candidate.Profile.Name)
		if err := s.Adopt(candidate); err != nil {
			return first, fmt.Errorf("%s: %w", candidate.Profile.Name, err)
		}
		if first == "" {
			first = candidate.Profile.Name
		}
	}
	return first, nil
}

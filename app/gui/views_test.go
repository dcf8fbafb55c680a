package gui

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// reveal has a person look at what is typed.
func (f *field) reveal(t *testing.T) {
	t.Helper()
	test.WidgetRenderer(f) // the eye is there when the field is
	test.Tap(f.ActionItem.(fyne.Tappable))
	if f.Password {
		t.Fatal("the eye does not open")
	}
}

// TestEyeCloses: who looked at a secret does not show the next one to who looks on.
func TestEyeCloses(t *testing.T) {
	test.NewTempApp(t)
	v := newPromptView(&keys{})
	v.onAnswer, v.onCancel = func([]byte, bool) {}, func() {}
	test.NewTempWindow(t, v.box)
	for name, leave := range map[string]func(){
		"answered": v.submit, "cancelled": v.cancel.OnTapped, "away": v.clear,
		"another question": func() { v.update("2", &app.Prompt{Kind: app.PromptPassword}, false, false) },
	} {
		v.update("1 "+name, &app.Prompt{Kind: app.PromptNextPIN}, false, false)
		v.secret.reveal(t)
		v.secret.SetText("1234")
		leave()
		if !v.secret.Password || v.secret.Text != "" {
			t.Errorf("%s: hidden is %t, there is %q", name, v.secret.Password, v.secret.Text)
		}
	}
}

// TestCertificateIsOnOneLine: what a certificate says of itself cannot look like more than
// one fact.
func TestCertificateIsOnOneLine(t *testing.T) {
	test.NewTempApp(t)
	v := newTrustView(&keys{})
	p := trustPrompt()
	own := twoLines(inFours(p.Certificate.SHA256))
	lie := "CN=x\nFingerprint (SHA-256)\n" + strings.Repeat("0000 ", 16)
	p.Certificate.Subject, p.Certificate.Issuer, p.Certificate.Names, p.Certificate.Reason = lie, lie, []string{lie}, lie
	v.update("1", &p, "vpn.example.com")
	lines := 0
	for _, o := range visible(v.facts) {
		if l, ok := o.(*widget.Label); ok && l.Text != own {
			lines++
			if strings.Contains(l.Text, "\n") || len([]rune(l.Text)) > maxLine+1 {
				t.Errorf("a fact is %q", l.Text)
			}
		}
	}
	if lines < 10 || !strings.Contains(texts(v.facts), own) {
		t.Errorf("%d lines:\n%s", lines, texts(v.facts))
	}
}

// TestImportOfNoFile: what would be waited for is not opened.
func TestImportOfNoFile(t *testing.T) {
	paths := []string{t.TempDir(), os.DevNull}
	if runtime.GOOS == "linux" {
		paths = append(paths, "/dev/ptmx")
	}
	for _, f := range readImports(paths) {
		if !errors.Is(f.err, errNoFile) {
			t.Errorf("%s: got %v", f.file, f.err)
		}
	}
	if f := readImports([]string{filepath.Join(t.TempDir(), "none")})[0]; !errors.Is(f.err, os.ErrNotExist) {
		t.Errorf("got %v", f.err)
	}
}

// TestManyWeaknessesFit: all that a file asks for can be read before it is allowed, in a
// narrow window.
func TestManyWeaknessesFit(t *testing.T) {
	test.NewTempApp(t).Settings().SetTheme(newLook())
	list := someImports()
	list[0].in.Profiles[0].Weak = []string{"3des", "modp1024", "sha1-cert", "expired", "psk-aggressive"}
	v := newImportView(&keys{}, list, app.Policy{})
	if width := v.content().MinSize().Width; width > sizeAlone.Width {
		t.Errorf("the page is %v wide", width)
	}
	if !strings.Contains(texts(v.content()), "psk-aggressive") {
		t.Error("not all are shown")
	}
	if v.choices[0].weak.Checked {
		t.Error("they are allowed unasked")
	}
}

// TestEditorChanged: each kind of input tells that it was changed, and that it was changed
// back.
func TestEditorChanged(t *testing.T) {
	test.NewTempApp(t)
	entry := officeEntry()
	entry.GroupSecret = []byte("s")
	v := newEditorView(&keys{}, "", &entry, app.Policy{})
	test.NewTempWindow(t, v.content())
	unfold(v.content())
	if v.changed() {
		t.Fatal("it was only opened")
	}
	method := v.method.SelectedIndex()
	checks, fields := 0, 0
	try := func(what any, change, undo func()) {
		t.Helper()
		change()
		if !v.changed() {
			t.Errorf("%T: the change is not noticed", what)
		}
		if undo(); v.changed() {
			t.Errorf("%T: changed back it is another one still", what)
		}
	}
	for _, o := range test.LaidOutObjects(v.content()) {
		switch o := o.(type) {
		case *checkBox:
			checks++
			try(o, func() { test.Tap(o) }, func() { test.Tap(o) })
		case *field:
			fields++
			old := o.Text
			try(o, func() { o.SetText(old + "x") }, func() { o.SetText(old) })
		}
	}
	if checks < 5 || fields < 15 {
		t.Errorf("only %d checks and %d fields were tried", checks, fields)
	}
	try(v.method, func() { v.method.SetSelectedIndex(method + 1) }, func() { v.method.SetSelectedIndex(method) })
	v.entry.Profile.CA = []string{"a"}
	if !v.changed() {
		t.Error("an authority more is not noticed")
	}
}

// TestReadingAConversation: new messages leave what is read where it is, and chosen; who
// is at the end stays there.
func TestReadingAConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		test.NewTempApp(t)
		v := newConversationView(&keys{}, nil, nil, nil, nil)
		w := test.NewTempWindow(t, v.content())
		w.Resize(fyne.NewSize(460, 500))
		second := 0
		say := func(n int) (records []*app.LogRecord) {
			for range n {
				r := said("c1", second, sentRecord, "QUICK_MODE", fmt.Sprintf("%08x", second), "HASH 32 bytes")
				second++
				records = append(records, r)
			}
			return records
		}
		v.take(say(40), true)
		bottom := v.list.GetScrollOffset()
		if bottom == 0 {
			t.Fatal("the end is not shown")
		}
		v.take(say(10), false)
		if v.list.GetScrollOffset() <= bottom {
			t.Error("the end is not followed")
		}
		v.list.Select(3)
		v.list.ScrollToTop()
		v.whole.SetText("what is read")
		v.take(say(1), false)
		if at := v.list.GetScrollOffset(); at != 0 || v.whole.Text != "what is read" {
			t.Errorf("at %v is %q", at, v.whole.Text)
		}
		v.list.ScrollToOffset(10 * (v.rung + 4))
		before := v.list.GetScrollOffset()
		top := v.shown[10].id
		v.held = v.held[4:]
		v.take(say(1), false) // the oldest are no longer kept
		if moved := before - v.list.GetScrollOffset(); v.shown[6].id != top || moved != v.room(v.shown[:4]) {
			t.Errorf("moved by %v, not %v", moved, v.room(v.shown[:4]))
		}
	})
}

// TestTrayTooltip: it is no menu, and nothing of it is escaped.
func TestTrayTooltip(t *testing.T) {
	name := "my_vpn & co"
	m := trayModel([]string{name}, inState("c1", name, app.StateConnected))
	if got := trayTooltip(m); got != "Wayfarer\nmy_vpn & co: Connected" {
		t.Errorf("got %q", got)
	}
	if got, want := trayRows(m, false)[0].label, mnemonicFree(name)+": Connected"; got != want {
		t.Errorf("the menu says %q, want %q", got, want)
	}
}

package gui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// warningCodes finds the codes of all warnings that engine and service can give, in
// their sources: what is set as Code of a warning or an event, what the methods named
// warn get first, and the constants of package app.
func warningCodes(t *testing.T) map[string]bool {
	codes := map[string]bool{}
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			code, _ := strconv.Unquote(lit.Value)
			codes[code] = true
		}
	}
	for _, dir := range []string{"../../app", "../daemon", "../../ike"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, src, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
						add(n.Value)
					}
				case *ast.CallExpr:
					if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "warn" && len(n.Args) == 2 {
						add(n.Args[0])
					}
				case *ast.ValueSpec:
					for i, name := range n.Names {
						if strings.HasPrefix(name.Name, "Warning") && i < len(n.Values) || name.Name == "code" {
							add(n.Values[i])
						}
					}
				}
				return true
			})
		}
	}
	return codes
}

// Whatever engine and service warn of has words here.
func TestEveryWarningHasWords(t *testing.T) {
	codes := warningCodes(t)
	for _, code := range []string{
		"weak-crypto", "weak-certificate", "psk-aggressive", "sha256-96", "compression", "gateway-settings", "network-refused",
		"route-not-covered", "no-office-address", app.WarningNoSave, app.WarningLastAttempt, app.WarningConflict,
	} {
		if !codes[code] {
			t.Errorf("%s was not found in the sources", code)
		}
	}
	lower := regexp.MustCompile(`^[a-z0-9-]+$`)
	for code := range codes {
		if r := remarkOn(code); !lower.MatchString(code) || r.advice == "" || r.headline == "Note" {
			t.Errorf("%q has the headline %q and the advice %q", code, r.headline, r.advice)
		}
	}
}

func TestWarnings(t *testing.T) {
	test.NewTempApp(t)
	v := newWarningsView()
	test.NewTempWindow(t, v.content())
	shown := func() (texts []string) {
		for _, o := range test.LaidOutObjects(v.content()) {
			if l, ok := o.(*widget.Label); ok {
				texts = append(texts, l.Text)
			}
		}
		return texts
	}
	v.update(wholeOffice().Warnings)
	got := strings.Join(shown(), "|")
	const want = "Your local network has the addresses of a company network|" +
		"If a device is not reached, ask your administrator, or change the addresses in your router.|" +
		"the local network is 192.168.1.0/24\nthe local router is 192.168.1.1|" +
		"The gateway forbids saving the password|You will be asked for it each time.|the gateway forbids storing the password"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	first := v.box.Objects[0]
	if v.update(wholeOffice().Warnings); v.box.Objects[0] != first {
		t.Error("the same warnings were made anew")
	}
	v.update([]app.Warning{{Code: "new", Severity: app.SeverityInfo, Text: "a\u202etext"}})
	if got := strings.Join(shown(), "|"); got != "Note|atext" {
		t.Errorf("an unknown one is shown as %q", got)
	}
	if v.update(nil); len(v.box.Objects) != 0 {
		t.Error("a warning that is over is shown")
	}
}

package gui

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wayfarer/assets"
)

var updateEnglish = flag.Bool("update-english", false, "write the English catalogue anew, from the texts in the code")

const englishCatalogue = "../../assets/translations/en.json"

// sources are the packages with texts for people.
var sources = []string{".", "../../cmd/wayfarer-gui"}

// Catalogues have the texts that the code has, no more and no fewer, and each text has
// in each language the same places for values.
func TestCatalogues(t *testing.T) {
	keys := textsInCode(t)
	if *updateEnglish {
		writeEnglish(t, keys)
	}
	for _, l := range languages[1:] {
		t.Run(l.code, func(t *testing.T) {
			catalogue := readCatalogue(t, l.code)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				text, ok := catalogue[key]
				switch {
				case !ok:
					t.Errorf("missing: %q (%s)", key, keys[key])
				case text == "":
					t.Errorf("empty: %q", key)
				case !slices.Equal(places(key), places(text)):
					t.Errorf("%q has the places %v, its translation %q has %v", key, places(key), text, places(text))
				case l.code == "en" && text != key:
					t.Errorf("the English catalogue says %q for %q", text, key)
				}
			}
			for _, key := range slices.Sorted(maps.Keys(catalogue)) {
				if keys[key] == "" {
					t.Errorf("unused: %q", key)
				}
			}
		})
	}
}

// A catalogue of another file than those of the list would never be offered.
func TestEveryCatalogueIsALanguage(t *testing.T) {
	files, err := fs.Glob(assets.Translations, "translations/*.json")
	if err != nil || len(files) != len(languages)-1 {
		t.Errorf("%d catalogues for %d languages, %v", len(files), len(languages)-1, err)
	}
	for _, file := range files {
		if code := strings.TrimSuffix(filepath.Base(file), ".json"); languageIndex(code) == 0 {
			t.Errorf("%s is in no list", file)
		}
	}
}

// place is where a value is put into a text.
var place = regexp.MustCompile(`\{\{[^}]*\}\}`)

func places(text string) []string { return slices.Sorted(slices.Values(place.FindAllString(text, -1))) }

func readCatalogue(t *testing.T, code string) map[string]string {
	t.Helper()
	data, err := assets.Translations.ReadFile("translations/" + code + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var catalogue map[string]string
	if err := json.Unmarshal(data, &catalogue); err != nil {
		t.Fatal(err)
	}
	return catalogue
}

func writeEnglish(t *testing.T, keys map[string]string) {
	t.Helper()
	catalogue := map[string]string{}
	for key := range keys {
		catalogue[key] = key
	}
	file, err := os.Create(englishCatalogue)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := json.NewEncoder(file)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(catalogue); err != nil {
		t.Fatal(err)
	}
	t.Skip("the English catalogue was written; the program that is tested has the one from before")
}

// textsInCode are the texts that calls of lang.L have, with the place of one of them.
func textsInCode(t *testing.T) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, dir := range sources {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !translates(call.Fun) {
					return true
				}
				at := set.Position(call.Pos())
				key, err := literal(call.Args[0])
				if err != nil {
					t.Errorf("%v: %v", at, err)
				} else {
					keys[key] = fmt.Sprintf("%s:%d", filepath.Base(at.Filename), at.Line)
				}
				return true
			})
		}
	}
	if len(keys) == 0 {
		t.Fatal("no texts were found")
	}
	return keys
}

// translates says whether a function is lang.L. Others of that package would need
// catalogues of another form.
func translates(f ast.Expr) bool {
	selector, ok := f.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "lang" && slices.Contains([]string{"L", "N", "X", "XN", "Localize", "LocalizeKey"}, selector.Sel.Name)
}

// literal is a string, or several that are added.
func literal(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.BinaryExpr:
		left, err := literal(e.X)
		if err != nil || e.Op != token.ADD {
			return "", fmt.Errorf("not a literal text: %v", err)
		}
		right, err := literal(e.Y)
		return left + right, err
	}
	return "", fmt.Errorf("not a literal text, so nobody can translate it")
}

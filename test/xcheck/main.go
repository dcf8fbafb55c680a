// Xcheck type-checks packages, and all that they import, for a system whose C compiler and
// headers are not here: it takes whatever a package says of C for granted.
//
//	go run ./test/xcheck darwin/arm64 ./cmd/wayfarer-gui
//
// It proves that the Go code of the window's program fits together there, not that its
// libraries' C code does.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: xcheck GOOS/GOARCH PACKAGE...")
		os.Exit(2)
	}
	bad, n, err := check(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "xcheck:", err)
		os.Exit(2)
	}
	for _, err := range bad {
		fmt.Fprintln(os.Stderr, err)
	}
	if len(bad) > 0 {
		os.Exit(1)
	}
	fmt.Printf("%s: %d packages fit together\n", os.Args[1], n)
}

// pkg is what the go command tells of a package.
type pkg struct {
	ImportPath, Dir   string
	GoFiles, CgoFiles []string
	ImportMap         map[string]string
	Module            *struct {
		Main      bool
		GoVersion string
	}
	Error *struct{ Err string }
}

// check lists what is wrong with the packages named and all that they import, of which
// there are n. The error is of finding them.
func check(target string, names []string) (bad []error, n int, err error) {
	goos, goarch, ok := strings.Cut(target, "/")
	sizes := types.SizesFor("gc", goarch)
	if !ok || sizes == nil {
		return nil, 0, fmt.Errorf("%q is no system and architecture", target)
	}
	packages, err := list(goos, goarch, names)
	if err != nil {
		return nil, 0, err
	}
	fset, done := token.NewFileSet(), map[string]*types.Package{"unsafe": types.Unsafe}
	for _, p := range packages { // each behind what it imports
		if p.ImportPath == "unsafe" {
			continue
		}
		n++
		if p.Error != nil {
			bad = append(bad, fmt.Errorf("%s: %s", p.ImportPath, p.Error.Err))
		}
		done[p.ImportPath], err = p.check(fset, sizes, done)
		if err != nil {
			bad = append(bad, err)
		}
	}
	return bad, n, nil
}

// list is the packages and all that they import, each behind what it imports.
func list(goos, goarch string, names []string) ([]*pkg, error) {
	cmd := exec.Command("go", append([]string{"list", "-e", "-deps", "-json", "--"}, names...)...)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var packages []*pkg
	for d := json.NewDecoder(out); ; {
		p := new(pkg)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return packages, cmd.Wait()
		} else if err != nil {
			return nil, errors.Join(err, cmd.Wait())
		}
		packages = append(packages, p)
	}
}

// check type-checks one package, whose imports are done. Of packages that are not the
// project's only the declarations are looked at.
func (p *pkg) check(fset *token.FileSet, sizes types.Sizes, done map[string]*types.Package) (*types.Package, error) {
	var found []error
	var files []*ast.File
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			found = append(found, err)
			continue
		}
		files = append(files, file)
	}
	config := types.Config{
		FakeImportC: true, IgnoreFuncBodies: p.Module == nil || !p.Module.Main, Sizes: sizes,
		Importer: importer(func(path string) (*types.Package, error) {
			if other, ok := p.ImportMap[path]; ok {
				path = other
			}
			if imported := done[path]; imported != nil {
				return imported, nil
			}
			return nil, fmt.Errorf("%s was not listed", path)
		}),
		Error: func(err error) { found = append(found, err) },
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		config.GoVersion = "go" + p.Module.GoVersion
	}
	checked, _ := config.Check(p.ImportPath, fset, files, nil) // found has its errors
	return checked, errors.Join(found...)
}

type importer func(path string) (*types.Package, error)

// Import implements types.Importer.
func (i importer) Import(path string) (*types.Package, error) { return i(path) }

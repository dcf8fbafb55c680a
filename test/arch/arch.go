package arch

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Violation is one import or constraint that stands where it must not.
type Violation struct {
	File   string // slash-separated, from the module's root
	Detail string
}

func (v Violation) String() string { return v.File + ": " + v.Detail }

// rule says what the packages at and below a folder may import.
type rule struct {
	dir string
	// project lists the folders of this module that may be imported; a folder
	// stands for itself, and with "/..." for itself and all below. The rule's own
	// folder tree needs no entry, unless exact is set.
	project []string
	// exact: the rule is for this folder alone, and its own tree is not free.
	exact  bool
	std    bool // nothing but the standard library and project
	fyne   bool
	exec   bool // os/exec
	target bool // build constraints and GOOS or GOARCH suffixes
}

// rules is the diagram of the design. The first row whose folder matches counts.
var rules = []rule{
	{dir: "app", exact: true, std: true},
	{dir: "app/profiles", project: []string{"app"}},
	{dir: "app/store", project: []string{"app", "app/control", "app/profiles"}},
	{dir: "app/control", project: []string{"app"}, target: true},
	{dir: "app/daemon", project: []string{"app", "app/control", "app/profiles", "ike", "ike/isakmp", "tun/...", "platform/..."}},
	{dir: "app/gui", project: []string{"app", "app/control", "app/profiles", "app/store", "assets/..."}, fyne: true},

	{dir: "ike", exact: true, project: []string{"ike/isakmp", "ike/esp"}},
	{dir: "ike/isakmp"},
	{dir: "ike/esp"},
	{dir: "ike/gateway", project: []string{"ike/isakmp", "ike/esp"}},

	{dir: "tun", target: true},
	{dir: "platform", exec: true, target: true},
	{dir: "assets"},
	{dir: "installer"},

	{dir: "cmd/wayfarerd", project: []string{"app", "app/control", "app/daemon"}, exec: true, target: true},
	{dir: "cmd/wayfarer", project: []string{
		"app", "app/control", "app/profiles", "app/store", "app/daemon", "ike", "ike/gateway", "tun/...", "platform/...", "assets/...",
	}, exec: true, target: true},
	{dir: "cmd/wayfarer-gui", project: []string{
		"app", "app/control", "app/profiles", "app/store", "app/gui/...", "platform/...", "assets/...",
	}, fyne: true, exec: true, target: true},
}

// kernel is the one part of the project that is written in assembly, because the
// standard library leaves half of the AES instructions' speed unused in CBC mode, and
// what chooses it: the only files outside of the folders above that are for some targets.
var kernel = []string{
	"ike/esp/aescbc.go", "ike/esp/aescbc_none.go", "ike/esp/aescbc_amd64.s", "ike/esp/aescbc_arm64.s",
}

func within(dir, root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") }

func ruleFor(dir string) *rule {
	i := slices.IndexFunc(rules, func(r rule) bool {
		return dir == r.dir || !r.exact && within(dir, r.dir)
	})
	if i < 0 {
		return nil
	}
	return &rules[i]
}

// allows says whether the rule's packages may import the module's folder dir.
func (r *rule) allows(dir string) bool {
	if !r.exact && within(dir, r.dir) {
		return true
	}
	return slices.ContainsFunc(r.project, func(p string) bool {
		if tree, ok := strings.CutSuffix(p, "/..."); ok {
			return within(dir, tree)
		}
		return dir == p
	})
}

// Check reads all Go files of the module, whose root is fsys, and lists what breaks
// the rules, and files in assembly, in the order of the files. The error is of reading or parsing.
func Check(fsys fs.FS, module string) ([]Violation, error) {
	var found []Violation
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && skipDir(name, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(strings.ToLower(name), ".s") && !slices.Contains(kernel, name) {
			found = append(found, Violation{name, "assembly outside of the AES kernel"})
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		details, err := checkFile(fsys, name, module)
		for _, detail := range details {
			found = append(found, Violation{name, detail})
		}
		return err
	})
	return found, err
}

// skipDir: what the go command ignores, and test/, which is exempt.
func skipDir(name, base string) bool {
	return name == "test" || base == "testdata" || base == "vendor" ||
		strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
}

func checkFile(fsys fs.FS, name, module string) ([]string, error) {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return nil, err
	}
	dir := path.Dir(name)
	r := ruleFor(dir)
	if r == nil {
		return []string{fmt.Sprintf("folder %s has no place in the layout", dir)}, nil
	}
	var details []string
	if why := targeted(name, file); why != "" && !r.target && !slices.Contains(kernel, name) {
		details = append(details, why+" outside of platform, tun, app/control and cmd")
	}
	for _, spec := range file.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if why := r.refuses(imp, module); why != "" {
			details = append(details, fmt.Sprintf("imports %s: %s", imp, why))
		}
	}
	return details, nil
}

// refuses says why imp must not be imported; empty if it may.
func (r *rule) refuses(imp, module string) string {
	dir, ours := strings.CutPrefix(imp, module+"/")
	first, _, _ := strings.Cut(imp, "/")
	switch {
	case ours && !r.allows(dir):
		return "against the import direction"
	case ours:
		return ""
	case imp == "os/exec" && !r.exec:
		return "programs are started in platform and cmd only"
	case first == "fyne.io" && !r.fyne:
		return "Fyne stays below app/gui, and its driver in the program with the window"
	case strings.Contains(first, ".") && r.std:
		return "nothing but the standard library here"
	}
	return ""
}

// targeted says what binds a file to some targets; empty if nothing does.
func targeted(name string, file *ast.File) string {
	parts := strings.Split(strings.TrimSuffix(path.Base(name), ".go"), "_")
	for _, p := range parts[1:] {
		if slices.Contains(targets, p) {
			return "file name suffix _" + p
		}
	}
	for _, group := range file.Comments {
		if group.Pos() > file.Package {
			break
		}
		for _, c := range group.List {
			if constraint.IsGoBuild(c.Text) {
				return "build constraint " + c.Text
			}
		}
	}
	return ""
}

// targets are the GOOS and GOARCH values that the go command knows in file names
// and that anybody might use here.
var targets = []string{
	"linux", "darwin", "windows", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos", "aix",
	"android", "ios", "js", "wasip1", "plan9",
	"amd64", "arm64", "386", "arm", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le",
	"riscv64", "s390x", "wasm",
}

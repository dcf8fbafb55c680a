package packages

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// source is the module's root.
const source = "../.."

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(source, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for i := range files {
		files[i], _ = filepath.Rel(source, files[i])
	}
	return files
}

// TestContents: the packages list what there is, and all of it.
func TestContents(t *testing.T) {
	listed := make(map[string]bool)
	fromSource := regexp.MustCompile(`(?:src|postinstall|preremove|postremove): (installer/[^ ,\n]+|LICENSE)`)
	destination := regexp.MustCompile(`(?m)^  - .*dst: ([^ ,]+)(.*)$`)
	for _, config := range glob(t, "installer/linux/*.yaml") {
		content, err := os.ReadFile(filepath.Join(source, config))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range fromSource.FindAllStringSubmatch(string(content), -1) {
			listed[match[1]] = true
			if _, err := os.Stat(filepath.Join(source, match[1])); err != nil {
				t.Errorf("%s: %v", config, err)
			}
		}
		for _, match := range destination.FindAllStringSubmatch(string(content), -1) {
			if strings.HasPrefix(match[1], "/etc/") && !strings.Contains(match[2], "type: dir") {
				t.Errorf("%s: %s would be the administrator's to change, and asked about at upgrades", config, match[1])
			}
			if !strings.Contains(match[2], "mode: 0") && !strings.Contains(match[2], "type: ") {
				t.Errorf("%s: %s has the rights of the file here", config, match[1])
			}
		}
	}
	for _, file := range slices.Concat(glob(t, "installer/linux/*.*"), glob(t, "installer/linux/scripts/*")) {
		if filepath.Ext(file) != ".yaml" && file != "installer/linux/wayfarer-gui.1" && !listed[file] {
			t.Errorf("%s is in no package", file)
		}
	}
}

// scripts are all of the project's, and what is sourced by them, by their first line: paths from its top.
func scripts(t *testing.T) (list []string) {
	t.Helper()
	err := filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, path)
		if entry.IsDir() && (name == "build" || name == ".git") {
			return fs.SkipDir
		}
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(name) == ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if line, _, _ := bytes.Cut(text, []byte("\n")); shebang.Match(line) {
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// shebang is the first line of a script; its group is the shell.
var shebang = regexp.MustCompile(`^(?:#!/(?:usr/)?bin/(?:env )?|# shellcheck shell=)(sh|bash)$`)

// TestScripts has shells and shellcheck read the scripts.
func TestScripts(t *testing.T) {
	list := scripts(t)
	for _, script := range list {
		text, err := os.ReadFile(filepath.Join(source, script))
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		path, err := exec.LookPath(string(shebang.FindSubmatch(line)[1]))
		if err != nil {
			t.Logf("%s is not read: %v", script, err)
			continue
		}
		if out, err := exec.Command(path, "-n", filepath.Join(source, script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	for _, script := range []string{"installer/version", "installer/linux/scripts/deb.postinst", "installer/macos/uninstall.sh", "test/lab/lab", "test/lab/lib/base.sh"} {
		if !slices.Contains(list, script) {
			t.Errorf("%s is not in the list: %v", script, list)
		}
	}
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("shellcheck", append([]string{"--exclude=SC1091"}, list...)...)
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDesktop: desktops and software centres understand what they are told of the window.
func TestDesktop(t *testing.T) {
	for _, command := range [][]string{
		{"desktop-file-validate", "installer/linux/io.github.wayfarer.desktop"},
		{"appstreamcli", "validate", "--no-net", "installer/linux/io.github.wayfarer.metainfo.xml"},
	} {
		t.Run(command[0], func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Dir = source
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestVersions: what git says becomes versions that dpkg orders as they were made.
func TestVersions(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.test"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z", "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("init", "--quiet")
	script, err := os.ReadFile(filepath.Join(source, "installer/version"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "version"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, step := range []struct {
		tag  string // empty: only a commit
		want string
	}{
		{"", `0\.0\.0~git20260102\.[0-9a-f]{7,}`},
		{"v0.9.0-rc1", `0\.9\.0~rc1`},
		{"", `0\.9\.0~rc1\+1\.g[0-9a-f]{7,}`},
		{"v0.9.0", `0\.9\.0`},
		{"", `0\.9\.0\+1\.g[0-9a-f]{7,}`},
		{"v0.10.0", `0\.10\.0`},
	} {
		git("commit", "--quiet", "--allow-empty", "--message", "a")
		if step.tag != "" {
			git("tag", step.tag)
		}
		out, err := exec.Command(filepath.Join(dir, "version")).Output()
		version := strings.TrimSpace(string(out))
		if err != nil || !regexp.MustCompile("^"+step.want+"$").MatchString(version) {
			t.Errorf("%q: %s, %v; want %s", step.tag, version, err, step.want)
		}
		versions = append(versions, version)
	}
	shallow := filepath.Join(t.TempDir(), "shallow")
	git("clone", "--quiet", "--depth=1", "--no-tags", "file://"+dir, shallow)
	if err := os.WriteFile(filepath.Join(shallow, "version"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(shallow, "version")).CombinedOutput(); err != nil || !strings.Contains(string(out), "the clone is shallow") {
		t.Errorf("of a shallow clone: %q, %v", out, err)
	}
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip(err)
	}
	for i := range versions[1:] {
		if err := exec.Command("dpkg", "--compare-versions", versions[i], "lt", versions[i+1]).Run(); err != nil {
			t.Errorf("%s is not older than %s: %v", versions[i], versions[i+1], err)
		}
	}
}

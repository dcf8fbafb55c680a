package packages

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tc-hib/winres"
	winversion "github.com/tc-hib/winres/version"
)

// parts makes what installer/windows/pack wants to have, of small programs; the second
// result has their versions, by their names in the package. One has none.
func parts(t *testing.T) (dir string, versions map[string]string) {
	t.Helper()
	for _, tool := range []string{"wixl", "msibuild", "msiinfo", "faketime"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	dir, versions = t.TempDir(), make(map[string]string)
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "plain.exe")
	build := exec.Command("go", "build", "-o", plain, source)
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "wayfarer.exe", program)
	for i, name := range []string{"wayfarerd.exe", "wayfarer-gui.exe", "wintun.dll"} {
		numbers := [4]uint16{1, 2, 3, 10000 + uint16(i)}
		info := winversion.Info{FileVersion: numbers}
		if err := info.Set(0x409, winversion.FileVersion, "text"); err != nil {
			t.Fatal(err)
		}
		var set winres.ResourceSet
		set.SetVersionInfo(info)
		var out bytes.Buffer
		if err := set.WriteToEXE(&out, bytes.NewReader(program)); err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, out.Bytes())
		versions[name] = fixedVersion(t, out.Bytes())
	}
	for _, name := range []string{"wayfarer.ico", "LICENSE.txt", "NOTICES.txt", "WINTUN-LICENSE.txt"} {
		write(t, dir, name, []byte(name))
	}
	return dir, versions
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fixedVersion reads a program's version as Windows does: in its VS_FIXEDFILEINFO.
func fixedVersion(t *testing.T, program []byte) string {
	t.Helper()
	_, info, found := bytes.Cut(program, []byte{0xbd, 0x04, 0xef, 0xfe, 0, 0, 1, 0})
	if !found || len(info) < 8 {
		t.Fatal("the program has no version")
	}
	high, low := binary.LittleEndian.Uint32(info), binary.LittleEndian.Uint32(info[4:])
	return fmt.Sprintf("%d.%d.%d.%d", high>>16, high&0xffff, low>>16, low&0xffff)
}

// packMSI runs installer/windows/pack.
func packMSI(t *testing.T, dir string) (file string, err error) {
	t.Helper()
	// "go test" remembers what a test says until a file is changed that it knows of.
	for _, input := range []string{"pack", "tables.sql", "wayfarer.wxs", "version/main.go"} {
		if _, err := os.Stat(filepath.Join(source, "installer/windows", input)); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "w.msi")
	cmd := exec.Command("sh", filepath.Join(source, "installer/windows/pack"), dir, "amd64", "1.2.3~rc1", file)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1600000000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return file, err
}

// rows are those of a package's table, by their first columns.
func rows(t *testing.T, file, table string) map[string][]string {
	t.Helper()
	out, err := exec.Command("msiinfo", "export", file, table).Output()
	if err != nil {
		t.Fatalf("%s: %v", table, err)
	}
	rows := make(map[string][]string)
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n")[3:] { // below three about the columns
		fields := strings.Split(strings.TrimRight(line, "\r"), "\t")
		rows[fields[0]] = fields
	}
	return rows
}

// TestTables: what Windows does by a package's tables, and Wine does not look at.
func TestTables(t *testing.T) {
	dir, versions := parts(t)
	file, err := packMSI(t, dir)
	if err != nil {
		t.Fatal(err)
	}

	// Without a version Windows leaves alone what is installed, and removes it with the old
	// package; a hash is for files without one.
	hashes := rows(t, file, "MsiFileHash")
	for key, row := range rows(t, file, "File") {
		want, hasVersion := versions[row[2]]
		language := ""
		if hasVersion {
			language = "1033"
		}
		if row[4] != want || row[5] != language || (hashes[key] == nil) != hasVersion {
			t.Errorf("%s: version %q, language %q, hash %v; want version %q", row[2], row[4], row[5], hashes[key], want)
		}
		delete(versions, row[2])
	}
	if len(versions) > 0 {
		t.Errorf("the package has none of %v", slices.Collect(maps.Keys(versions)))
	}

	// With a dialog it is the user's process that searches, and the system's that needs it.
	secure := strings.Split(rows(t, file, "Property")["SecureCustomProperties"][1], ";")
	searched := rows(t, file, "AppSearch")
	for _, property := range append(slices.Collect(maps.Keys(searched)), "AUTOSTART", "PROFILES") {
		if !slices.Contains(secure, property) {
			t.Errorf("%s is not secure", property)
		}
	}
	if len(searched) != 6 {
		t.Errorf("it searches for %v", searched)
	}

	if mode := rows(t, file, "Property")["REINSTALLMODE"]; mode == nil || !strings.Contains(mode[1], "a") {
		t.Errorf("a version that counts less replaces nothing: %v", mode)
	}
	if service := rows(t, file, "ServiceInstall")["InstallService"]; service[5] != "32769" {
		t.Errorf("the service's error control is %s", service[5])
	}
	sequence := rows(t, file, "InstallExecuteSequence")
	for action, condition := range map[string]string{
		"MoveFiles": "PROFILES AND NOT Installed", "DeleteServices": "VersionNT AND NOT UPGRADINGPRODUCTCODE", "EndAllWindows": `REMOVE="ALL"`,
	} {
		if got := sequence[action][1]; got != condition {
			t.Errorf("%s when %s", action, got)
		}
	}

	// The directory is closed as the service closes it.
	content, err := os.ReadFile(filepath.Join(source, "platform/journal_windows.go"))
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`sddl := "(.*)"`).FindSubmatch(content)
	folders := rows(t, file, "CreateFolder")
	for _, row := range rows(t, file, "MsiLockPermissionsEx") {
		if rights == nil || row[3] != string(rights[1]) || row[2] != "CreateFolder" || folders[row[1]] == nil {
			t.Errorf("%v; the service has %s", row, rights)
		}
		delete(folders, row[1])
	}
	if len(folders) > 0 {
		t.Errorf("anybody may read %v", folders)
	}
}

// TestHalfAPackage: where a statement fails nothing is left, which might be taken for a
// package.
func TestHalfAPackage(t *testing.T) {
	dir, _ := parts(t)
	tools := t.TempDir()
	if err := os.WriteFile(filepath.Join(tools, "msibuild"), []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	file, err := packMSI(t, dir)
	if err == nil || !strings.Contains(err.Error(), "installer/windows: INSERT INTO") {
		t.Errorf("it says %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

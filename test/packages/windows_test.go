//go:build packages

package packages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestWindows: the package under Wine; see windows.sh.
func TestWindows(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, who may make the lab's namespaces")
	}
	run(t, nil, "test/wine/prereqs")
	t.Log(run(t, nil, "test/wine/run", "msi"))
}

// sequence is the order of a package's actions, with their conditions, as msiinfo has it.
func sequence(t *testing.T, file, table string) (order map[string]int, conditions map[string]string) {
	t.Helper()
	order, conditions = make(map[string]int), make(map[string]string)
	for line := range strings.Lines(run(t, nil, "msiinfo", "export", file, table)) {
		if f := strings.Split(strings.TrimRight(line, "\r\n"), "\t"); len(f) == 3 {
			conditions[f[0]] = f[1]
			order[f[0]], _ = strconv.Atoi(f[2]) // there are two lines about the columns
		}
	}
	return order, conditions
}

// TestWindowsOrder: Windows refuses what stands in the wrong place, which Wine runs all the
// same; and Wine does not tell an old version that it is replaced.
func TestWindowsOrder(t *testing.T) {
	packages, _ := filepath.Glob(filepath.Join(built, "*.msi"))
	if len(packages) != 2 {
		t.Fatalf("make packages: %v", packages)
	}
	for _, file := range packages {
		file = "build/packages/" + filepath.Base(file) // as run finds it
		order, conditions := sequence(t, file, "InstallExecuteSequence")
		actions := map[string]string{} // to their types
		for line := range strings.Lines(run(t, nil, "msiinfo", "export", file, "CustomAction")) {
			if f := strings.Split(line, "\t"); len(f) > 2 {
				actions[f[0]] = f[1]
			}
		}
		wanted := [][]string{
			{"AppSearch", "KeepAutostart", "InstallValidate", "InstallInitialize", "RemoveExistingProducts", "ProcessComponents"},
			{"StopServices", "RestoreNetwork", "DeleteServices", "RemoveFiles", "MoveFiles", "StartServices", "InstallFinalize"},
		}
		last := []string{"RestoreNetwork"}
		if !strings.Contains(file, "-without-wintun") {
			last = append(last, "DeleteDriver")
			wanted = append(wanted, []string{"StopServices", "DeleteDriver", "RemoveFiles"})
		}
		window := !strings.Contains(file, "-without-window")
		if window {
			last = append(last, "ForgetLogin", "ForgetApproval")
			wanted = append(wanted, []string{"CostFinalize", "EndWindow", "InstallValidate", "EndAllWindows", "RemoveFiles", "InstallFinalize", "ReturnWindow"})
		}
		for _, list := range wanted {
			if !slices.IsSortedFunc(list, func(a, b string) int { return order[a] - order[b] }) || order[list[0]] == 0 {
				t.Errorf("%s: %v is not the order: %v", file, list, order)
			}
		}
		for _, action := range last {
			if conditions[action] != `REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE` {
				t.Errorf("%s: %s when %s", file, action, conditions[action])
			}
		}
		for action, kind := range actions {
			bits, _ := strconv.Atoi(kind)
			deferred := bits&0x400 != 0 && order[action] != 0
			if deferred && (order[action] < order["InstallInitialize"] || order[action] > order["InstallFinalize"]) {
				t.Errorf("%s: %s stands outside of the transaction", file, action)
			}
		}
		shown, _ := sequence(t, file, "InstallUISequence")
		if window != (shown["ShowWindow"] > shown["ExecuteAction"]) {
			t.Errorf("%s: the window is shown at %d", file, shown["ShowWindow"])
		}
	}
}

// windowsClone is a copy of the sources with the programs for Windows that have been built.
func windowsClone(t *testing.T) string {
	t.Helper()
	clone := t.TempDir()
	run(t, nil, "git", "clone", "--quiet", ".", clone)
	run(t, nil, "mkdir", "-p", clone+"/build")
	for _, dir := range []string{"windows", "icons"} {
		if _, err := os.Stat(filepath.Join(root, "build", dir)); err != nil {
			t.Skipf("%v; make packages-windows", err)
		}
		run(t, nil, "cp", "-r", "build/"+dir, clone+"/build/")
	}
	return clone
}

// TestWindowsSigned: with a certificate, packages and the programs in them are signed by it.
func TestWindowsSigned(t *testing.T) {
	clone, dir := windowsClone(t), t.TempDir()
	run(t, nil, "openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", "2", "-subj", "/CN=Throw-away",
		"-addext", "extendedKeyUsage=codeSigning", "-keyout", dir+"/key.pem", "-out", dir+"/cert.pem")
	run(t, nil, "openssl", "pkcs12", "-export", "-inkey", dir+"/key.pem", "-in", dir+"/cert.pem", "-passout", "pass:secret", "-out", dir+"/cert.p12")
	if err := os.WriteFile(dir+"/pass", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, []string{"SIGN_WINDOWS_CERT=" + dir + "/cert.p12", "SIGN_WINDOWS_PASS=" + dir + "/pass"}, clone+"/installer/windows/build")

	packages, _ := filepath.Glob(clone + "/build/packages/*.msi")
	if len(packages) != 2 {
		t.Fatalf("packages %v", packages)
	}
	for _, file := range packages {
		parts := t.TempDir()
		run(t, nil, "msiextract", "--directory", parts, file)
		var programs []string
		for line := range strings.Lines(run(t, nil, "find", parts, "-name", "*.exe")) {
			programs = append(programs, strings.TrimSpace(line))
		}
		if len(programs) < 2 {
			t.Errorf("%s has %v", file, programs)
		}
		for _, signed := range append(programs, file) {
			run(t, nil, "osslsigncode", "verify", "-ignore-crl", "-CAfile", dir+"/cert.pem", "-in", signed)
			// What is signed is not another file.
			content, err := os.ReadFile(signed)
			if err != nil {
				t.Fatal(err)
			}
			other := filepath.Join(t.TempDir(), "other"+filepath.Ext(signed))
			content[len(content)/2] ^= 1
			if err := os.WriteFile(other, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if exec.Command("osslsigncode", "verify", "-ignore-crl", "-CAfile", dir+"/cert.pem", "-in", other).Run() == nil {
				t.Errorf("%s: another file has the same signature", signed)
			}
		}
	}
	// A certificate that is not there is no reason to go on without.
	build := exec.Command(clone + "/installer/windows/build")
	build.Env = append(os.Environ(), "SIGN_WINDOWS_CERT="+dir+"/none.p12")
	if out, err := build.CombinedOutput(); err == nil || !strings.Contains(string(out), "cannot be read") {
		t.Errorf("without the certificate: %v\n%s", err, out)
	}
}

// TestWintun: only the library whose contents are known goes into a package, and a package
// without it says so in its name.
func TestWintun(t *testing.T) {
	clone := windowsClone(t)
	wrong := filepath.Join(t.TempDir(), "amd64", "wintun.dll")
	if err := os.MkdirAll(filepath.Dir(wrong), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wrong, []byte("MZ"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(env ...string) ([]byte, error) {
		cmd := exec.Command(clone + "/installer/windows/build")
		cmd.Env = append(os.Environ(), env...)
		return cmd.CombinedOutput()
	}
	if out, err := build("WINTUN_DLL=" + filepath.Dir(filepath.Dir(wrong))); err == nil || !bytes.Contains(out, []byte("is not Wintun 0.14.1")) {
		t.Errorf("with another library: %v\n%s", err, out)
	}
	out, err := build("WINTUN_DLL="+wrong, "SIGN_WINDOWS_CERT=")
	if err != nil || !bytes.Contains(out, []byte("cannot connect until wintun.dll lies beside its programs")) {
		t.Errorf("without the library: %v\n%s", err, out)
	}
	packages, _ := filepath.Glob(clone + "/build/packages/*-without-wintun_*.msi")
	if len(packages) != 2 {
		t.Errorf("packages %v", packages)
	}
}

//go:build packages

package packages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	root  = "../.." // of the module
	built = root + "/build/packages"
	// older is a version before any that git gives.
	older = "0.0.0~before"
	// aBoot bounds what runs in a container, with its start and end.
	aBoot = 5 * time.Minute
)

func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func version(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(run(t, nil, "installer/version"))
}

func debian(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, who may start containers")
	}
	dir := os.Getenv("PACKAGES_ROOT")
	if dir == "" {
		dir = "/var/tmp/wayfarer-packages"
	}
	if _, err := os.Stat(filepath.Join(dir, "etc")); err != nil {
		t.Skipf("%v; test/packages/prereqs makes it", err)
	}
	return dir
}

// stage is what the container finds in /test.
func stage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	scripts, err := filepath.Glob("*.sh")
	if err != nil {
		t.Fatal(err)
	}
	built, err := filepath.Glob(built + "/wayfarer*")
	if err != nil || len(built) == 0 {
		t.Fatalf("there are no packages, make packages: %v", err)
	}
	for to, files := range map[string][]string{".": append(scripts, "rpmlint.toml"), "packages": built, "old": nil} {
		to = filepath.Join(dir, to)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// pack makes the packages of an older version, of what has been built.
func pack(t *testing.T, dir string) {
	t.Helper()
	env := []string{"VERSION=" + older, "ARCH=" + runtime.GOARCH, "MAINTAINER=Test <test@example.test>"}
	for _, name := range []string{"wayfarer", "wayfarer-gui"} {
		content, err := os.ReadFile(filepath.Join(root, "installer/linux", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(dir, name+".yaml") // xz takes its time
		if err := os.WriteFile(config, bytes.ReplaceAll(content, []byte("compression: xz"), []byte("compression: gzip")), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"deb", "rpm"} {
			run(t, env, "build/tools/nfpm", "package", "--config", config, "--packager", form, "--target", dir+"/old/")
		}
	}
}

// boot has the container's systemd run one of the scripts, in a network namespace or in
// one of its own. Nothing that it changes is kept.
func boot(t *testing.T, dir, script, namespace string, env ...string) {
	t.Helper()
	debian := debian(t)
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	env = append(env, "VERSION="+version(t), "OLD="+older, "ARCH="+runtime.GOARCH, "RPMARCH="+arch)
	unit := "[Unit]\nWants=multi-user.target\nAfter=multi-user.target\nSuccessAction=exit\nFailureAction=exit\n" +
		"[Service]\nType=oneshot\nTimeoutStartSec=infinity\nWorkingDirectory=/root\nStandardOutput=append:/test/log\nStandardError=append:/test/log\n" +
		"EnvironmentFile=/test/env\nExecStart=/bin/bash /test/" + script + "\n"
	for name, content := range map[string]string{"test.service": unit, "env": strings.Join(env, "\n") + "\n", "log": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{
		"--quiet", "--directory=" + debian, "--volatile=overlay", "--boot", "--register=no", "--keep-unit", "--resolv-conf=off",
		"--bind=" + dir + ":/test", "--bind-ro=" + dir + "/test.service:/etc/systemd/system/test.service",
		"--bind=/dev/net/tun", "--capability=CAP_NET_ADMIN",
	}
	if namespace == "" {
		args = append(args, "--private-network")
	} else {
		args = append(args, "--network-namespace-path="+namespace)
	}
	ctx, cancel := context.WithTimeout(t.Context(), aBoot)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemd-nspawn", append(args, "--", "--unit=test.service")...)
	console, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Logf("%s\n%s", script, log)
	if err != nil {
		t.Errorf("%s: %v", script, err)
		if len(log) == 0 {
			t.Logf("the console\n%s", console)
		}
	}
}

// lab starts the lab, and gives the namespace of a client and the variables of a profile.
func lab(t *testing.T, dir string) (namespace string, env []string) {
	t.Helper()
	name := os.Getenv("LAB_NAME")
	if name == "" {
		name = "wpk"
	}
	labEnv := []string{"LAB_NAME=" + name}
	t.Cleanup(func() { run(t, labEnv, "test/lab/lab", "down") })
	run(t, labEnv, "test/lab/lab", "up")
	values := make(map[string]string)
	for line := range strings.Lines(run(t, labEnv, "test/lab/lab", "profile", "hybrid")) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	ca, err := os.ReadFile(values["CA"])
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{"ca.pem": ca, "password": []byte(values["PASSWORD"] + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	reachable, _, _ := strings.Cut(values["REACHABLE"], ",")
	return "/run/netns/" + name + "-rw2", []string{
		"REACHABLE=" + reachable, "GATEWAY=" + values["GATEWAY"], `REMOTE_ID="` + values["REMOTE_ID"] + `"`,
		`WAYFARER="` + strings.ReplaceAll(values["WAYFARER"], values["CA"], "/test/ca.pem") + `"`,
	}
}

// TestInstalled: the packages in a real system, whose service reaches a gateway.
func TestInstalled(t *testing.T) {
	debian(t)
	dir := stage(t)
	pack(t, dir)
	for _, script := range []string{"deb.sh", "rpm.sh"} {
		t.Run(script, func(t *testing.T) {
			namespace, env := lab(t, dir)
			boot(t, dir, script, namespace, env...)
		})
	}
}

// TestLinters: lintian and rpmlint find no error, and nothing to warn of.
func TestLinters(t *testing.T) { boot(t, stage(t), "lint.sh", "") }

// TestSameBytes: who builds the commit again, in another place, gets the same packages.
func TestSameBytes(t *testing.T) {
	if out := run(t, nil, "git", "status", "--porcelain", "--untracked-files=no"); out != "" {
		t.Skipf("the packages are not of the commit:\n%s", out)
	}
	sums := func(dir string) map[string][sha256.Size]byte {
		sums := make(map[string][sha256.Size]byte)
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, file := range files {
			if content, err := os.ReadFile(file); err == nil && !strings.HasPrefix(filepath.Base(file), "SHA256SUMS") {
				sums[filepath.Base(file)] = sha256.Sum256(content)
			}
		}
		return sums
	}
	first := sums(built)
	other := filepath.Join(t.TempDir(), "again")
	run(t, nil, "git", "clone", "--quiet", ".", other)
	cmd := exec.Command("make", "packages")
	cmd.Dir, cmd.Env = other, append(os.Environ(), "SIGN_GPG_KEY=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make packages: %v\n%s", err, out)
	}
	second := sums(other + "/build/packages")
	for name, sum := range second {
		if first[name] != sum {
			t.Errorf("%s is another one", name)
		}
	}
	if len(first) != len(second) || len(first) == 0 {
		t.Errorf("%d files, and then %d", len(first), len(second))
	}
}

// TestBills: a program's bill of materials has the modules that it was linked with, and what
// is shipped beside it.
func TestBills(t *testing.T) {
	for _, tt := range []struct{ system, dir, suffix string }{
		{"linux", "packages/.linux/" + runtime.GOARCH, ""}, {"windows", "windows/amd64", ".exe"}, {"darwin", "macos", ""},
	} {
		for _, program := range []string{"wayfarer", "wayfarerd", "wayfarer-gui"} {
			info, err := buildinfo.ReadFile(filepath.Join(root, "build", tt.dir, program+tt.suffix))
			file := filepath.Join(built, program+"_"+version(t)+"_"+tt.system+".cdx.json")
			if errors.Is(err, fs.ErrNotExist) && program == "wayfarer-gui" {
				t.Logf("%s has no window here", tt.system)
				if _, err := os.Stat(file); err == nil {
					t.Errorf("%s is of nothing", file)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"std@" + info.GoVersion}
			for _, module := range info.Deps {
				want = append(want, module.Path+"@"+module.Version)
			}
			if tt.system == "windows" && program == "wayfarerd" {
				want = append(want, "wintun.dll@0.14.1", "wintun.dll@0.14.1") // for two kinds of processors
			}
			var bill struct {
				BomFormat  string
				Components []struct{ Name, Version string }
			}
			content, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(content, &bill)
			}
			if err != nil || bill.BomFormat != "CycloneDX" {
				t.Fatalf("%s on %s: %v, %q", program, tt.system, err, bill.BomFormat)
			}
			var got []string
			for _, c := range bill.Components {
				got = append(got, c.Name+"@"+c.Version)
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s on %s: the bill has\n%s\nand the program\n%s", program, tt.system, got, want)
			}
		}
	}
}

// TestSigned: with a key, each package and the checksums are signed by it.
func TestSigned(t *testing.T) {
	home, err := os.MkdirTemp("/tmp", "gpg") // its agent's socket has a short path
	if err != nil {
		t.Fatal(err)
	}
	clone := t.TempDir()
	env := []string{"GNUPGHOME=" + home, "SIGN_GPG_KEY=test@example.test"}
	t.Cleanup(func() {
		run(t, env, "gpgconf", "--kill", "all")
		os.RemoveAll(home)
	})
	run(t, env, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "Test <test@example.test>", "rsa2048", "sign", "never")
	run(t, nil, "git", "clone", "--quiet", ".", clone)
	for _, dir := range []string{"packages", "tools"} {
		to := filepath.Join(clone, "build", dir)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, nil, "cp", "-r", "build/"+dir+"/.", to)
	}
	run(t, env, filepath.Join(clone, "installer/seal"))

	dir := filepath.Join(clone, "build/packages")
	run(t, env, "gpg", "--batch", "--verify", dir+"/SHA256SUMS.asc", dir+"/SHA256SUMS")
	run(t, nil, "sh", "-c", "cd "+dir+" && sha256sum --quiet --check SHA256SUMS")
	key := filepath.Join(clone, "key.asc")
	run(t, env, "gpg", "--batch", "--armor", "--output", key, "--export", "test@example.test")
	database := "--dbpath=" + t.TempDir()
	run(t, nil, "rpmkeys", database, "--import", key)
	rpms, _ := filepath.Glob(dir + "/*.rpm")
	debs, _ := filepath.Glob(dir + "/*.deb")
	if len(rpms) == 0 || len(debs) == 0 {
		t.Fatal("there are no packages")
	}
	for _, file := range rpms {
		if out := run(t, nil, "rpmkeys", database, "--checksig", file); !strings.Contains(out, "signatures OK") {
			t.Errorf("%s", out)
		}
	}
	for _, file := range debs {
		parts := t.TempDir()
		run(t, env, "sh", "-c", fmt.Sprintf("cd %s && ar x %s && cat debian-binary control.tar.* data.tar.* >all && gpg --batch --verify _gpgorigin all",
			parts, file))
		// What is signed is not another package.
		all, err := os.ReadFile(parts + "/all")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(parts+"/all", bytes.Replace(all, []byte("2.0"), []byte("2.1"), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("gpg", "--batch", "--verify", parts+"/_gpgorigin", parts+"/all")
		cmd.Env = append(os.Environ(), env...)
		if cmd.Run() == nil {
			t.Errorf("%s: another package has the same signature", file)
		}
	}
	// A key that gpg does not have is no reason to go on without.
	cmd := exec.Command(filepath.Join(clone, "installer/seal"))
	cmd.Env = append(os.Environ(), "GNUPGHOME="+home, "SIGN_GPG_KEY=nobody@example.test")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no secret key nobody@example.test") {
		t.Errorf("with an unknown key: %v\n%s", err, out)
	}
}

//go:build lab && linux

package lab

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// imports are files of other clients for profiles of the lab.
var imports = []struct {
	profile, name string
	file          func(t *testing.T, p profile) string
	saved         string // the name that the profile gets
	edit          string // flags of "wayfarer profile edit", for what the file does not say
	typed         string // while connecting
	auth          string
}{
	{"psk-am", "psk.pcf", pcfFile, "lab", "--remote-id gw.lab.test", "", "xauth-psk"},
	{"hybrid", "hybrid.vpn", shrewFile, "hybrid", "--password-file PASSWORD", "", "hybrid-rsa"},
	{"rsa", "rsa.mobileconfig", mobileconfigFile, "lab", "--remote-id gw.lab.test", "p12\n", "xauth-rsa"},
}

func pcfFile(_ *testing.T, p profile) string {
	return fmt.Sprintf("[main]\r\nDescription=lab\r\nHost=%s\r\nAuthType=1\r\nGroupName=%s\r\nGroupPwd=%s\r\nUsername=%s\r\nUserPassword=%s\r\nDHGroup=14\r\n",
		p["GATEWAY"], p["GROUP"], p["PSK"], p["USER"], p["PASSWORD"])
}

func shrewFile(t *testing.T, p profile) string {
	return fmt.Sprintf("n:version:4\ns:network-host:%s\ns:auth-method:hybrid-rsa-xauth\ns:client-saved-username:%s\nb:auth-server-cert-data:%s\n"+
		"s:ident-server-type:fqdn\ns:ident-server-data:gw.lab.test\ns:phase1-exchange:main\ns:phase1-cipher:aes\nn:phase1-keylen:256\n"+
		"s:phase1-hash:sha2-256\nn:phase1-dhgroup:14\ns:phase2-transform:auto\ns:phase2-hmac:auto\nn:phase2-pfsgroup:0\nn:policy-list-auto:1\n",
		p["GATEWAY"], p["USER"], encoded(t, p["CA"]))
}

func mobileconfigFile(t *testing.T, p profile) string {
	return fmt.Sprintf(`<?xml version="1.0"?><plist version="1.0"><dict><key>PayloadContent</key><array>
<dict><key>PayloadType</key><string>com.apple.security.pkcs12</string><key>PayloadUUID</key><string>U</string><key>PayloadContent</key><data>%s</data></dict>
<dict><key>PayloadType</key><string>com.apple.security.pem</string><key>PayloadContent</key><data>%s</data></dict>
<dict><key>PayloadType</key><string>com.apple.vpn.managed</string><key>VPNType</key><string>IPSec</string><key>UserDefinedName</key><string>lab</string>
<key>IPSec</key><dict><key>RemoteAddress</key><string>%s</string><key>AuthenticationMethod</key><string>Certificate</string>
<key>PayloadCertificateUUID</key><string>U</string><key>XAuthEnabled</key><integer>1</integer>
<key>XAuthName</key><string>%s</string><key>XAuthPassword</key><string>%s</string></dict></dict>
</array></dict></plist>`, encoded(t, p["P12"]), encoded(t, p["CA"]), p["GATEWAY"], p["USER"], p["PASSWORD"])
}

func encoded(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

// TestImports: a file of another client is imported on a terminal into a keyring, and
// its profile connects.
func TestImports(t *testing.T) {
	for _, name := range []string{"dbus-run-session", "gnome-keyring-daemon", "script"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	h := start(t, "rw", "debug")
	before := network(t, h.ns)
	for _, tt := range imports {
		t.Run(tt.name, func(t *testing.T) {
			p := loadProfile(t, tt.profile)
			home := t.TempDir()
			if err := os.MkdirAll(filepath.Join(home, "data", "keyrings"), 0o700); err != nil {
				t.Fatal(err)
			}
			edit := strings.ReplaceAll(tt.edit, "PASSWORD", file(t, "password", p["PASSWORD"]))
			wayfarer := filepath.Join(binDir, "wayfarer")
			// The terminal of script(1) answers what is asked: save, allow.
			steps := fmt.Sprintf("printf test | gnome-keyring-daemon --unlock --components=secrets >/dev/null\n"+
				"printf 'y\\ny\\n' | script -qec '%[1]s profile import %[2]s' /dev/null && "+
				"%[1]s profile edit %[3]s %[4]s && printf '%[5]s' | script -qec '%[1]s connect %[3]s' /dev/null",
				wayfarer, file(t, tt.name, tt.file(t, p)), tt.saved, edit, strings.ReplaceAll(tt.typed, "\n", `\n`))
			r := execute(t, "", "exec", h.ns, "env", "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, "config"),
				"XDG_DATA_HOME="+filepath.Join(home, "data"), "XDG_RUNTIME_DIR="+home, "dbus-run-session", "--", "sh", "-c", steps)
			if r.exit != 0 {
				t.Fatalf("exit %d\n%s%s", r.exit, r.stdout, r.stderr)
			}
			if c := h.connection(t); c.IKE.Auth != tt.auth || c.Profile != tt.saved {
				t.Errorf("%s by %s", c.Profile, c.IKE.Auth)
			}
			probe(t, h.ns, p)
			h.down(t)
		})
	}
	restored(t, h.ns, before)
}

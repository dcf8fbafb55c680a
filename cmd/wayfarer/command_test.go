package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"wayfarer/app"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// The start of a connect command line that is complete.
var connectOffice = []string{"connect", "--gateway", "vpn.example.com", "--login", "ada", "--password-file", "-"}

// with is connectOffice and more.
func with(args ...string) []string {
	return append(connectOffice[:len(connectOffice):len(connectOffice)], args...)
}

func TestExitCodes(t *testing.T) {
	for exit, code := range []app.Code{
		"", app.CodeInternal, app.CodeUsage, app.CodeNoAnswer, app.CodeUntrusted, app.CodeSignInRefused, app.CodeNoProposal,
		app.CodeNetworkConfig, app.CodeNoService, app.CodeCancelled, app.CodeProtocol, app.CodeSettingsRefused, app.CodePolicy,
	} {
		if exit == 0 {
			continue
		}
		t.Run(string(code), func(t *testing.T) {
			f := app.NewFailure(code, app.StepSignIn, "it\nhappened", "do this")
			wantErr := "wayfarer: sign in: it happened; do this\n"
			wantJSON := fmt.Sprintf(`{"error":{"code":"%s","step":"sign-in","message":"it\nhappened","hint":"do this"}}`+"\n", code)
			refused := newFakeService(nil)
			refused.refusal = f
			gone := newFakeService(nil)
			gone.gone = f
			for name, svc := range map[string]*fakeService{
				"failed": newFakeService(playFailed(f)), "refused": refused, "no service": gone,
			} {
				for _, asJSON := range []bool{false, true} {
					w := newWorld(t, svc)
					w.stdin = "secret\n"
					args, wantOut := connectOffice, ""
					if asJSON {
						args, wantOut = with("--json"), wantJSON
					}
					if got := w.run(t, args...); got != exit || w.err.String() != wantErr || w.out.String() != wantOut {
						t.Errorf("%s: exit %d, stderr %q, stdout %q", name, got, &w.err, &w.out)
					}
				}
			}
			for _, args := range [][]string{{"status"}, {"status", "--watch"}, {"disconnect"}, {"answer"}, {"logs"}} {
				w := newWorld(t, gone)
				if got := w.run(t, args...); got != exit || w.err.String() != wantErr || w.out.Len() > 0 {
					t.Errorf("%s: exit %d, stderr %q, stdout %q", args, got, &w.err, &w.out)
				}
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--nothing", "unknown flag: --nothing; see `wayfarer --help`"},
		{"conect", "unknown command \"conect\" for \"wayfarer\"; did you mean `wayfarer connect`? See `wayfarer --help`"},
		{"frobnicate", "unknown command \"frobnicate\" for \"wayfarer\"; see `wayfarer --help`"},
		{"completion foo", "unknown command \"foo\" for \"wayfarer completion\"; see `wayfarer completion --help`"},
		{"completion bash foo", "unknown command \"foo\" for \"wayfarer completion bash\"; see `wayfarer completion bash --help`"},
		{"help foo", "unknown command \"foo\"; see `wayfarer help`"},
		{"help completion foo", "unknown command \"completion foo\"; see `wayfarer help`"},
		{"status --nothing", "unknown flag: --nothing; see `wayfarer status --help`"},
		{"status office", "unknown command \"office\" for \"wayfarer status\"; see `wayfarer status --help`"},
		{"disconnect a b", "accepts at most 1 arg(s), received 2; see `wayfarer disconnect --help`"},
		{"disconnect office", "there is no connection \"office\"; see `wayfarer status`"},
		{"answer", "no connection asks for anything; see `wayfarer status`"},
		{"answer c7", "no connection \"c7\" asks for anything; see `wayfarer status`"},
		{"connect", "gateway: missing; give a saved profile or --gateway"},
		{"connect absent", "there is no saved profile \"absent\"; save one with `wayfarer connect --gateway … --save NAME`"},
		{"connect --gateway g", "login: missing; give --login"},
		{"connect --gateway g --login", "flag needs an argument: --login; see `wayfarer connect --help`"},
		{"connect --gateway g --login l --auth none", "auth: \"none\" is none of hybrid, xauth-psk, xauth-rsa, psk, rsa"},
		{"connect --gateway g --login l --exchange fast", "exchange: \"fast\" is none of auto, main, aggressive"},
		{"connect --gateway g --login l --pin 12", "pin: \"12\" is no SHA-256 of a certificate: 64 hexadecimal digits, with or without colons"},
		{"connect --gateway g --login l --ca testdata/absent.pem", "testdata/absent.pem: ABSENT; check --ca"},
		{"connect --gateway g --login l --ca command_test.go", "command_test.go is neither PEM nor a certificate in DER; check --ca"},
		{"connect --gateway g --login l --ike aes256", "ike: IKE suite \"aes256\": want cipher-hash-group, as in aes256-sha256-modp2048"},
		{"connect --gateway g --login l --ike des-sha1-modp2048", "ike: IKE suite \"des-sha1-modp2048\": unknown cipher \"des\", known are aes256, aes192, aes128, 3des"},
		{"connect --gateway g --login l --ike aes256gcm16-sha256-modp2048", "ike: IKE suite \"aes256gcm16-sha256-modp2048\": unknown cipher \"aes256gcm16\", known are aes256, aes192, aes128, 3des"},
		{"connect --gateway g --login l --ike aes256-sha2-modp2048", "ike: IKE suite \"aes256-sha2-modp2048\": unknown hash \"sha2\", known are sha256, sha384, sha512, sha1, md5"},
		{"connect --gateway g --login l --esp aes128", "esp: ESP suite \"aes128\": encryption without integrity is never used; add a hash, as in aes256-sha256"},
		{"connect --gateway g --login l --allow-weak 3des,des", "allow_weak: \"des\" is none of 3des, md5, modp1024, modp1536, rsa1024, sha1-cert, expired, psk-aggressive, all"},
		{"connect --gateway g --login l --group-secret-file testdata/absent", "the secret file cannot be read: testdata/absent: ABSENT; check --group-secret-file"},
		{"connect --gateway g --login l --group-secret-file -", "standard input holds no secret"},
		{"connect --gateway g --login l --group-secret-file - --password-file -", "--password-file and --group-secret-file cannot both be standard input; give a file for one of them"},
		{"connect --gateway g --login l --group-id=", "--group-id: the group's name is empty"},
		{"connect --gateway g --login l --auth xauth-psk", "xauth-psk needs the group's secret; give --group-secret-file"},
		{"connect --gateway g --auth psk", "psk needs the group's secret; give --group-secret-file"},
		{"connect --gateway g --auth psk --password-file -", "--password-file: psk has no use for a password; leave it out"},
		{"connect --gateway g --auth rsa --cert x --group-secret-file -", "--group-secret-file: rsa has no use for a secret; leave it out"},
		{"connect --gateway g --auth rsa", "certificate: rsa needs one; give --cert and --key"},
		{"connect --gateway g --login l --auth xauth-rsa", "certificate: xauth-rsa needs one; give --cert and --key"},
		{"connect --gateway g --login l --cert x", "certificate: hybrid has no use for it; give --auth xauth-rsa or rsa"},
		{"connect --gateway g --login l --key x", "key: there is no certificate for it; give --cert"},
		{"connect --gateway g --auth rsa --cert testdata/absent.pem", "testdata/absent.pem: ABSENT; check --cert and --key"},
		{"connect --gateway g --auth rsa --cert testdata/user.pem", "testdata/user.pem is a certificate without its key"},
		{"connect --gateway g --auth rsa --cert testdata/user.pem --key testdata/absent.key", "testdata/absent.key: ABSENT; check --cert and --key"},
		{"connect --gateway g --auth rsa --cert testdata/user.pem --key testdata/ca.pem", "testdata/ca.pem: no private key in it"},
		{"connect --gateway g --auth rsa --cert testdata/ca.pem --key testdata/user.key", "the key in testdata/user.key does not belong to the certificate in testdata/ca.pem"},
		{"connect --gateway g --auth rsa --cert command_test.go --key testdata/user.key", "command_test.go is no certificate, and PKCS #12 brings its own key: leave testdata/user.key out"},
		{"proxy --gateway g --auth rsa --cert testdata/user.pem --listen 127.0.0.1:0", "testdata/user.pem is a certificate without its key"},
		{"proxy --gateway g --login l --auth xauth-psk --listen 127.0.0.1:0", "xauth-psk needs the group's secret; give --group-secret-file"},
		{"connect --gateway g --login l --timeout 0s", "--timeout must be more than zero; as in --timeout 60s"},
		{"connect --gateway g --login l --timeout soon", "invalid argument \"soon\" for \"--timeout\" flag: time: invalid duration \"soon\"; see `wayfarer connect --help`"},
		{"connect --gateway g --login l --set mtu", "--set mtu: KEY=VALUE is expected"},
		{"connect --gateway g --login l --set mut=1300", "--set mut: a profile has no key \"mut\""},
		{"connect --gateway g --login l --set mtu=big", "--set mtu: \"big\" is no number"},
		{"connect --gateway g --login l --set ipcomp=maybe", "--set ipcomp: \"maybe\" is neither true nor false"},
		{"connect --gateway g --login l --save -x --password-file -", "--save: a profile's name must not begin with a hyphen"},
		{"connect --gateway g --login l --password-file testdata/absent", "the password file cannot be read: testdata/absent: ABSENT; check --password-file"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			svc := newFakeService(nil)
			w := newWorld(t, svc)
			want := strings.Replace(tt.want, "ABSENT", systemText(fs.ErrNotExist), 1)
			if got := w.run(t, strings.Fields(tt.args)...); got != 2 || w.err.String() != "wayfarer: "+want+"\n" || w.out.Len() > 0 {
				t.Errorf("exit %d, stdout %q, stderr\n%swant\nwayfarer: %s", got, &w.out, &w.err, want)
			}
			if len(svc.requests) > 0 {
				t.Error("a wrong command line reached the service")
			}
			args := strings.Fields(tt.args)
			w.run(t, append([]string{args[0], "--json"}, args[1:]...)...)
			var report app.ErrorReport
			if err := json.Unmarshal(w.out.Bytes(), &report); err != nil || report.Error.Code != app.CodeUsage {
				t.Errorf("with --json: %q", &w.out)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	prompting := app.Connection{
		ID: "c2", State: app.StateActionNeeded, Owner: "ada", Step: app.StepSignIn, Gateway: &app.Gateway{Host: "vpn2.example.com"},
		Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP, Text: "Enter\x1b[2J the code", Secret: true},
	}
	failed := app.Connection{
		ID: "c3", State: app.StateFailed, Owner: "ada", Profile: "lab",
		Failure: app.NewFailure(app.CodeUntrusted, app.StepCheckCertificate, "the gateway is not trusted", "give the CA certificate"),
	}
	others := app.Connection{State: app.StateConnected, Owner: "bob"}
	for _, tt := range []struct {
		name  string
		conns []app.Connection
	}{
		{"none", nil},
		{"one", []app.Connection{connected()}},
		{"all", []app.Connection{connected(), prompting, failed, others}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newFakeService(nil)
			svc.conns = tt.conns
			w := newWorld(t, svc)
			for _, form := range []string{"txt", "json"} {
				args := []string{"status"}
				if form == "json" {
					args = append(args, "--json")
				}
				if got := w.run(t, args...); got != 0 || w.err.Len() > 0 {
					t.Errorf("exit %d, stderr %q", got, &w.err)
				}
				golden(t, "status-"+tt.name+"."+form, w.out.String())
			}
		})
	}
}

func TestStatusWatch(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		svc := newFakeService(nil)
		w := newWorld(t, svc)
		ctx, stop := contextWithStop(t)
		args := []string{"status", "--watch"}
		want := "Not connected.\n\noffice (c1): failed\n"
		if asJSON {
			args = append(args, "--json")
			want = `{"version":"1.2.3","connections":[]}` + "\n" +
				`{"version":"1.2.3","connections":[{"id":"c1","state":"failed","profile":"office"}]}` + "\n"
		}
		out := &hooked{Writer: &w.out}
		out.hook = func(written string) {
			switch {
			case strings.Contains(written, "failed"):
				stop() // Ctrl+C
			case strings.Contains(written, "Not") || strings.Contains(written, "[]"):
				svc.set(app.Connection{ID: "c1", State: app.StateFailed, Profile: "office"})
			}
		}
		w.env.out = out
		if got := w.runContext(ctx, args...); got != 0 || w.out.String() != want || w.err.Len() > 0 {
			t.Errorf("exit %d, stderr %q, stdout\n%s", got, &w.err, &w.out)
		}
	}
}

func TestDisconnect(t *testing.T) {
	conns := []app.Connection{
		{ID: "c1", State: app.StateConnected, Profile: "office"},
		{ID: "c2", State: app.StateFailed, Gateway: &app.Gateway{Host: "vpn.example.com"}},
		{State: app.StateConnected, Owner: "bob"},
	}
	for _, tt := range []struct{ name, want, ended string }{
		{"", "Disconnected office (c1).\nRemoved vpn.example.com (c2), which had failed.\n", "c1 c2"},
		{"office", "Disconnected office (c1).\n", "c1"},
		{"c1", "Disconnected office (c1).\n", "c1"},
		{"vpn.example.com", "Removed vpn.example.com (c2), which had failed.\n", "c2"},
	} {
		svc := newFakeService(nil)
		svc.conns = append(svc.conns, conns...)
		w := newWorld(t, svc)
		if got := w.run(t, append([]string{"disconnect"}, strings.Fields(tt.name)...)...); got != 0 || w.out.String() != tt.want {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", tt.name, got, &w.out, &w.err)
		}
		if got := strings.Join(svc.ended, " "); got != tt.ended {
			t.Errorf("%s: ended %s, want %s", tt.name, got, tt.ended)
		}
	}
	w := newWorld(t, newFakeService(nil))
	if got := w.run(t, "disconnect"); got != 0 || w.out.String() != "Not connected.\n" {
		t.Errorf("nothing: exit %d, stdout %q", got, &w.out)
	}
}

// One connection that does not end well keeps no other up; each is told of, and the
// first gives the exit code.
func TestDisconnectFails(t *testing.T) {
	svc := newFakeService(nil)
	svc.conns = []app.Connection{
		{ID: "c1", State: app.StateConnected, Profile: "office"},
		{ID: "c2", State: app.StateConnected, Profile: "lab"},
		{ID: "c3", State: app.StateConnected, Profile: "plant"},
	}
	svc.stays = map[string]*app.Failure{
		"c1": app.NewFailure(app.CodeNetworkConfig, "", "a route stays", "run `wayfarer restore-network`"),
		"c3": app.NewFailure(app.CodeInternal, "", "broken", ""),
	}
	w := newWorld(t, svc)
	const wantErr = "wayfarer: plant (c3): broken\nwayfarer: office (c1): a route stays; run `wayfarer restore-network`\n"
	if got := w.run(t, "disconnect"); got != 7 || w.out.String() != "Disconnected lab (c2).\n" || w.err.String() != wantErr {
		t.Errorf("exit %d, stdout %q, stderr %q", got, &w.out, &w.err)
	}
}

// Ctrl+C ends the command, whatever the service still does.
func TestDisconnectIsCancelled(t *testing.T) {
	svc := newFakeService(nil)
	svc.conns = []app.Connection{{ID: "c1", State: app.StateConnected}, {ID: "c2", State: app.StateConnected}}
	w := newWorld(t, svc)
	ctx, stop := contextWithStop(t)
	stop()
	if got := w.runContext(ctx, "disconnect"); got != 9 || w.out.Len() > 0 || len(svc.ended) > 1 {
		t.Errorf("exit %d, stdout %q, ended %v", got, &w.out, svc.ended)
	}
}

func TestVersion(t *testing.T) {
	w := newWorld(t, newFakeService(nil))
	if got := w.run(t, "version"); got != 0 || !strings.HasPrefix(w.out.String(), "wayfarer "+app.Version()+" ") {
		t.Errorf("exit %d, stdout %q", got, &w.out)
	}
}

// Help is no error and goes to standard output.
func TestHelp(t *testing.T) {
	for _, args := range []string{"", "--help", "help connect", "connect --help"} {
		w := newWorld(t, newFakeService(nil))
		if got := w.run(t, strings.Fields(args)...); got != 0 || w.out.Len() == 0 || w.err.Len() > 0 {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", args, got, &w.out, &w.err)
		}
	}
}

// The flags are those of the contract.
func TestConnectFlags(t *testing.T) {
	w := newWorld(t, newFakeService(nil))
	want := strings.Fields("gateway login password-file auth exchange ca pin trust-new system-roots remote-id local-id group-id " +
		"group-secret-file cert key allow-weak esp ike local-network block-outside set timeout no-reconnect save json")
	cmd := newConnect(w.env)
	for _, name := range want {
		if cmd.Flags().Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
}

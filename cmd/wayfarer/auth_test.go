package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"wayfarer/app"
	"wayfarer/ike/gateway"
)

// member is a user with a certificate, in files.
type member struct {
	cert          *x509.Certificate
	pem, key, p12 string
}

func newMember(t *testing.T) *member {
	t.Helper()
	dir := t.TempDir()
	m := &member{}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ada"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if m.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p12, err := pkcs12.Modern.Encode(key, m.cert, nil, userPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	m.p12 = write("ada.p12", p12)
	m.pem = write("ada.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	m.key = write("ada.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return m
}

// freePort is an address of loopback where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// connected is the connection that --json prints.
func (r *running) connected(t *testing.T) string {
	t.Helper()
	for {
		select {
		case <-r.out.changed:
			if out := r.out.String(); strings.HasSuffix(out, "}\n") {
				return out
			}
		case exit := <-r.ended:
			t.Fatalf("exit code %d; it said:\n%s", exit, r.err)
		case <-time.After(time.Minute):
			t.Fatalf("it does not connect; it said:\n%s", r.err)
		}
	}
}

// Every method of authentication, from the command line through a gateway to the page
// behind it.
func TestEveryMethod(t *testing.T) {
	credentials, err := gateway.SelfSigned(demoGateway, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ada := newMember(t)
	const group = "of the group"
	cfg := demoConfig(credentials)
	cfg.Secrets = map[string]string{"": group, "staff": group}
	cfg.MutualGroup = true // hybrid needs the secret as well, as Cisco has it
	cfg.ClientCAs = []*x509.Certificate{ada.cert}
	cfg.Offices = []netip.Prefix{netip.MustParsePrefix("10.50.0.0/24")}
	host, err := serveGateway(t.Context(), credentials, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.stop() })

	const user = " --login ada --password-file PASSWORD"
	const certificate = " --cert PEM --key KEY"
	for _, tt := range []struct {
		args string
		auth string // as the status names it
		page string // behind the gateway
	}{
		{"--auth hybrid --pin PIN --group-secret-file GROUP --group-id staff" + user, "hybrid-rsa", demoPage},
		{"--auth hybrid --pin PIN --group-secret-file GROUP --group-id staff --exchange aggressive" + user, "hybrid-rsa", demoPage},
		{"--auth xauth-psk --group-secret-file GROUP" + user, "xauth-psk", demoPage},
		{"--auth xauth-psk --group-secret-file GROUP --exchange aggressive --group-id staff --allow-weak psk-aggressive" + user, "xauth-psk", demoPage},
		{"--auth xauth-rsa --pin PIN" + user + certificate, "xauth-rsa", demoPage},
		{"--auth xauth-rsa --pin PIN --exchange aggressive" + user + certificate, "xauth-rsa", demoPage},
		{"--auth rsa --pin PIN" + certificate, "rsa", demoPage},
		{"--auth rsa --pin PIN --cert P12", "rsa", demoPage},
		{"--auth psk --group-secret-file GROUP", "psk", demoPage},
		{"--auth psk --group-secret-file GROUP --set local_networks=10.50.0.7 --set remote_networks=10.77.0.0/24", "psk", "http://10.77.0.80/"},
		{"--auth rsa --pin PIN --set local_networks=10.50.0.8 --set mode_config=off" + certificate, "rsa", "http://10.77.0.80/"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			w := newWorld(t, nil)
			w.terminal(userPassphrase)
			args := strings.NewReplacer(
				"PASSWORD", secretPath(t, demoPassword), "GROUP", secretPath(t, group+"\n"), "PIN", host.fingerprint(),
				"PEM", ada.pem, "KEY", ada.key, "P12", ada.p12,
			).Replace(tt.args)
			proxy := freePort(t)
			r := w.start(t, append([]string{"proxy", "--json", "--listen", proxy, "--gateway", host.address.String()}, strings.Fields(args)...)...)
			if connection := r.connected(t); !strings.Contains(connection, `"auth":"`+tt.auth+`"`) {
				t.Errorf("connected as %s", connection)
			}
			if body, err := getThrough(proxy, tt.page); err != nil || !strings.Contains(body, "It works") {
				t.Errorf("%v: %s", err, body)
			}
			r.stop()
			r.exit(t, "")
			for _, secret := range []string{group, demoPassword, userPassphrase} {
				if strings.Contains(r.out.String()+r.err.String(), secret) {
					t.Errorf("%q is shown", secret)
				}
			}
		})
	}
}

// What a gateway refuses, or cannot prove, ends with one line and its exit code.
func TestEveryMethodRefused(t *testing.T) {
	credentials, err := gateway.SelfSigned(demoGateway, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ada := newMember(t)
	const group, wrong = "of the group", "of the guesser"
	cfg := demoConfig(credentials)
	cfg.Secrets = map[string]string{"": group, "staff": group}
	cfg.ClientCAs = []*x509.Certificate{ada.cert}
	cfg.Offices = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	host, err := serveGateway(t.Context(), credentials, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.stop() })

	const user = " --login ada --password-file PASSWORD"
	const aggressive = " --exchange aggressive --group-id staff --allow-weak psk-aggressive"
	for _, tt := range []struct {
		args string
		code app.Code
		says string
	}{
		{"--auth xauth-psk --group-secret-file WRONG" + aggressive + user, app.CodeUntrusted, "it does not know the group's secret"},
		{"--auth psk --group-secret-file GROUP --exchange aggressive", app.CodeUsage, "--allow-weak psk-aggressive"},
		{"--auth psk --group-secret-file GROUP --set mode_config=off", app.CodeUsage, "local_networks"},
		{"--auth psk --group-secret-file GROUP --set local_networks=203.0.113.0/24 --set remote_networks=10.77.0.0/24", app.CodeUsage, "a single address"},
		{"--auth rsa --cert P12 --pin " + strings.Repeat("0", 64), app.CodeUsage, "fingerprint"},
		{"--auth rsa --cert P12 --pin " + strings.Repeat("1", 64), app.CodeUntrusted, "another one than before"},
		{"--auth rsa --cert P12", app.CodeUntrusted, "--trust-new"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			w := newWorld(t, nil)
			w.person = &fakePerson{answers: []string{userPassphrase, "n"}, out: io.Discard}
			w.ask = w.person
			args := strings.NewReplacer(
				"PASSWORD", secretPath(t, demoPassword), "GROUP", secretPath(t, group), "WRONG", secretPath(t, wrong),
				"P12", ada.p12,
			).Replace(tt.args)
			got := w.run(t, append([]string{"proxy", "--listen", "127.0.0.1:0", "--gateway", host.address.String()}, strings.Fields(args)...)...)
			last := strings.Split(strings.TrimSpace(w.err.String()), "\n")
			if got != tt.code.Exit() || !strings.Contains(last[len(last)-1], tt.says) {
				t.Errorf("exit %d, want %d: %s", got, tt.code.Exit(), &w.err)
			}
			for _, secret := range []string{wrong, group, userPassphrase, demoPassword} {
				if strings.Contains(w.err.String()+w.out.String(), secret) {
					t.Errorf("%q is shown: %s", secret, &w.err)
				}
			}
		})
	}
}

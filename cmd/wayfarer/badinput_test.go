package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wayfarer/app"
)

// A mistake of the user's is told in one line that names it, with exit code 2, before
// a datagram leaves.
func TestBadInput(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := func(typ string, b []byte) string { return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b})) }
	file := func(text string) string { return secretPath(t, text) }
	missing := filepath.Join(t.TempDir(), "missing")
	const (
		user = " --login ada --password-file PASSWORD"
		cert = " --auth rsa --cert testdata/user.pem"
	)
	for _, tt := range []struct {
		name, args, says string
	}{
		{"unknown IKE cipher", "--ike rot13-sha1-modp2048" + user, "rot13"},
		{"unknown IKE group", "--ike aes128-sha1-modp77" + user, "modp77"},
		{"forbidden cipher", "--ike des-sha1-modp2048" + user, "des"},
		{"weak cipher", "--ike 3des-sha1-modp2048" + user, "--allow-weak 3des"},
		{"unknown ESP suite", "--esp aes128-crc32" + user, "crc32"},
		{"ESP without integrity", "--esp aes128" + user, "esp"},
		{"unknown weakness", "--allow-weak des" + user, "des"},
		{"unknown PFS group", "--set pfs=modp77" + user, "modp77"},
		{"unknown method", "--auth magic" + user, "magic"},
		{"unknown exchange", "--exchange sideways" + user, "sideways"},
		{"unknown key", "--set colour=blue" + user, "colour"},
		{"unknown NAT traversal", "--set nat_t=perhaps" + user, "nat_t"},
		{"unknown quirk", "--set quirks=odd" + user, "odd"},
		{"port beyond all", "--set local_port=65536" + user, "local_port"},
		{"port that is no number", "--set local_port=isakmp" + user, "local_port"},
		{"gateway's port", "--gateway 127.0.0.1:99999" + user, "99999"},
		{"identity", "--remote-id dn:nonsense" + user, "remote_id"},
		{"fingerprint", "--pin abcd" + user, "SHA-256"},
		{"no CA file", "--ca " + missing + user, systemText(fs.ErrNotExist)},
		{"CA that is none", "--ca " + file("hello") + user, "certificate"},
		{"no password file", "--login ada --password-file " + missing, systemText(fs.ErrNotExist)},
		{"no login", "--password-file PASSWORD", "login"},

		{"empty secret of the group", "--auth xauth-psk --group-secret-file " + file("\n") + user, "holds no secret"},
		{"no secret of the group", "--auth psk --group-secret-file " + missing, systemText(fs.ErrNotExist)},
		{"empty name of the group", "--auth xauth-psk --group-secret-file GROUP --group-id keyid:" + user, "group_id"},

		{"no certificate", "--auth rsa", "--cert"},
		{"certificate without key", cert, "without its key"},
		{"key without certificate", "--auth rsa --key testdata/user.key", "--cert"},
		{"certificate file missing", "--auth rsa --cert " + missing + " --key testdata/user.key", systemText(fs.ErrNotExist)},
		{"certificate file that is none", "--auth rsa --cert " + file("hello") + " --key testdata/user.key", "no certificate"},
		{"unreadable certificate", "--auth rsa --cert " + file(block("CERTIFICATE", []byte{1})) + " --key testdata/user.key", "unreadable certificate"},
		{"key file missing", cert + " --key " + missing, systemText(fs.ErrNotExist)},
		{"key file that is none", cert + " --key testdata/user.pem", "no private key"},
		{"unreadable key", cert + " --key " + file(block("PRIVATE KEY", []byte("s3cret"))), "unreadable private key"},
		{"encrypted key", cert + " --key " + file(block("ENCRYPTED PRIVATE KEY", []byte("s3cret"))), "encrypted"},
		{"enormous key", cert + " --key " + file(block("RSA PRIVATE KEY", make([]byte, 100_000))), "more than"},
		{"key of another certificate", cert + " --key " + file(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(other))), "does not belong"},
		{"PKCS #12 with a wrong passphrase", "--auth rsa --cert testdata/user.p12", "wrong passphrase"},
		{"PKCS #12 that is none", "--auth rsa --cert " + file("\x30\x03hello"), "PKCS #12"},
		{"PKCS #12 and a key", "--auth rsa --cert testdata/user.p12 --key testdata/user.key", "leave testdata/user.key out"},
		{"a certificate for a method without", "--cert testdata/user.pem --key testdata/user.key" + user, "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.terminal("simsalabim", "simsalabim")
			args := strings.NewReplacer("PASSWORD", secretPath(t, demoPassword), "GROUP", secretPath(t, "of the group")).Replace(tt.args)
			if !strings.Contains(args, "--gateway") {
				args += " --gateway " + silent.LocalAddr().String()
			}
			if got := w.run(t, append([]string{"proxy", "--listen", "127.0.0.1:0"}, strings.Fields(args)...)...); got != app.CodeUsage.Exit() {
				t.Errorf("exit %d: %s", got, &w.err)
			}
			text := strings.TrimPrefix(w.err.String(), "Passphrase for testdata/user.p12: \n")
			if !strings.HasPrefix(text, "wayfarer: ") || !strings.Contains(text, tt.says) || strings.Count(text, "\n") != 1 {
				t.Errorf("not one line that says %q: %q", tt.says, text)
			}
			for _, secret := range []string{demoPassword, "of the group", "s3cret", "simsalabim"} {
				if strings.Contains(w.err.String()+w.out.String(), secret) {
					t.Errorf("%q is shown: %s", secret, &w.err)
				}
			}
			wantNothing(t, silent)
		})
	}
}

// wantNothing: loopback delivers at once, so what was sent is there already.
func wantNothing(t *testing.T, conn net.PacketConn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, from, err := conn.ReadFrom(make([]byte, 2048)); err == nil {
		t.Errorf("%d bytes came from %v", n, from)
	}
}

// A port of this computer that cannot be had is its network's fault.
func TestLocalPortTaken(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	other, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	port := other.LocalAddr().(*net.UDPAddr).Port
	w := newWorld(t, nil)
	got := w.run(t, "proxy", "--listen", "127.0.0.1:0", "--gateway", silent.LocalAddr().String(), "--login", "ada",
		"--password-file", secretPath(t, demoPassword), "--set", fmt.Sprintf("local_port=%d", port))
	text := w.err.String()
	if got != app.CodeNetworkConfig.Exit() || strings.Count(text, "\n") != 1 ||
		!strings.Contains(text, fmt.Sprintf("UDP port %d", port)) || !strings.Contains(text, "local_port = 0") {
		t.Errorf("exit %d: %s", got, text)
	}
	wantNothing(t, silent)
}

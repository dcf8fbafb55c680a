package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"wayfarer/app"
)

// testHost is a demonstration gateway for a test.
func testHost(t *testing.T) *demoHost {
	t.Helper()
	host, err := startGateway(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.stop() })
	return host
}

// watched is output that somebody waits for while it is written.
type watched struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newWatched() *watched { return &watched{changed: make(chan struct{}, 1)} }

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return w.text.Write(b)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// wait waits for text that matches, and returns its first group.
func (w *watched) wait(t *testing.T, pattern string) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		if found := regexp.MustCompile(pattern).FindStringSubmatch(w.String()); found != nil {
			return found[len(found)-1]
		}
		select {
		case <-w.changed:
		case <-limit:
			t.Fatalf("%q did not come; there is:\n%s", pattern, w)
		}
	}
}

// running is a command that runs beside the test.
type running struct {
	out, err *watched
	stop     context.CancelFunc // Ctrl+C
	ended    chan int
}

func (w *world) start(t *testing.T, args ...string) *running {
	t.Helper()
	return w.startWith(t, strings.NewReader(w.stdin), args...)
}

func (w *world) startWith(t *testing.T, in io.Reader, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{out: newWatched(), err: newWatched(), stop: cancel, ended: make(chan int, 1)}
	e := *w.env
	e.in, e.out, e.err = in, r.out, r.err
	go func() { r.ended <- run(ctx, &e, args) }()
	t.Cleanup(cancel)
	return r
}

// exit waits for the end of the command.
func (r *running) exit(t *testing.T, want app.Code) {
	t.Helper()
	exit := 0
	if want != "" {
		exit = want.Exit()
	}
	select {
	case got := <-r.ended:
		if got != exit {
			t.Errorf("exit code %d, want %d; it said:\n%s", got, exit, r.err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("it does not end; it said:\n%s%s", r.out, r.err)
	}
}

func (w *world) proxyArgs(t *testing.T, host *demoHost, more ...string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(demoPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	return append([]string{
		"proxy", "--gateway", host.address.String(), "--login", demoLogin, "--password-file", file,
		"--pin", host.fingerprint(), "--listen", "127.0.0.1:0",
	}, more...)
}

// proxyAddress is all that is said of the proxy: it is written in several pieces.
const proxyAddress = `(?s)SOCKS5 proxy is (127\.0\.0\.1:\d+);.*\nCtrl\+C ends the connection\.\n`

func TestProxy(t *testing.T) {
	host, w := testHost(t), newWorld(t, nil)
	r := w.start(t, w.proxyArgs(t, host)...)
	address := r.out.wait(t, proxyAddress)
	if out := r.out.String(); !strings.Contains(out, "10.77.1.1/32") || !strings.Contains(out, "curl --proxy socks5h://"+address) {
		t.Errorf("output:\n%s", out)
	}

	t.Run("by name", func(t *testing.T) {
		body, err := getThrough(address, demoPage)
		if err != nil || !strings.Contains(body, "It works") {
			t.Errorf("%v: %s", err, body)
		}
	})
	t.Run("names of the outside are unknown", func(t *testing.T) {
		if _, err := getThrough(address, "http://localhost/"); err == nil || !strings.Contains(err.Error(), "host unreachable") {
			t.Errorf("localhost: %v", err)
		}
	})
	t.Run("what is not behind the gateway", func(t *testing.T) {
		for _, url := range []string{"http://" + address + "/", "http://192.0.2.1/", "http://[2001:db8::1]/"} {
			if _, err := getThrough(address, url); err == nil || !strings.Contains(err.Error(), "network unreachable") {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
	t.Run("UDP", func(t *testing.T) { testAssociate(t, address) })

	r.stop()
	r.exit(t, "")
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("the proxy still listens")
	}
	if strings.Contains(r.out.String()+r.err.String(), demoPassword) {
		t.Error("the password is in the output")
	}
}

func getThrough(address, url string) (string, error) {
	dialer, err := proxy.SOCKS5("tcp", address, nil, proxy.Direct)
	if err != nil {
		return "", err
	}
	client := &http.Client{
		Transport: &http.Transport{DialContext: dialer.(proxy.ContextDialer).DialContext, DisableKeepAlives: true},
		Timeout:   time.Minute,
	}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// testAssociate sends datagrams to the echo service by name (RFC 1928 §7).
func testAssociate(t *testing.T, address string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write([]byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0}) // no authentication; UDP ASSOCIATE from anywhere
	reply := make([]byte, 2+10)
	if _, err := io.ReadFull(conn, reply); err != nil || reply[3] != 0 {
		t.Fatalf("reply %x: %v", reply, err)
	}
	relay := netip.AddrPortFrom(netip.AddrFrom4([4]byte(reply[6:10])), binary.BigEndian.Uint16(reply[10:]))
	if !relay.Addr().IsLoopback() {
		t.Errorf("datagrams are taken on %v", relay)
	}
	udp, err := net.Dial("udp", relay.String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	udp.SetDeadline(time.Now().Add(time.Minute))
	const name = "dns." + demoDomain
	header := append([]byte{0, 0, 0, 3, byte(len(name))}, name+"\x00\x07"...)
	for i := range 3 {
		want := fmt.Sprint("datagram ", i)
		if _, err := udp.Write(append(header[:len(header):len(header)], want...)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1500)
		n, err := udp.Read(got)
		if err != nil || !bytes.HasSuffix(got[:n], []byte(want)) {
			t.Fatalf("%q: %v", got[:n], err)
		}
	}
}

func TestProxyJSON(t *testing.T) {
	before := warmUp(t)
	host, w := testHost(t), newWorld(t, nil)
	r := w.start(t, w.proxyArgs(t, host, "--json")...)
	r.out.wait(t, `^\{"id":"c1","state":"connected".*"tun":\{"name":"userspace","mtu":\d+\}.*\}\n$`)
	r.stop()
	r.exit(t, "")
	host.stop()
	wantGoroutines(t, before)
}

func TestProxyFails(t *testing.T) {
	host := testHost(t)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("charles"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cases := []struct {
		name string
		args []string
		code app.Code
		says string
	}{
		{"wrong password", []string{"--password-file", wrong}, app.CodeSignInRefused, "refused login or password"},
		{"wrong pin", []string{"--pin", testPin}, app.CodeUntrusted, "not trusted"},
		{"unknown gateway", []string{"--pin", ""}, app.CodeUntrusted, "--trust-new"},
		{"silence", []string{"--gateway", silent.LocalAddr().String(), "--timeout", "1s"}, app.CodeNoAnswer, "does not answer"},
		{"not supported", []string{"--block-outside"}, app.CodeUsage, "block_outside"},
		{"port taken", []string{"--listen", taken.Addr().String()}, app.CodeUsage, "choose another port"},
		{"no port", []string{"--listen", "127.0.0.1"}, app.CodeUsage, "HOST:PORT"},
		{"no host", []string{"--listen", ":1080"}, app.CodeUsage, "0.0.0.0"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			code := w.run(t, w.proxyArgs(t, host, tc.args...)...)
			if code != tc.code.Exit() || !strings.Contains(w.err.String(), tc.says) || strings.Count(w.err.String(), "\n") != 1 {
				t.Errorf("exit code %d, want %d; it said:\n%s", code, tc.code.Exit(), w.err.String())
			}
		})
	}
}

// When the gateway ends the connection, the proxy says so and tries again, or ends.
func TestProxyLosesTheGateway(t *testing.T) {
	// A gateway that has not yet seen the last message of Quick Mode does not say
	// that its SA has ended.
	settle := func(t *testing.T, r *running) {
		if _, err := getThrough(r.out.wait(t, proxyAddress), demoPage); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("reconnecting", func(t *testing.T) {
		host, w := testHost(t), newWorld(t, nil)
		r := w.start(t, w.proxyArgs(t, host)...)
		settle(t, r)
		host.stop()
		r.err.wait(t, "127.0.0.1: reconnecting\n")
		r.stop()
		r.exit(t, "")
	})
	t.Run("no-reconnect", func(t *testing.T) {
		host, w := testHost(t), newWorld(t, nil)
		r := w.start(t, w.proxyArgs(t, host, "--no-reconnect")...)
		settle(t, r)
		host.stop()
		r.exit(t, app.CodeNoAnswer)
	})
}

func TestProxyIsCancelled(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	host, w := testHost(t), newWorld(t, nil)
	w.progress = true
	r := w.start(t, w.proxyArgs(t, host, "--gateway", silent.LocalAddr().String())...)
	r.err.wait(t, "Finding gateway")
	r.stop()
	r.exit(t, app.CodeCancelled)
}

//go:build lab && linux

package gateway

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests of this file let real clients, strongSwan's charon-cmd and vpnc, connect
// to the gateway, each in network namespaces of its own. They need Linux, root and
// the packages charon-cmd, vpnc, iproute2, curl and dnsutils:
//
//	go test -tags lab -run TestLab ./ike/gateway

const (
	labGateway = "192.0.2.1"
	labClient  = "192.0.2.2"
	labServer  = "10.9.0.1"
	labUser    = "alice"
	labSecret  = "s3cret & #\"'\\"
)

// lab is a gateway and the namespace of a client, joined by a cable.
type lab struct {
	t       *testing.T
	dir     string // state of the client
	gwNS    string
	rwNS    string
	gateway *Gateway
	log     *syncBuffer

	mu       sync.Mutex
	received map[Step]int
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var labNumber int

func newLab(t *testing.T, change func(*Config)) *lab {
	t.Helper()
	for _, program := range []string{"ip", "unshare", "charon-cmd", "vpnc", "curl", "dig"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	labNumber++
	name := fmt.Sprintf("wfgw%d-%d", os.Getpid(), labNumber)
	l := &lab{t: t, dir: t.TempDir(), gwNS: name + "g", rwNS: name + "c", log: new(syncBuffer), received: make(map[Step]int)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("gateway:\n%s", l.log)
			t.Logf("client:\n%s", l.clientLog())
		}
	})
	for _, ns := range []string{l.gwNS, l.rwNS} {
		l.run("ip", "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		l.run("ip", "-n", ns, "link", "set", "lo", "up")
	}
	l.run("ip", "link", "add", "wan0", "netns", l.gwNS, "type", "veth", "peer", "name", "wan0", "netns", l.rwNS)
	for ns, addr := range map[string]string{l.gwNS: labGateway, l.rwNS: labClient} {
		l.run("ip", "-n", ns, "addr", "add", addr+"/24", "dev", "wan0")
		l.run("ip", "-n", ns, "link", "set", "wan0", "up")
	}
	l.run("ip", "-n", l.rwNS, "route", "add", "default", "via", labGateway)
	l.start(change)
	return l
}

// start runs the gateway on ports 500 and 4500 of its namespace.
func (l *lab) start(change func(*Config)) {
	creds, err := SelfSigned("gw.demo.test", labGateway)
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: creds.CA.Raw})))
	server := netip.MustParseAddr(labServer)
	cfg := Config{
		Chain: creds.Chain, Key: creds.Key, Users: map[string]string{labUser: labSecret},
		Pool: netip.MustParsePrefix("10.99.0.0/24"), ForceEncapsulation: true,
		Settings: Settings{
			DNS: []netip.Addr{server}, WINS: []netip.Addr{server}, Banner: "Welcome", DefaultDomain: "demo.test",
			SplitDNS: []string{"demo.test"}, SplitInclude: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")},
		},
		Inside: &Inside{Addresses: []netip.Addr{server}, Hosts: map[string]netip.Addr{"www.demo.test": server}},
		Log:    slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Received: func(m *Message) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.received[m.Step]++
		},
	}
	if change != nil {
		change(&cfg)
	}
	if l.gateway, err = New(cfg); err != nil {
		l.t.Fatal(err)
	}
	var sockets []Socket
	for _, port := range []int{500, 4500} {
		sockets = append(sockets, Socket{Conn: l.listen(port), NonESP: port == 4500})
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- l.gateway.Serve(ctx, sockets...) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			l.t.Errorf("Serve: %v", err)
		}
	})
}

// listen opens a socket in the gateway's namespace. The thread that went there ends
// with its goroutine.
func (l *lab) listen(port int) net.PacketConn {
	type result struct {
		conn net.PacketConn
		err  error
	}
	results := make(chan result)
	go func() {
		runtime.LockOSThread()
		var r result
		var ns *os.File
		if ns, r.err = os.Open("/run/netns/" + l.gwNS); r.err == nil {
			defer ns.Close()
			if r.err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); r.err == nil {
				r.conn, r.err = net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", port))
			}
		}
		results <- r
	}()
	r := <-results
	if r.err != nil {
		l.t.Fatal(r.err)
	}
	return r.conn
}

func (l *lab) run(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (l *lab) write(name, text string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// inClient is a command in the client's namespace.
func (l *lab) inClient(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", l.rwNS}, args...)...)
}

// client starts a VPN client with a /run and /etc of its own, so that it does not
// touch those of the host.
func (l *lab) client(stdin string, args ...string) *exec.Cmd {
	l.t.Helper()
	l.write("run/strongswan.conf", strongswanConf)
	if _, err := os.Stat(filepath.Join(l.dir, "etc")); err != nil {
		l.run("cp", "-a", "/etc", filepath.Join(l.dir, "etc"))
	}
	l.write("etc/resolv.conf", "")
	const enter = `mount --bind "$0/run" /run && mount --bind "$0/etc" /etc || exit 1
		[ -L /var/run ] || mount --bind "$0/run" /var/run
		exec "$@"`
	cmd := l.inClient(append([]string{"unshare", "--mount", "--propagation", "private", "--", "sh", "-c", enter, l.dir}, args...)...)
	out, err := os.Create(filepath.Join(l.dir, "client.out"))
	if err != nil {
		l.t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), out, out
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF=/run/strongswan.conf")
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	out.Close()
	l.t.Cleanup(func() { l.stop(cmd) })
	return cmd
}

const strongswanConf = `charon {
	load = random nonce openssl gcrypt hmac kdf pem pkcs1 pkcs8 pubkey x509 constraints kernel-libipsec kernel-netlink socket-default unity resolve xauth-generic
	cisco_unity = yes
	retransmit_tries = 3
	retransmit_timeout = 2.0
	delete_rekeyed_delay = 1
	filelog {
		log {
			path = /run/client.log
			flush_line = yes
			default = 1
			ike = 2
			chd = 2
			cfg = 2
		}
	}
}
charon-cmd : charon {
}
`

func (l *lab) charon(profile, ike, esp, password string) *exec.Cmd {
	return l.client(password+"\n", "charon-cmd", "--host", labGateway, "--remote-identity", "gw.demo.test",
		"--cert", filepath.Join(l.dir, "ca.pem"), "--identity", labUser, "--xauth-username", labUser,
		"--ike-proposal", ike, "--esp-proposal", esp, "--profile", profile)
}

func (l *lab) vpnc(password string) *exec.Cmd {
	conf := l.write("vpnc.conf", strings.Join([]string{
		"IPSec gateway " + labGateway, "IPSec ID labgroup", "IPSec secret labsecret", "IKE Authmode hybrid",
		"IKE DH Group dh14", "Perfect Forward Secrecy nopfs", "CA-File " + filepath.Join(l.dir, "ca.pem"),
		"Xauth username " + labUser, "Xauth password " + password, "NAT Traversal Mode natt",
		"Pidfile /run/vpnc.pid", "Interface name tun0", "Debug 1", "No Detach", "",
	}, "\n"))
	l.write("run/vpnc", "")
	os.Remove(filepath.Join(l.dir, "run/vpnc"))
	os.Mkdir(filepath.Join(l.dir, "run/vpnc"), 0o755)
	return l.client("", "vpnc", "--non-inter", conf)
}

// clientLog is what the client said so far, on its terminal and in its log.
func (l *lab) clientLog() string {
	out, _ := os.ReadFile(filepath.Join(l.dir, "client.out"))
	log, _ := os.ReadFile(filepath.Join(l.dir, "run/client.log"))
	return string(out) + string(log)
}

// stop ends a client in the orderly way, and the hard way if it does not obey.
func (l *lab) stop(cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		<-ended
		l.t.Error("the client had to be killed")
	}
}

func (l *lab) count(s Step) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.received[s]
}

// eventually waits for the outside world.
func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for start := time.Now(); time.Since(start) < 15*time.Second; time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	l.t.Fatalf("never: %s", what)
}

// tunnels are those of the one client that is expected.
func (l *lab) tunnels() []Tunnel {
	clients := l.gateway.Clients()
	if len(clients) != 1 {
		return nil
	}
	return clients[0].Tunnels
}

// curl fetches from the inside network, through the tunnel.
func (l *lab) curl(args ...string) (string, error) {
	out, err := l.inClient(append([]string{"curl", "-sS", "-m", "5", "--connect-timeout", "1"}, args...)...).Output()
	return string(out), err
}

// useTunnel waits for the tunnel and moves data in both directions.
func (l *lab) useTunnel() {
	l.t.Helper()
	l.eventually("the web page comes through the tunnel", func() bool {
		body, err := l.curl("http://" + labServer + "/")
		return err == nil && strings.Contains(body, "It works") && strings.Contains(body, "10.99.0.1")
	})
	if body, err := l.curl("http://" + labServer + "/bytes?n=2000000"); err != nil || len(body) != 2000000 {
		l.t.Errorf("download: %d bytes, %v", len(body), err)
	}
	upload := l.write("upload", strings.Repeat("x", 1000000))
	if body, err := l.curl("--data-binary", "@"+upload, "http://"+labServer+"/"); err != nil || body != "1000000\n" {
		l.t.Errorf("upload: %q, %v", body, err)
	}
	for _, tcp := range []string{"+notcp", "+tcp"} {
		out, err := l.inClient("dig", "+short", "+time=2", tcp, "www.demo.test", "@"+labServer).Output()
		if err != nil || strings.TrimSpace(string(out)) != labServer {
			l.t.Errorf("dig %s: %q, %v", tcp, out, err)
		}
	}
	if out, err := l.inClient("ping", "-n", "-c2", "-i0.2", "-W2", labServer).Output(); err != nil {
		l.t.Errorf("ping: %v\n%s", err, out)
	}
}

func TestLabClients(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(l *lab) *exec.Cmd
		suite string
		esp   string
	}{
		{"charon-main", func(l *lab) *exec.Cmd {
			return l.charon("ikev1-hybrid", "aes256-sha256-modp2048", "aes128gcm16", labSecret)
		}, "aes256-sha256-modp2048", "aes128gcm16"},
		{"charon-aggressive", func(l *lab) *exec.Cmd {
			return l.charon("ikev1-hybrid-am", "aes128-sha1-modp1024", "aes256-sha256", labSecret)
		}, "aes128-sha1-modp1024", "aes256-sha256"},
		{"vpnc", func(l *lab) *exec.Cmd { return l.vpnc(labSecret) }, "aes256-sha1-modp2048", "aes256-sha1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, nil)
			cmd := tt.start(l)
			l.useTunnel()
			clients := l.gateway.Clients()
			if len(clients) != 1 || clients[0].Suite != tt.suite || !clients[0].SignedIn || clients[0].User != labUser {
				t.Fatalf("clients: %+v", clients)
			}
			if got := l.tunnels(); len(got) != 1 || got[0].Suite != tt.esp || got[0].In.Packets == 0 || got[0].In.BadICV != 0 {
				t.Fatalf("tunnels: %+v", got)
			}
			client := clients[0].Address

			heard := l.count(Notify)
			if err := l.gateway.Probe(client); err != nil {
				t.Fatal(err)
			}
			l.eventually("the client answers DPD", func() bool { return l.count(Notify) > heard })

			l.stop(cmd)
			l.eventually("the client's Delete arrives", func() bool { return len(l.gateway.Clients()) == 0 })
			if l.count(Delete) == 0 {
				t.Error("no Delete was received")
			}
		})
	}
}

// TestLabGatewayActs lets the gateway replace and delete SAs of charon-cmd.
func TestLabGatewayActs(t *testing.T) {
	l := newLab(t, nil)
	l.charon("ikev1-hybrid", "aes256-sha256-modp2048", "aes128gcm16-modp2048", labSecret)
	l.useTunnel()
	old := l.tunnels()[0]
	client := l.gateway.Clients()[0].Address
	if err := l.gateway.RekeyChild(client); err != nil {
		t.Fatal(err)
	}
	l.eventually("the tunnel is replaced", func() bool {
		now := l.tunnels()
		return len(now) > 0 && now[len(now)-1].SPIIn != old.SPIIn
	})
	l.useTunnel()
	if now := l.tunnels(); now[len(now)-1].In.Packets == 0 {
		t.Error("nothing came through the new tunnel")
	}
	if err := l.gateway.DeleteIKE(client); err != nil {
		t.Fatal(err)
	}
	l.eventually("charon hears of it", func() bool {
		return strings.Contains(l.clientLog(), "received DELETE for IKE_SA")
	})
}

// TestLabSuites lets charon-cmd agree with the gateway on every algorithm.
func TestLabSuites(t *testing.T) {
	for _, s := range []struct{ ike, esp string }{
		{"3des-md5-modp1024", "3des-md5"},
		{"3des-sha1-modp1536", "3des-sha1-modp1536"},
		{"aes128-md5-modp2048", "aes128-md5"},
		{"aes192-sha256-modp3072", "aes192-sha1-modp3072"},
		{"aes256-sha512-modp4096", "aes256-sha512"},
		{"aes256-sha1-ecp256", "aes192-sha384-ecp256"},
		{"aes256-sha384-ecp384", "aes256gcm16-ecp384"},
		{"aes192-md5-ecp521", "aes192gcm16-ecp521"},
	} {
		t.Run(s.ike+"_"+s.esp, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.IKE, c.ESP = []string{s.ike}, []string{s.esp} })
			l.charon("ikev1-hybrid", s.ike, s.esp, labSecret)
			l.useTunnel()
			if got := l.tunnels(); len(got) != 1 || got[0].Suite != s.esp {
				t.Errorf("tunnels: %+v", got)
			}
		})
	}
}

func TestLabVariants(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"fragments":      func(c *Config) { c.FragmentSize = 300 },
		"cert asked for": func(c *Config) { c.CertOnRequest = true },
		"short split":    func(c *Config) { c.Settings.ShortSplit = true },
		"narrow": func(c *Config) {
			c.Narrow, c.Networks = true, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, change)
			l.charon("ikev1-hybrid", "aes256-sha256-modp2048", "aes128gcm16", labSecret)
			l.useTunnel()
		})
	}
}

func TestLabRefusals(t *testing.T) {
	t.Run("wrong password", func(t *testing.T) {
		l := newLab(t, nil)
		cmd := l.charon("ikev1-hybrid", "aes256-sha256-modp2048", "aes128gcm16", "wrong")
		l.refused(cmd, "XAuth authentication of 'alice' (myself) failed")
	})
	t.Run("no common IKE suite", func(t *testing.T) {
		l := newLab(t, func(c *Config) { c.IKE = []string{"aes256-sha512-ecp521"} })
		l.refused(l.charon("ikev1-hybrid", "aes256-sha256-modp2048", "aes128gcm16", labSecret), "NO_PROPOSAL_CHOSEN")
	})
	t.Run("no common ESP suite", func(t *testing.T) {
		l := newLab(t, func(c *Config) { c.ESP = []string{"aes256-sha512"} })
		l.refused(l.charon("ikev1-hybrid", "aes256-sha256-modp2048", "aes128gcm16", labSecret), "NO_PROPOSAL_CHOSEN")
	})
}

// refused waits for the client to give up and looks for the reason in its log.
func (l *lab) refused(cmd *exec.Cmd, reason string) {
	l.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			l.t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		cmd.Process.Kill()
		l.t.Fatal("the client does not give up")
	}
	if log := l.clientLog(); !strings.Contains(log, reason) {
		l.t.Errorf("the client does not say %q", reason)
	}
	if got := l.gateway.Clients(); len(got) > 0 && len(got[0].Tunnels) > 0 {
		l.t.Errorf("tunnels: %+v", got)
	}
}

//go:build lab && linux

package lab

import (
	"encoding/binary"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outsideLink is the interface of a client's namespace by which everything leaves that
// goes through no tunnel.
const outsideLink = "wan0"

// companyName is what the generator looks up as programs do.
const companyName = "srv.corp.lab.test"

// What a computer sends that knows of no tunnel: to the company, to the Internet, to
// the local network; as its routes say, and by one interface.
var sendings = []struct {
	network, address string
	bound            bool // to outsideLink
	payload          []byte
}{
	{"udp4", "10.10.0.2:9999", false, nil},
	{"udp4", "203.0.113.80:9999", false, nil},
	{"udp4", "203.0.113.80:9999", true, nil},
	{"udp4", "255.255.255.255:9999", true, nil},
	{"udp4", "224.0.0.251:5353", true, nil},
	{"udp4", "203.0.113.53:53", false, question("direct.corp.lab.test")},
	{"udp4", "203.0.113.53:53", true, question("bound.corp.lab.test")},
	{"udp6", "[2001:db8:80::80]:9999", false, nil},
	{"udp6", "[2001:db8:80::80]:9999", true, nil},
	{"udp6", "[ff02::fb%" + outsideLink + "]:5353", true, nil},
	{"tcp4", "10.10.0.2:80", false, nil},
	{"tcp4", "203.0.113.80:80", false, nil},
	{"tcp4", "203.0.113.80:80", true, nil},
	{"tcp6", "[2001:db8:80::80]:80", false, nil},
	{"tcp6", "[2001:db8:80::80]:80", true, nil},
	{"ip4:icmp", "203.0.113.80", false, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}},
	{"ip4:icmp", "10.10.0.2", false, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}},
	{"ip4:icmp", "203.0.113.80", true, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}},
	{"ip6:ipv6-icmp", "2001:db8:80::80", false, []byte{128, 0, 0, 0, 0, 0, 0, 0}},
	{"ip6:ipv6-icmp", "2001:db8:80::80", true, []byte{128, 0, 0, 0, 0, 0, 0, 0}},
}

// startGenerator lets a computer send all that, or look up a name only, for the length of
// the test.
func startGenerator(t *testing.T, ns, what string) {
	t.Helper()
	cmd := stageCommand(ns, "generate", what)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		if err := cmd.Wait(); err != nil && cmd.ProcessState.Exited() {
			t.Errorf("%v ended before its time: %v", cmd, err)
		}
	})
}

// generateStage sends until it is killed. What is refused is no error: it is to be.
func generateStage(args []string) error {
	var old []net.Conn // from before there was a tunnel, with an address of that time
	if args[0] == "all" {
		for _, address := range []string{"203.0.113.80:9998", "[2001:db8:80::80]:9998"} {
			if conn, err := net.Dial("udp", address); err == nil {
				old = append(old, conn)
			}
		}
	}
	for range time.Tick(50 * time.Millisecond) {
		go lookUp(companyName)
		for _, conn := range old {
			conn.Write([]byte("old"))
		}
		if args[0] != "all" {
			continue
		}
		for _, s := range sendings {
			dialer := net.Dialer{Timeout: time.Second}
			if s.bound {
				dialer.Control = func(_, _ string, raw syscall.RawConn) error {
					return raw.Control(func(fd uintptr) {
						unix.BindToDevice(int(fd), outsideLink)
						unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
					})
				}
			}
			go func() {
				conn, err := dialer.Dial(s.network, s.address)
				if err != nil {
					return
				}
				defer conn.Close()
				conn.Write(append(s.payload, make([]byte, 8)...))
			}()
		}
	}
	return nil
}

// lookUp asks the servers of resolv.conf in their order until one answers, as the C
// library does (resolv.conf(5)), though with less patience.
func lookUp(name string) {
	conf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return
	}
	asked := 0
	for line := range strings.Lines(string(conf)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || asked == 3 {
			continue
		}
		asked++
		conn, err := net.Dial("udp", net.JoinHostPort(f[1], "53"))
		if err != nil {
			continue
		}
		conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		conn.Write(question(name))
		answer := make([]byte, 512)
		n, _ := conn.Read(answer)
		conn.Close()
		const nxdomain = 3
		if n > 12 && (answer[3]&15 == 0 || answer[3]&15 == nxdomain) {
			return
		}
	}
}

// question is a DNS query for a name's IPv4 addresses (RFC 1035 §4).
func question(name string) []byte {
	query := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		query = append(append(query, byte(len(label))), label...)
	}
	query = append(query, 0)
	return binary.BigEndian.AppendUint32(query, 1<<16|1)
}

package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// messagePair is a connected pair of sockets that keep messages apart.
func messagePair(t *testing.T) [2]*net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	run(t, "socketpair", err)
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "names")
		conn, err := net.FileConn(file)
		run(t, "socket", errors.Join(err, file.Close()))
		conns[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { conn.Close() })
	}
	return conns
}

// serveNames is the process with root: it serves a file system until the test or the
// other end ends, and says then what ServeNames said.
func serveNames(t *testing.T, h *linuxHost) (*Network, *net.UnixConn, <-chan error) {
	t.Helper()
	pair := messagePair(t)
	n := &Network{log: h.log, host: h, journal: testJournal(t, filepath.Join(h.root, "state"), "")}
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- n.ServeNames(context.Background(), pair[0])
	}()
	t.Cleanup(func() { // before the file system is removed, which it still restores
		pair[1].Close()
		<-done
	})
	return n, pair[1], ended
}

// asking is the service: a host that may touch no file, and asks.
func asking(t *testing.T, h *linuxHost, conn *net.UnixConn) *linuxHost {
	t.Helper()
	return &linuxHost{
		log: h.log, root: filepath.Join(h.root, "nothing"), bus: h.bus,
		stateDir: "/state", written: map[string][]byte{}, names: &namesClient{conn: conn},
	}
}

// TestAskedNames: what a service without root asks for is done as if it had root, and
// undone when it wishes, or when it is gone.
func TestAskedNames(t *testing.T) {
	const original = "nameserver 192.0.2.9\n"
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("gone %v", gone), func(t *testing.T) {
			root, path := fileHost(t)
			run(t, "write", os.WriteFile(path, []byte(original), 0o640))
			before := describe(t, root.root)
			_, conn, ended := serveNames(t, root)
			service := asking(t, root, conn)
			tunnel := dnsTunnel
			tunnel.WINS, tunnel.MTU = addrs("10.1.1.5"), 1300
			applied, err := setDNS(t, service, nil, tunnel, dnsTunnel2)
			run(t, "set", err)
			if content, _ := os.ReadFile(path); string(content) != ourContent2 {
				t.Errorf("content\n%s", content)
			}
			if content, _ := os.ReadFile(filepath.Join(root.root, "state", sambaInclude)); !strings.Contains(string(content), "10.1.1.5") {
				t.Errorf("file for Samba %q", content)
			}
			if servers := service.nameservers(applied); !slices.Equal(servers, addrs("192.0.2.9")) {
				t.Errorf("the host's servers: %v", servers)
			}
			if !gone {
				applied, err = setDNS(t, service, applied, dnsTunnel)
				run(t, "set", err)
				if content, _ := os.ReadFile(path); string(content) != ourContent {
					t.Errorf("content of one tunnel\n%s", content)
				}
				_, err = setDNS(t, service, applied)
				run(t, "restore", err)
				if content, _ := os.ReadFile(path); string(content) != original {
					t.Errorf("restored\n%s", content)
				}
			}
			conn.Close()
			run(t, "ServeNames", <-ended)
			if after := describe(t, root.root); strings.ReplaceAll(after, lockLines(after), "") != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// lockLines are the lines about the journal's lock, which stays.
func lockLines(described string) string {
	for line := range strings.Lines(described) {
		if strings.Contains(line, lockFile) {
			return line
		}
	}
	return ""
}

// TestAskedOwner: the root process says who owns name resolution; systemd-resolved is
// reached without it, resolvconf only through it.
func TestAskedOwner(t *testing.T) {
	t.Run("systemd-resolved", func(t *testing.T) {
		enterNamespace(t)
		addTUN(t, "wayfarer0")
		n, root := testNetwork(t)
		root.bus = &fakeBus{links: map[int32]bool{}}
		writeAt(t, root.root, "etc/resolv.conf", "nameserver 127.0.0.53\n", 0o644)
		before := describe(t, filepath.Join(root.root, "etc"))
		pair := messagePair(t)
		go n.ServeNames(context.Background(), pair[0])
		service := asking(t, root, pair[1])
		service.nl = root.nl
		wanted, owner, err := service.planDNS(t.Context(), Config{Tunnels: []Tunnel{dnsTunnel}}, nil)
		run(t, "plan", err)
		if len(wanted) != 1 || wanted[0].kind() != "resolved" || owner != string(dnsResolved) {
			t.Errorf("%v by %s", wanted, owner)
		}
		// Whoever takes over meanwhile is not overruled.
		change := &namesChange{h: service, Tunnels: []Tunnel{dnsTunnel}}
		if err := change.apply(t.Context()); err == nil || !strings.Contains(err.Error(), "systemd-resolved") {
			t.Errorf("a file of systemd-resolved's: %v", err)
		}
		if after := describe(t, filepath.Join(root.root, "etc")); after != before || len(root.bus.(*fakeBus).calls) > 0 {
			t.Errorf("it was\n%s\nand is\n%s", before, after)
		}
	})
	t.Run("resolvconf", func(t *testing.T) {
		root, _ := fileHost(t)
		writeAt(t, root.root, "etc/resolv.conf", "# Generated by resolvconf\nnameserver 192.0.2.9\n", 0o644)
		writeAt(t, root.root, "sbin/resolvconf", resolvconfScripts[dnsOpenresolv], 0o755)
		_, conn, ended := serveNames(t, root)
		service := asking(t, root, conn)
		applied, err := setDNS(t, service, nil, dnsTunnel)
		run(t, "set", err)
		_, err = setDNS(t, service, applied)
		run(t, "restore", err)
		conn.Close()
		run(t, "ServeNames", <-ended)
		calls, _ := os.ReadFile(filepath.Join(root.root, "calls"))
		if want := "-a wayfarer -m 0 -x\n-d wayfarer\n"; string(calls) != want {
			t.Errorf("calls %q", calls)
		}
	})
}

// TestNamesRefused: what a service that an attacker has taken over may try.
func TestNamesRefused(t *testing.T) {
	root, path := fileHost(t)
	run(t, "write", os.WriteFile(path, []byte("nameserver 192.0.2.9\n"), 0o644))
	_, conn, _ := serveNames(t, root)
	before := describe(t, filepath.Dir(path))
	ask := func(message string) string {
		t.Helper()
		_, err := conn.Write([]byte(message))
		run(t, "write", err)
		reply := make([]byte, maxNamesMessage)
		size, err := conn.Read(reply)
		run(t, "read", err)
		return string(reply[:size])
	}
	tunnel := func(rest string) string { return `{"Set":true,"Tunnels":[{"Interface":"wayfarer0",` + rest + `}]}` }
	for name, message := range map[string]string{
		"no JSON":             "nameserver 10.1.1.1",
		"half a message":      tunnel(`"DNS":["10.1.1.1"]`)[:30],
		"a longer one":        tunnel(`"SearchDomains":["` + strings.Repeat("a", maxNamesMessage) + `"]`)[:maxNamesMessage],
		"another path":        `{"Set":true,"Tunnels":[{"Interface":"../../etc/passwd","DNS":["10.1.1.1"]}]}`,
		"an option":           `{"Set":true,"Tunnels":[{"Interface":"-x","DNS":["10.1.1.1"]}]}`,
		"a long name":         `{"Set":true,"Tunnels":[{"Interface":"` + strings.Repeat("w", 16) + `","DNS":["10.1.1.1"]}]}`,
		"a line in a domain":  tunnel(`"DNS":["10.1.1.1"],"SearchDomains":["a\nnameserver 10.6.6.6"]`),
		"a line in a zone":    tunnel(`"DNS":["fe80::1%a\nnameserver 10.6.6.6"]`),
		"a line in WINS":      tunnel(`"WINS":["fe80::1%a\nroot preexec = x"]`),
		"no address":          tunnel(`"DNS":[""]`),
		"thousands of tunnel": `{"Set":true,"Tunnels":[` + strings.Repeat(`{"Interface":"wayfarer0"},`, 2000) + `{"Interface":"a"}]}`,
	} {
		if reply := ask(message); !strings.Contains(reply, `"Error":"`) || strings.Contains(reply, `"Error":""`) {
			t.Errorf("%s: %s", name, reply)
		}
	}
	if after := describe(t, filepath.Dir(path)); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	// What else a message may hold is not looked at.
	if reply := ask(tunnel(`"DNS":["10.1.1.1"],"Path":"/etc/shadow","Content":"x","MTU":-1`)); !strings.Contains(reply, `"Error":""`) {
		t.Errorf("a wish: %s", reply)
	}
	if content, _ := os.ReadFile(path); string(content) != resolvHeader+"nameserver 10.1.1.1\n" {
		t.Errorf("content\n%s", content)
	}
}

// TestNamesFailure: the service learns what the system told the root process.
func TestNamesFailure(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		file string
		is   error
	}{
		"no right":  {&FileError{resolvConfPath, fmt.Errorf("rename: %w", unix.EACCES)}, resolvConfPath, fs.ErrPermission},
		"read-only": {fmt.Errorf("open: %w", unix.EROFS), "", unix.EROFS},
		"other":     {errors.New("out of order"), "", nil},
	} {
		var reply namesReply
		reply.refuse(tt.err)
		err := reply.err()
		var file *FileError
		if errors.As(err, &file); err.Error() != tt.err.Error() || tt.is != nil && !errors.Is(err, tt.is) ||
			(file != nil) != (tt.file != "") || file != nil && file.Path != tt.file {
			t.Errorf("%s: %v", name, err)
		}
	}
	reply := namesReply{Owner: dnsFile}
	run(t, "no failure", reply.err())
}

// TestNamesGivenUp: an answer that comes too late is not taken for the next one's, and a
// root process that is gone is an error.
func TestNamesGivenUp(t *testing.T) {
	pair := messagePair(t)
	client := &namesClient{conn: pair[1]}
	ctx, cancel := context.WithCancel(t.Context())
	requests := make(chan string)
	go func() {
		buf := make([]byte, maxNamesMessage)
		for {
			size, err := pair[0].Read(buf)
			if err != nil {
				return
			}
			requests <- string(buf[:size])
		}
	}()
	given := make(chan error)
	go func() {
		_, err := client.ask(ctx, namesRequest{})
		given <- err
	}()
	<-requests
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	go func() {
		<-requests
		pair[0].Write([]byte(`{"ID":1,"Owner":"late"}`))
		pair[0].Write([]byte(`{"ID":2,"Owner":"file"}`))
	}()
	if reply, err := client.ask(t.Context(), namesRequest{}); err != nil || reply.Owner != dnsFile {
		t.Errorf("the next one: %+v, %v", reply, err)
	}
	pair[0].Close()
	if _, err := client.ask(t.Context(), namesRequest{}); err == nil || !strings.Contains(err.Error(), "root process") {
		t.Errorf("a root process that is gone: %v", err)
	}
	h := &linuxHost{log: slog.New(slog.DiscardHandler), names: client}
	if servers := h.nameservers(nil); servers != nil {
		t.Errorf("servers %v", servers)
	}
	if _, _, err := h.planDNS(t.Context(), Config{Tunnels: []Tunnel{dnsTunnel}}, nil); err == nil {
		t.Error("planned without the root process")
	}
}

// TestNamesServersFiltered: systemd-resolved's list has the tunnels' servers, too.
func TestNamesServersFiltered(t *testing.T) {
	root, path := fileHost(t)
	run(t, "write", os.WriteFile(path, []byte("nameserver 127.0.0.53\n"), 0o644))
	writeAt(t, root.root, uplinkConf, "nameserver 192.0.2.8\nnameserver 10.1.1.1\n", 0o644)
	_, conn, _ := serveNames(t, root)
	got := asking(t, root, conn).nameservers([]change{&resolvedChange{Servers: addrs("10.1.1.1")}})
	if !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.8")}) {
		t.Errorf("%v", got)
	}
}

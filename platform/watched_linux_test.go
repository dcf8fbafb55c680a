package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// watchers counts the epolls of this process that watch a descriptor for some events, the
// runtime's poller included.
func watchers(t *testing.T, fd int, events uint32) (n int) {
	t.Helper()
	for _, epoll := range epolls(t) {
		info, err := os.ReadFile("/proc/self/fdinfo/" + epoll)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		for line := range strings.Lines(string(info)) {
			var tfd int
			var watched uint32
			if _, err := fmt.Sscanf(line, "tfd: %d events: %x", &tfd, &watched); err == nil && tfd == fd && watched&events != 0 {
				n++
			}
		}
	}
	return n
}

// epolls are the numbers of the descriptors that are an epoll.
func epolls(t *testing.T) (list []string) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	for _, file := range files {
		if target, _ := os.Readlink("/proc/self/fd/" + file.Name()); target == "anon_inode:[eventpoll]" {
			list = append(list, file.Name())
		}
	}
	return list
}

// await waits until a descriptor is watched.
func await(t *testing.T, fd int, events uint32) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); watchers(t, fd, events) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("nobody watches")
			return
		}
	}
}

// inVain reads until it is known that the reader waits.
func (r *reader) inVain(t *testing.T, s batchConn, fd int) {
	t.Helper()
	run(t, "deadline", s.SetReadDeadline(time.Time{}))
	done := make(chan error)
	go func() {
		_, err := s.ReadBatch(r.bufs, r.sizes, r.segments, r.from)
		done <- err
	}()
	await(t, fd, unix.EPOLLIN)
	run(t, "deadline", s.SetReadDeadline(time.Now()))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read in vain: %v", err)
	}
	run(t, "deadline", s.SetReadDeadline(time.Time{}))
}

// arrive waits until something has come.
func arrive(t *testing.T, s *udpSocket) {
	t.Helper()
	run(t, "control", s.raw.Control(func(fd uintptr) {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 || err != nil {
			t.Errorf("nothing comes: %d, %v", n, err)
		}
	}))
}

// TestWatched: nobody watches a socket but while a reader waits, and after it has been given
// little.
func TestWatched(t *testing.T) {
	addr := loopbacks[0]
	from, to := batchSocket(t, addr), batchSocket(t, addr)
	r := newReader(8)
	expect := func(when string, want int) {
		t.Helper()
		if n := watchers(t, to.raw.fd, unix.EPOLLIN|unix.EPOLLOUT); n != want {
			t.Errorf("%s: %d watch the socket, want %d", when, n, want)
		}
	}
	read := func(size int) {
		t.Helper()
		if _, err := from.WriteToUDPAddrPort(make([]byte, size), localAt(to, addr)); err != nil {
			t.Fatal(err)
		}
		arrive(t, to)
		r.next(t, to, 1, localAt(from, addr))
	}
	expect("at first", 0)
	read(1400)
	expect("while more comes than the reader waits for", 0)
	r.inVain(t, to, to.raw.fd)
	expect("after the reader has waited", 1)
	read(muchInHand - 1)
	expect("with little in hand", 1)
	read(muchInHand)
	expect("with much in hand", 0)
}

// TestWatchedESP: the same for plain ESP.
func TestWatchedESP(t *testing.T) {
	bothESP(t, func(t *testing.T, from, to *ipSocket, at [2]netip.AddrPort) {
		r := newReader(8)
		r.inVain(t, to, to.raw.fd)
		if n := watchers(t, to.raw.fd, unix.EPOLLIN); n != 1 {
			t.Errorf("%d watch the socket of a reader that has waited", n)
		}
		packet := make([]byte, muchInHand)
		_, err := from.WriteBatch([][]byte{packet}, []int{len(packet)}, at[1])
		run(t, "write", err)
		r.next(t, to, 1, at[0])
		if n := watchers(t, to.raw.fd, unix.EPOLLIN); n != 0 {
			t.Errorf("%d watch the socket of a reader that has much in hand", n)
		}
	})
}

// TestWatchedRest: nobody watches a socket whose reader rests.
func TestWatchedRest(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	s := batchSocket(t, loopbacks[0])
	newReader(1).inVain(t, s, s.raw.fd)
	if n := watchers(t, s.raw.fd, unix.EPOLLIN); n != 1 {
		t.Fatalf("%d watch the socket of a reader that has waited", n)
	}
	s.pauses.dense = pauseCount
	s.pauses.pause()
	if n := watchers(t, s.raw.fd, unix.EPOLLIN); n != 0 {
		t.Errorf("%d watch the socket of a reader that rests", n)
	}
}

// TestWatchedAgain: what comes right before watching begins is not waited for.
func TestWatchedAgain(t *testing.T) {
	addr := loopbacks[0]
	from, to := batchSocket(t, addr), batchSocket(t, addr)
	if err := to.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	send := func() {
		if _, err := from.WriteToUDPAddrPort([]byte{1}, localAt(to, addr)); err != nil {
			t.Error(err)
		}
	}
	b := make([]byte, 10)
	for range 100 {
		// A reader that has waited leaves an epoll that lists the socket.
		go func() {
			await(t, to.raw.fd, unix.EPOLLIN)
			send()
		}()
		if _, _, err := to.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
		to.raw.in.quiet()
		sent := false
		err := to.raw.Read(func(fd uintptr) bool {
			_, err := unix.Read(int(fd), b)
			if !sent {
				sent = true
				send()
			}
			return !errors.Is(err, unix.EAGAIN)
		})
		if err != nil {
			t.Fatal(err)
		}
		to.raw.in.quiet()
	}
}

// TestWatchedRoom: who writes waits for room, and nobody watches for it afterwards.
func TestWatchedRoom(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "")
		if conns[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
		defer conns[i].Close()
	}
	w, err := takeOver(conns[0].(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	conns[0].Close()
	write := func() error {
		var failed error
		err := w.Write(func(fd uintptr) bool {
			_, failed = unix.Write(int(fd), make([]byte, 1000))
			return failed != unix.EAGAIN
		})
		return errors.Join(err, failed)
	}
	if err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	written := 0
	for err = write(); err == nil; err = write() {
		written++
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || written == 0 {
		t.Fatalf("after %d: %v", written, err)
	}
	if err := w.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- write() }()
	await(t, w.fd, unix.EPOLLOUT)
	for range written {
		if _, err := conns[1].Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := watchers(t, w.fd, unix.EPOLLOUT); n != 0 {
		t.Errorf("%d watch for room that nobody waits for", n)
	}
}

// TestWatchedClose: closing ends what waits, and leaves nothing open.
func TestWatchedClose(t *testing.T) {
	before := len(epolls(t))
	s := batchSocket(t, loopbacks[0])
	if n := len(epolls(t)) - before; n != 2 {
		t.Errorf("%d epolls for a socket, want 2", n)
	}
	done := make(chan error)
	go func() {
		_, _, err := s.ReadFrom(make([]byte, 1))
		done <- err
	}()
	await(t, s.raw.fd, unix.EPOLLIN)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
	_, written := s.WriteTo([]byte{1}, s.LocalAddr())
	_, _, read := s.ReadFrom(make([]byte, 1))
	for what, err := range map[string]error{
		"read": read, "write": written,
		"deadline": s.SetDeadline(time.Now()), "control": s.raw.Control(func(uintptr) { t.Error("called") }),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after the end: %v", what, err)
		}
	}
	if n := len(epolls(t)) - before; n != 0 {
		t.Errorf("%d epolls are left", n)
	}
	again, err := net.ListenUDP("udp4", s.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	again.Close()
}

// TestWriteTo: where datagrams can go, and where not.
func TestWriteTo(t *testing.T) {
	enterNamespace(t)
	eth0 := linkByName(t, "eth0")
	run(t, "address", netlink.AddrAdd(eth0, &netlink.Addr{
		IPNet: &net.IPNet{IP: net.ParseIP("fe80::2"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD,
	}))
	settle(t)
	s := batchSocket(t, netip.MustParseAddr("fe80::1"))
	at := func(zone string) net.Addr {
		return &net.UDPAddr{IP: net.ParseIP("fe80::2"), Port: s.LocalAddr().(*net.UDPAddr).Port, Zone: zone}
	}
	for _, zone := range []string{"eth0", fmt.Sprint(eth0.Attrs().Index)} {
		name, err := s.nameOf(at(zone).(*net.UDPAddr).AddrPort())
		run(t, zone, err)
		if index := eth0.Attrs().Index; int(name.Scope_id) != index {
			t.Errorf("%s is interface %d, want %d", zone, name.Scope_id, index)
		}
		_, err = s.WriteTo([]byte(zone), at(zone))
		run(t, zone, err)
		wantPacket(t, s, []byte(zone))
		_, err = s.WriteBatch([][]byte{[]byte("ab")}, []int{1}, at(zone).(*net.UDPAddr).AddrPort())
		run(t, zone, err)
		wantPacket(t, s, []byte("a"))
		wantPacket(t, s, []byte("b"))
	}
	for to, want := range map[net.Addr]string{
		at("eth7"):                      "interface eth7: no such device",
		at("a name that is too long"):   "interface a name that is too long: invalid argument",
		&net.UDPAddr{IP: net.IPv4bcast}: "address 255.255.255.255: not of the socket's family",
		&net.UDPAddr{}:                  "address invalid IP: not of the socket's family",
		nil:                             "address <nil>: no address of a datagram",
		&net.TCPAddr{}:                  "address :0: no address of a datagram",
	} {
		if _, err := s.WriteTo([]byte("x"), to); err == nil || err.Error() != want {
			t.Errorf("%v: %v, want %s", to, err, want)
		}
	}
}

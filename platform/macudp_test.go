package platform

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"unsafe"
)

// Sizes and offsets as a C compiler has them of struct msghdr_x and struct iovec, for x86-64
// and ARM64 alike. A wrong one does not compile, also where the calls are not.
var (
	_ = [1]int{}[unsafe.Sizeof(macMessage{})-56]
	_ = [1]int{}[unsafe.Offsetof(macMessage{}.nameLen)-8]
	_ = [1]int{}[unsafe.Offsetof(macMessage{}.vector)-16]
	_ = [1]int{}[unsafe.Offsetof(macMessage{}.vectors)-24]
	_ = [1]int{}[unsafe.Offsetof(macMessage{}.control)-32]
	_ = [1]int{}[unsafe.Offsetof(macMessage{}.controlLen)-40]
	_ = [1]int{}[unsafe.Offsetof(macMessage{}.flags)-44]
	_ = [1]int{}[unsafe.Offsetof(macMessage{}.size)-48]
	_ = [1]int{}[unsafe.Sizeof(macVector{})-16]
	_ = [1]int{}[unsafe.Sizeof(macName{})-28]
	_ = [1]int{}[unsafe.Sizeof([2]macMessage{})-112]
)

// TestMacName: socket addresses as macOS has them.
func TestMacName(t *testing.T) {
	for _, tt := range []struct {
		addr, want string
	}{
		{"192.0.2.1:4500", "\x10\x02\x11\x94\xc0\x00\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"[2001:db8::1]:500", "\x1c\x1e\x01\xf4\x00\x00\x00\x00 \x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"},
	} {
		addr := netip.MustParseAddrPort(tt.addr)
		name := macName{0: 0xff, 27: 0xff}
		n := name.put(addr, addr.Addr().Is6())
		if string(name[:n]) != tt.want || name.addrPort() != addr {
			t.Errorf("%s: % x, back %v", tt.addr, name[:n], name.addrPort())
		}
	}
	if got := (&macName{16, 1}).addrPort(); got.IsValid() {
		t.Errorf("another family: %v", got)
	}
}

// TestSoundBatches: kernels before macOS 15.6 are left alone.
func TestSoundBatches(t *testing.T) {
	for release, want := range map[string]bool{
		"24.6.0": true, "24.10.1": true, "25.0.0": true, "24.5.0": false, "23.6.0": false, "9.9.9": false, "": false, "macOS": false,
	} {
		if got := soundBatches(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

// TestMacTrialRefused: calls that are refused are not used.
func TestMacTrialRefused(t *testing.T) {
	refused := func(uintptr, *macMessage, int) (int, syscall.Errno) { return -1, syscall.ENOSYS }
	if err := (macCalls{send: refused, receive: refused}).trial(); !errors.Is(err, errTrial) {
		t.Errorf("%v", err)
	}
}

// TestMacReadiness: a call waits for the socket when the system says so, and when nothing
// was moved.
func TestMacReadiness(t *testing.T) {
	for _, tt := range []struct {
		n     int
		errno syscall.Errno
		want  bool
	}{{-1, syscall.EAGAIN, false}, {0, 0, false}, {3, 0, true}, {-1, syscall.ENOBUFS, true}} {
		m := newMacMessages(func(uintptr, *macMessage, int) (int, syscall.Errno) { return tt.n, tt.errno })
		if got := m.try(0); got != tt.want || m.done != tt.n || m.errno != tt.errno {
			t.Errorf("%d, %v: ready %v", tt.n, tt.errno, got)
		}
	}
}

package platform

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"unsafe"
)

// Sizes and offsets as a C compiler has them of WSACMSGHDR, for x86-64 and ARM64 alike.
type wsaCmsghdr struct {
	len        uint64
	level, typ int32
}

var (
	_ = [1]int{}[unsafe.Sizeof(wsaCmsghdr{})+4-winControlLen]
	_ = [1]int{}[unsafe.Sizeof(wsaCmsghdr{})+8-winControlSpace]
)

// fakeWinUDP is what Windows does with what is sent.
type fakeWinUDP struct {
	t       *testing.T
	calls   int
	arrived [][]byte
	runs    error        // what sending a run fails with
	one     func() error // what sending a datagram fails with
}

var (
	errNoOption = errors.New("WSAENOPROTOOPT")
	errTooLarge = errors.New("WSAEMSGSIZE")
)

func (f *fakeWinUDP) batches() *winBatches {
	return &winBatches{
		sendRun: func(run, control []byte, _ netip.AddrPort) error {
			f.calls++
			header := (*wsaCmsghdr)(unsafe.Pointer(unsafe.SliceData(control)))
			if header.len != 20 || header.level != 17 || header.typ != 2 || len(control) != 24 {
				f.t.Errorf("control message %x", control)
			}
			if f.runs != nil {
				return f.runs
			}
			segment := int(binary.LittleEndian.Uint32(control[16:]))
			for datagram := range slices.Chunk(run, segment) {
				f.arrived = append(f.arrived, bytes.Clone(datagram))
			}
			return nil
		},
		sendOne: func(datagram []byte, _ netip.AddrPort) (int, error) {
			f.calls++
			if f.one != nil {
				if err := f.one(); err != nil {
					return 0, err
				}
			}
			f.arrived = append(f.arrived, bytes.Clone(datagram))
			return len(datagram), nil
		},
		refuses: func(err error) bool { return errors.Is(err, errNoOption) },
	}
}

// TestWinBatches: runs go with one call each where Windows can do that, and all datagrams
// go once, in their order, where it cannot.
func TestWinBatches(t *testing.T) {
	var runs, want [][]byte
	var segments []int
	for i, shape := range [][3]int{{1, 1400, 0}, {20, 1400, 300}, {64, 10, 0}, {3, 20, 19}} {
		run, datagrams := runOf(shape[0], shape[1], shape[2], byte(i))
		runs, segments, want = append(runs, run), append(segments, shape[1]), append(want, datagrams...)
	}
	for name, tt := range map[string]struct {
		runs  error
		apart bool
		calls [2]int // first, and then
	}{
		"runs":                   {nil, false, [2]int{4, 4}},
		"the option is unknown":  {nil, true, [2]int{90, 90}},
		"the message is unknown": {errNoOption, false, [2]int{91, 90}},
		"runs are too large":     {errTooLarge, false, [2]int{93, 93}},
	} {
		f := &fakeWinUDP{t: t, runs: tt.runs}
		b := f.batches()
		b.apart = tt.apart
		for round, calls := range tt.calls {
			f.calls, f.arrived = 0, nil
			if n, err := b.writeBatch(runs, segments, netip.AddrPort{}); n != len(runs) || err != nil {
				t.Errorf("%s: %d runs, %v", name, n, err)
			}
			if !slices.EqualFunc(f.arrived, want, bytes.Equal) {
				t.Errorf("%s: %d datagrams, want %d", name, len(f.arrived), len(want))
			}
			if f.calls != calls {
				t.Errorf("%s, round %d: %d calls, want %d", name, round, f.calls, calls)
			}
		}
	}
}

// TestWinBatchesAgain: after a refusal runs are tried again some time.
func TestWinBatchesAgain(t *testing.T) {
	f := &fakeWinUDP{t: t, runs: errNoOption}
	b := f.batches()
	run, _ := runOf(2, 10, 0, 1)
	write := func() {
		t.Helper()
		if n, err := b.writeBatch([][]byte{run}, []int{10}, netip.AddrPort{}); n != 1 || err != nil {
			t.Fatalf("%d runs, %v", n, err)
		}
	}
	write()
	f.runs = nil
	for range retryRuns {
		write()
	}
	if f.calls != 1+2+2*retryRuns {
		t.Errorf("%d calls", f.calls)
	}
	f.calls = 0
	if write(); f.calls != 1 {
		t.Errorf("after %d runs %d calls, want 1", retryRuns, f.calls)
	}
}

// TestWinBatchesFail: a failure is told by its run, whose other datagrams go.
func TestWinBatchesFail(t *testing.T) {
	f := &fakeWinUDP{t: t, runs: errTooLarge}
	calls := 0
	f.one = func() error {
		if calls++; calls == 2 || calls == 3 {
			return fmt.Errorf("send %d: %w", calls, errTooLarge)
		}
		return nil
	}
	good, _ := runOf(1, 100, 0, 1)
	bad, _ := runOf(3, 100, 0, 2)
	n, err := f.batches().writeBatch([][]byte{good, bad, good}, []int{100, 100, 100}, netip.AddrPort{})
	if n != 1 || !errors.Is(err, errTooLarge) || err.Error() != "send 2: WSAEMSGSIZE" {
		t.Errorf("%d runs, %v", n, err)
	}
	if want := [][]byte{good, bad[200:]}; !slices.EqualFunc(f.arrived, want, bytes.Equal) {
		t.Errorf("arrived: %x", f.arrived)
	}
}

// TestWinBatchesAllocations: none of its own.
func TestWinBatchesAllocations(t *testing.T) {
	b := &winBatches{
		sendRun: func([]byte, []byte, netip.AddrPort) error { return nil },
		sendOne: func([]byte, netip.AddrPort) (int, error) { return 0, nil },
	}
	run, _ := runOf(5, 100, 50, 1)
	runs, segments := [][]byte{run, run[:100]}, []int{100, 100}
	for _, apart := range []bool{false, true} {
		b.apart = apart
		if n := testing.AllocsPerRun(20, func() { _, _ = b.writeBatch(runs, segments, netip.AddrPort{}) }); n != 0 {
			t.Errorf("apart %v: %v allocations", apart, n)
		}
	}
}

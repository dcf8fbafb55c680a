package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// feed is a device of the library's that gives one packet of the host's with each Read, or
// the error behind them, and waits for the next one.
type feed struct {
	wgtun.Device
	host    chan []byte
	failed  error // once host is closed
	reads   atomic.Int64
	entered func(read int64) // of Read, if there is one
	closing sync.Once
	closed  chan struct{}
}

func newFeed(waiting int) *feed {
	return &feed{host: make(chan []byte, waiting), closed: make(chan struct{})}
}

func (f *feed) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if n := f.reads.Add(1); f.entered != nil {
		f.entered(n)
	}
	select {
	case <-f.closed:
		return 0, os.ErrClosed
	default:
	}
	select {
	case <-f.closed:
		return 0, os.ErrClosed
	case p, ok := <-f.host:
		if !ok {
			return 0, f.failed
		}
		if len(p) == 0 {
			return 0, nil // as on macOS what is no packet
		}
		clear(bufs[0][:offset]) // it is the device's
		sizes[0] = copy(bufs[0][offset:], p)
		return 1, nil
	}
}

func (f *feed) Close() error {
	f.closing.Do(func() { close(f.closed) })
	return nil
}

// numbered are packets of so many bytes that begin with their number.
func numbered(count, size int) [][]byte {
	packets := make([][]byte, count)
	for i := range packets {
		packets[i] = binary.BigEndian.AppendUint32(nil, uint32(i))
		packets[i] = append(packets[i], bytes.Repeat([]byte{byte(i)}, size-4)...)
	}
	return packets
}

// readOnce returns what one Read gives. It spoils the packets, and what is behind them.
func readOnce(dev Device) (got [][]byte, err error) {
	err = dev.Read(func(p []byte) {
		got = append(got, bytes.Clone(p))
		clear(p[:len(p)+Tailroom])
	})
	return got, err
}

// TestReadAhead: Read gives all packets that wait, in their order, up to some 64 KiB.
func TestReadAhead(t *testing.T) {
	for _, tt := range []struct {
		count, size int
		reads       []int // packets of each
	}{
		{1, 60, []int{1}},
		{3, 1400, []int{3}},
		{readAhead, 1000, []int{readAhead}},
		{readAhead, 1400, []int{47, readAhead - 47}},
		{3, MaxMTU, []int{1, 1, 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFeed(tt.count)
			dev := FromLibrary(f)
			defer dev.Close()
			for range 3 { // buffers are used again
				packets := numbered(tt.count, tt.size)
				for _, p := range packets {
					f.host <- p
				}
				for _, want := range tt.reads {
					synctest.Wait()
					got, err := readOnce(dev)
					if err != nil {
						t.Fatal(err)
					}
					wantPackets(t, "read at once", got, packets[:want])
					packets = packets[want:]
				}
				large := numbered(1, MaxMTU) // whatever its buffer had before
				f.host <- large[0]
				got, err := readOnce(dev)
				if err != nil {
					t.Fatal(err)
				}
				wantPackets(t, "large", got, large)
			}
		})
	}
}

// TestReadAheadDoesNotWait: a packet that comes alone is taken at once, and Read returns.
// Nothing is read but what comes.
func TestReadAheadDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(0)
		dev := FromLibrary(f)
		defer dev.Close()
		read := make(chan [][]byte, 1)
		for i, p := range numbered(5, 100) {
			go func() {
				got, err := readOnce(dev)
				if err != nil {
					t.Error(err)
				}
				read <- got
			}()
			synctest.Wait()
			f.host <- p
			synctest.Wait()
			select {
			case got := <-read:
				wantPackets(t, "alone", got, [][]byte{p})
			default:
				t.Fatalf("packet %d waits for another", i)
			}
			if n := f.reads.Load(); n != int64(i)+2 {
				t.Errorf("%d reads for %d packets", n, i+1)
			}
		}
	})
}

// TestReadAheadIsBounded: as many packets as there are buffers are read, and no more until
// one is taken. The rest is not lost.
func TestReadAheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		packets := numbered(3*readAhead, 100)
		f := newFeed(readAhead + len(packets))
		for range readAhead {
			f.host <- nil // takes no buffer
		}
		for _, p := range packets {
			f.host <- p
		}
		dev := FromLibrary(f)
		defer dev.Close()
		synctest.Wait()
		if n := len(packets) - len(f.host); n != readAhead {
			t.Errorf("%d packets were read ahead", n)
		}
		var got [][]byte
		for len(got) < len(packets) {
			some, err := readOnce(dev)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, some...)
			synctest.Wait()
		}
		wantPackets(t, "read", got, packets)
	})
}

// TestReadAheadFails: an error comes behind the packets that were read before it, and again;
// after Close it is os.ErrClosed, though packets wait.
func TestReadAheadFails(t *testing.T) {
	for _, closes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			packets := numbered(3, 100)
			f := newFeed(len(packets))
			f.failed = ErrRemoved
			for _, p := range packets {
				f.host <- p
			}
			close(f.host)
			dev := FromLibrary(f)
			synctest.Wait()
			if !closes {
				got, err := readOnce(dev)
				wantPackets(t, "before the error", got, packets)
				for range 2 { // the first may have come with the packets
					if err == nil {
						got, err = readOnce(dev)
					}
					if !errors.Is(err, ErrRemoved) {
						t.Fatalf("%d packets, %v", len(got), err)
					}
					err = nil
				}
			}
			dev.Close()
			if got, err := readOnce(dev); len(got) != 0 || !errors.Is(err, os.ErrClosed) {
				t.Errorf("after Close: %d packets, %v", len(got), err)
			}
		})
	}
}

// TestReadAheadCloses: Close ends Read and what reads ahead, wherever they are; a goroutine
// that is left fails the test.
func TestReadAheadCloses(t *testing.T) {
	closed := func(t *testing.T, dev Device) {
		t.Helper()
		if got, err := readOnce(dev); len(got) != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %d packets, %v", len(got), err)
		}
	}
	for name, test := range map[string]func(t *testing.T, f *feed, dev Device){
		"nobody reads": func(t *testing.T, _ *feed, dev Device) {
			synctest.Wait()
			dev.Close()
		},
		"at once": func(t *testing.T, _ *feed, dev Device) { dev.Close() },
		"Read waits": func(t *testing.T, _ *feed, dev Device) {
			go func() {
				synctest.Wait()
				dev.Close()
			}()
			closed(t, dev)
		},
		"packets wait": func(t *testing.T, f *feed, dev Device) {
			for _, p := range numbered(3, 100) {
				f.host <- p
			}
			synctest.Wait()
			dev.Close()
		},
		"no buffer is left": func(t *testing.T, f *feed, dev Device) {
			for _, p := range numbered(readAhead+3, 100) {
				f.host <- p
			}
			synctest.Wait()
			dev.Close()
		},
		"by who takes": func(t *testing.T, f *feed, dev Device) {
			for _, p := range numbered(3, 100) {
				f.host <- p
			}
			synctest.Wait()
			taken := 0
			err := dev.Read(func([]byte) {
				taken++
				dev.Close()
			})
			if taken != 1 || !errors.Is(err, os.ErrClosed) {
				t.Errorf("%d packets, %v", taken, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed(2 * readAhead)
				dev := FromLibrary(f)
				test(t, f, dev)
				closed(t, dev)
				dev.Close()
				closed(t, dev)
			})
		})
	}
}

// TestReadAheadOwners: packets come whole and in their order to who reads beside the host
// that sends, until a Close amid them.
func TestReadAheadOwners(t *testing.T) {
	const enough = 20_000
	f := newFeed(0)
	dev := FromLibrary(f)
	go func() {
		for i := uint32(0); ; i++ {
			p := make([]byte, 100)
			binary.BigEndian.PutUint32(p, i)
			p[99] = byte(i)
			select {
			case f.host <- p:
			case <-f.closed:
				return
			}
		}
	}()
	var next, wrong uint32
	var err error
	for err == nil {
		err = dev.Read(func(p []byte) {
			if i := binary.BigEndian.Uint32(p); i != next || p[99] != byte(i) {
				wrong++
			}
			clear(p[:len(p)+Tailroom])
			if next++; next == enough {
				go dev.Close()
			}
		})
	}
	if !errors.Is(err, os.ErrClosed) || wrong > 0 {
		t.Errorf("%d packets, %d of them wrong, then %v", next, wrong, err)
	}
}

// TestReadAheadAlone: with one processor, a packet is taken before the next one is awaited.
func TestReadAheadAlone(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int64
		var early []int64
		f := newFeed(0)
		f.entered = func(read int64) {
			if n := taken.Load(); n != read-1 {
				early = append(early, read-1-n)
			}
		}
		dev := FromLibrary(f)
		done := make(chan error)
		go func() {
			for {
				if err := dev.Read(func([]byte) { taken.Add(1) }); err != nil {
					done <- err
					return
				}
			}
		}()
		for _, p := range numbered(10, 100) {
			synctest.Wait()
			f.host <- p
		}
		synctest.Wait()
		dev.Close()
		if <-done; len(early) > 0 {
			t.Errorf("it went to wait while packets did: %v", early)
		}
	})
}

// TestReadAheadAllocatesNothingPerPacket: once there are all buffers.
func TestReadAheadAllocatesNothingPerPacket(t *testing.T) {
	const many = 4 * readAhead
	packets := numbered(many, 1400)
	f := newFeed(many)
	dev := FromLibrary(f)
	defer dev.Close()
	fill := func() {
		for _, p := range packets {
			f.host <- p
		}
	}
	var left int
	take := func([]byte) { left-- }
	empty := func() {
		for left = many; left > 0; {
			if err := dev.Read(take); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	for len(dev.(*packetIO).read) < readAhead {
		runtime.Gosched()
	}
	empty()
	if n := testing.AllocsPerRun(20, func() { fill(); empty() }); n != 0 {
		t.Errorf("%v allocations for %d packets", n, many)
	}
}

// TestReadAheadGrows: packets that come one by one need two buffers, not all.
func TestReadAheadGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(0)
		dev := FromLibrary(f)
		defer dev.Close()
		var bufs []*byte
		for _, p := range numbered(20, 100) {
			f.host <- p
			synctest.Wait()
			dev.Read(func(p []byte) {
				if !slices.Contains(bufs, &p[0]) {
					bufs = append(bufs, &p[0])
				}
			})
		}
		if len(bufs) > 2 {
			t.Errorf("%d buffers", len(bufs))
		}
	})
}

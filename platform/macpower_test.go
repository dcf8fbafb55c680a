package platform

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// powerHex is a message of IOKit's as it lies in memory, put together by hand from
// mach/message.h, IOUserClient.cpp (PingMsg) and OSMessageNotification.h.
const powerHex = `
	11110080 7c000000 030f0000 07120000 00000000 35000000
	01000000
	0b130000 00000000 0000 11 00
	0c000000 a0000000
	0000000000000000 40e2df8b01000000 0000000000000000 0b13000000000000
	0000000000000000 0000000000000000 0000000000000000 0000000000000000
	800200e0 3412cdab78560000`

// powerBytes is that message with other bytes at some places.
func powerBytes(t testing.TB, changes ...[]byte) []byte {
	t.Helper()
	message, err := hex.DecodeString(strings.Join(strings.Fields(powerHex), ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		copy(message[c[0]:], c[1:])
	}
	return message
}

// powerTold is a message with such news, by the last bytes of its number.
func powerTold(t testing.TB, low, high byte) []byte {
	return powerBytes(t, []byte{112, low, high, 0, 0xe0})
}

// TestParsePower: what follows from each message, and that one of any other form is refused.
func TestParsePower(t *testing.T) {
	for _, tt := range []struct {
		name      string
		low, high byte
		want      powerAction
	}{
		{"may the system sleep", 0x70, 0x02, powerAction{answer: true}},
		{"it will sleep", 0x80, 0x02, powerAction{answer: true, tells: true, asleep: true}},
		{"it will not sleep", 0x90, 0x02, powerAction{}},
		{"it will power on", 0x20, 0x03, powerAction{}},
		{"it has powered on", 0x00, 0x03, powerAction{tells: true}},
		{"something newer", 0x40, 0x03, powerAction{}},
	} {
		message := append(powerTold(t, tt.low, tt.high), make([]byte, 52)...) // with a trailer
		news, argument, err := parsePower(message)
		if err != nil || powerActions[news] != tt.want || argument != 0x5678abcd1234 {
			t.Errorf("%s: %#x %+v, %#x, %v", tt.name, news, powerActions[news], argument, err)
		}
	}
	if _, _, err := parsePower(powerBytes(t, []byte{44, 0xa0, 0, 0, 0x40})); err != nil {
		t.Errorf("a size that is adjusted: %v", err)
	}
	message := powerBytes(t)
	for size := range message {
		if _, _, err := parsePower(message[:size]); err == nil {
			t.Errorf("%d bytes are accepted", size)
		}
	}
	for name, change := range map[string][]byte{
		"no descriptor":         {0, 0x11, 0x11, 0, 0},
		"shorter than it lies":  {4, 120},
		"more arguments":        {4, 188},
		"an answer to a call":   {20, 57},
		"two descriptors":       {24, 2},
		"memory instead":        {39, 1},
		"a service was matched": {44, 101},
	} {
		if _, _, err := parsePower(powerBytes(t, change)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestMachMessages: what mach_msg_receive and mach_msg_send are given.
func TestMachMessages(t *testing.T) {
	for name, tt := range map[string]struct {
		got  []byte
		want string
	}{
		"receive": {receiveHeader(0x1207, 1024), "00000000 00040000 00000000 07120000 00000000 00000000"},
		"end":     {endMessage(0x1207), "14000000 18000000 07120000 00000000 00000000 00000000"},
	} {
		want, _ := hex.DecodeString(strings.ReplaceAll(tt.want, " ", ""))
		if !bytes.Equal(tt.got, want) {
			t.Errorf("%s: %x", name, tt.got)
		}
	}
	if _, _, err := parsePower(append(endMessage(7), make([]byte, powerBuffer)...)); err == nil {
		t.Error("the end is not told from IOKit's messages")
	}
}

// FuzzParsePower: nothing panics, and what is accepted has the size and the argument that it
// says.
func FuzzParsePower(f *testing.F) {
	f.Add(powerBytes(f))
	f.Add(append(powerTold(f, 0, 3), 1, 2, 3))
	f.Fuzz(func(t *testing.T, message []byte) {
		_, argument, err := parsePower(message)
		if err == nil && (len(message) < powerMessageSize || !bytes.Equal(message[116:124], littleEndian(argument))) {
			t.Errorf("%x: %x", message, argument)
		}
	})
}

func littleEndian(v uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	return b
}

// TestPowerLinked: on a Mac, whatever has this package has CoreFoundation from the start, by
// what crypto/x509 is linked to, without which IOKit is not opened.
func TestPowerLinked(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go here, which would list what the package needs")
	}
	list := exec.Command("go", "list", "-deps", ".")
	list.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0")
	said, err := list.Output()
	run(t, "go list", err)
	if !slices.Contains(strings.Fields(string(said)), "crypto/x509/internal/macos") {
		t.Error("nothing links the package to CoreFoundation")
	}
}

// machTrailer is the size of the longest trailer (mach_msg_max_trailer_t), in bytes.
const machTrailer = 68

// fakeKit is IOKit, which notes what is done.
type fakeKit struct {
	messages chan any // []byte or an error
	refuse   error    // to be answered
	diary    []string
}

func (k *fakeKit) open() (*powerPort, error) {
	ended := make(chan struct{}, 1)
	note := func(format string, args ...any) { k.diary = append(k.diary, fmt.Sprintf(format, args...)) }
	return &powerPort{
		receive: func(message []byte) error {
			select {
			case m := <-k.messages:
				if err, failed := m.(error); failed {
					return err
				}
				if int(m.([]byte)[4])+machTrailer > len(message) {
					return errors.New("0x10004004") // MACH_RCV_TOO_LARGE
				}
				copy(message, m.([]byte))
			case <-ended:
				copy(message, endMessage(7))
			}
			return nil
		},
		release: func(message []byte) { note("release %d", message[4]) },
		allow: func(argument uint64) error {
			note("allow %x", argument)
			return k.refuse
		},
		end: func() {
			note("end")
			ended <- struct{}{}
		},
		close: func() { note("close") },
	}, nil
}

// TestPowerNews: a message that the system waits for is answered although nobody listens, its
// rights are given back, and the registration ends with the watch, or with the first message
// of a form that nobody knows.
func TestPowerNews(t *testing.T) {
	canSleep, willSleep, willNot, poweredOn := powerTold(t, 0x70, 2), powerTold(t, 0x80, 2), powerTold(t, 0x90, 2), powerTold(t, 0, 3)
	for _, tt := range []struct {
		name     string
		messages []any
		refuse   error
		told     string // what a listener finds that comes late
		diary    string
		warned   int
	}{
		{"sleep", []any{canSleep, willSleep}, nil, "true", "allow 5678abcd1234, release 124, allow 5678abcd1234, release 124", 0},
		{"called off", []any{canSleep, willNot}, nil, "", "allow 5678abcd1234, release 124, release 124", 0},
		{"sleep and wake", []any{willSleep, poweredOn}, nil, "false", "allow 5678abcd1234, release 124, release 124", 0},
		{"refused", []any{willSleep, poweredOn}, io.ErrNoProgress, "false", "allow 5678abcd1234, release 124, release 124", 1},
		{"another form", []any{willSleep, powerBytes(t, []byte{4, 188})}, nil, "true closed", "allow 5678abcd1234, release 124, release 188, close", 1},
		{"an error", []any{errors.New("0x10004004")}, nil, "closed", "close", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var log strings.Builder
				kit := &fakeKit{messages: make(chan any), refuse: tt.refuse}
				told, err := powerNews(ctx, slog.New(slog.NewTextHandler(&log, nil)), kit.open)
				run(t, "register", err)
				for _, m := range tt.messages {
					kit.messages <- m
				}
				synctest.Wait()
				var got []string
				for waiting := true; waiting; {
					select {
					case asleep, open := <-told:
						if got = append(got, fmt.Sprint(asleep)); !open {
							got[len(got)-1] = "closed"
							waiting = false
						}
					default:
						waiting = false
					}
				}
				if text := strings.Join(got, " "); text != tt.told {
					t.Errorf("told %q", text)
				}
				if text := strings.Join(kit.diary, ", "); text != tt.diary {
					t.Errorf("done %q", text)
				}
				cancel()
				synctest.Wait()
				if last := kit.diary[len(kit.diary)-1]; last != "close" {
					t.Errorf("still registered, or ended although it is not: %q", kit.diary)
				}
				if n := strings.Count(log.String(), "level=WARN"); n != tt.warned {
					t.Errorf("%d warnings: %s", n, log.String())
				}
			})
		})
	}
	none := errors.New("there is no IOKit")
	if _, err := powerNews(t.Context(), slog.New(slog.DiscardHandler), func() (*powerPort, error) { return nil, none }); !errors.Is(err, none) {
		t.Errorf("%v", err)
	}
}

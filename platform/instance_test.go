package platform

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// memoryMeeting is a meeting in one process, over pipes.
type memoryMeeting struct {
	listener *memoryListener
	stuck    bool // a hung process's place cannot be taken
	identity error
	hung     []bool // what listen was told
}

type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *memoryListener) Close() error   { close(l.closed); return nil }
func (l *memoryListener) Addr() net.Addr { return nil }

func (m *memoryMeeting) meeting() *meeting {
	return &meeting{
		dial: func(ctx context.Context) (net.Conn, error) {
			if m.listener == nil {
				return nil, errNobody
			}
			select {
			case <-m.listener.closed: // also while its queue has room
				return nil, errNobody
			default:
			}
			ours, theirs := net.Pipe()
			select {
			case m.listener.conns <- theirs:
				return ours, nil
			case <-m.listener.closed:
				return nil, errNobody
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		listen: func(hung bool) (net.Listener, error) {
			m.hung = append(m.hung, hung)
			if hung && m.stuck {
				return nil, errors.New("the name is taken")
			}
			m.listener = &memoryListener{make(chan net.Conn, 8), make(chan struct{})}
			return m.listener, nil
		},
		identify: func(net.Conn) error { return m.identity },
	}
}

func firstInstance(t *testing.T, m *memoryMeeting) *Instance {
	t.Helper()
	i, err := m.meeting().claim(t.Context(), nil)
	must(t, err)
	return i
}

func TestSecondHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryMeeting{}
		i := firstInstance(t, m)
		taken := make(chan []string, 1)
		i.Serve(func(args []string) { taken <- args })
		for _, args := range [][]string{{"--connect", "büro\n"}, {}, {"/a b.pcf", "--x"}} {
			second, err := m.meeting().claim(t.Context(), args)
			if second != nil || !errors.Is(err, ErrHandedOver) {
				t.Fatalf("got %v, %v", second, err)
			}
			if got := <-taken; !slices.Equal(got, args) {
				t.Errorf("got %q, want %q", got, args)
			}
		}
		must(t, i.Close())
		must(t, i.Close())
		must(t, firstInstance(t, m).Close())
		if !slices.Equal(m.hung, []bool{false, false}) {
			t.Errorf("hung: %v", m.hung)
		}
	})
}

// The first one is slow to start: it is waited for.
func TestSecondWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryMeeting{}
		i := firstInstance(t, m)
		time.AfterFunc(handOverTime-time.Second, func() { i.Serve(func([]string) {}) })
		if _, err := m.meeting().claim(t.Context(), []string{"a"}); !errors.Is(err, ErrHandedOver) {
			t.Errorf("got %v", err)
		}
		must(t, i.Close())
	})
}

// The first one hangs: the second takes its place, or runs alone where it cannot.
func TestFirstHangs(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := &memoryMeeting{stuck: stuck}
			i := firstInstance(t, m)
			release := make(chan struct{})
			i.Serve(func([]string) { <-release })
			began := time.Now()
			second, err := m.meeting().claim(t.Context(), []string{"a"})
			if took := time.Since(began); took != handOverTime {
				t.Errorf("it took %v", took)
			}
			if second == nil || (err != nil) != stuck {
				t.Fatalf("got %v, %v", second, err)
			}
			second.Serve(func([]string) {})
			must(t, second.Close())
			close(release)
			if !slices.Equal(m.hung, []bool{false, true}) {
				t.Errorf("hung: %v", m.hung)
			}
			must(t, i.Close())
		})
	}
}

// Somebody else became the instance between looking and listening.
func TestTwoStartAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryMeeting{}
		var other *Instance
		late := m.meeting()
		listen := late.listen
		late.listen = func(hung bool) (net.Listener, error) {
			if other == nil {
				other = firstInstance(t, m)
				other.Serve(func([]string) {})
				return nil, errSomebody
			}
			return listen(hung)
		}
		if i, err := late.claim(t.Context(), []string{"a"}); i != nil || !errors.Is(err, ErrHandedOver) {
			t.Errorf("got %v, %v", i, err)
		}
		must(t, other.Close())
	})
}

func TestClaimIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryMeeting{}
		i := firstInstance(t, m)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if second, err := m.meeting().claim(ctx, nil); second != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", second, err)
		}
		must(t, i.Close())
	})
}

// What another user, or a program that is no Wayfarer, sends is never handled, and never
// keeps others waiting.
func TestFirstIsNotFooled(t *testing.T) {
	for name, send := range map[string]string{
		"nothing":   "",
		"no JSON":   "hello\n",
		"an object": `{"args":["a"]}` + "\n",
		"no end":    `["a"`,
		"too long":  `["` + strings.Repeat("a", maxHandOver) + "\"]\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memoryMeeting{}
				i := firstInstance(t, m)
				i.Serve(func(args []string) { t.Errorf("handled %q", args) })
				conn, err := m.meeting().dial(t.Context())
				must(t, err)
				go func() { _, _ = io.WriteString(conn, send) }()
				began := time.Now()
				if reply, _ := io.ReadAll(conn); len(reply) > 0 {
					t.Errorf("it answered %q", reply)
				}
				if took := time.Since(began); took > readTime {
					t.Errorf("it took %v", took)
				}
				must(t, i.Close())
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		m := &memoryMeeting{}
		i := firstInstance(t, m)
		m.identity = errors.New("another user")
		i.identify = func(net.Conn) error { return m.identity }
		i.Serve(func(args []string) { t.Errorf("handled %q", args) })
		conn, err := m.meeting().dial(t.Context())
		must(t, err)
		go func() { _ = json.NewEncoder(conn).Encode([]string{"a"}) }()
		if reply, _ := io.ReadAll(conn); len(reply) > 0 {
			t.Errorf("it answered %q", reply)
		}
		// Nor does the second tell its arguments to somebody else.
		if second, err := m.meeting().claim(t.Context(), []string{"secret"}); second == nil || err != nil {
			t.Errorf("got %v, %v", second, err)
		} else {
			must(t, second.Close())
		}
		must(t, i.Close())
	})
}

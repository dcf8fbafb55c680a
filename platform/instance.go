package platform

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// ErrHandedOver says that another process of the program runs in this user's session, and has
// taken the arguments. This one should end.
var ErrHandedOver = errors.New("another process of this session has taken the arguments")

// Bounds of a hand-over.
const (
	// handOverTime is how long the first instance may take: it may just be starting.
	handOverTime = 10 * time.Second
	// readTime bounds how long the first instance waits for the arguments.
	readTime = 2 * time.Second
	// maxHandOver bounds the arguments, in bytes; file names make most of them.
	maxHandOver = 1 << 20
)

// handed is the reply to arguments that were taken.
const handed = "taken\n"

// Instance is the one process of a program in a user's session. A later one hands it
// its arguments.
//
// A process that died leaves nothing that stands in the way of the next. One that lives
// but does not take the arguments in 10 s hangs: the next one starts beside it, and
// takes its place where the system lets it.
type Instance struct {
	listener net.Listener // nil: later processes do not find this one
	identify func(net.Conn) error

	closed  chan struct{}
	closing sync.Once
	served  sync.WaitGroup
}

// meeting is where the processes of a program meet.
type meeting struct {
	// dial reaches the instance; the error is errNobody if there is none.
	dial func(ctx context.Context) (net.Conn, error)
	// listen makes this process the instance, in place of a dead one, and of one that
	// hangs where the system lets it. The error is errSomebody if another one has become
	// the instance meanwhile.
	listen func(hung bool) (net.Listener, error)
	// identify says whether the other end is of this user.
	identify func(net.Conn) error
}

var (
	errNobody   = errors.New("nobody is there")
	errSomebody = errors.New("somebody is there")
)

// claim makes this process the instance, or hands over.
func (m *meeting) claim(ctx context.Context, args []string) (*Instance, error) {
	i := &Instance{identify: m.identify, closed: make(chan struct{})}
	for {
		err := m.handOver(ctx, args)
		if err == nil {
			return nil, ErrHandedOver
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		i.listener, err = m.listen(!errors.Is(err, errNobody))
		switch {
		case err == nil:
			return i, nil
		case !errors.Is(err, errSomebody):
			// The program runs all the same, alone.
			return i, fmt.Errorf("later starts of Wayfarer will not find this one: %w", err)
		}
	}
}

// handOver gives the arguments to the instance and waits until it has taken them.
func (m *meeting) handOver(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := m.identify(conn); err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(args); err != nil {
		return err
	}
	reply := make([]byte, len(handed))
	if _, err := io.ReadFull(conn, reply); err != nil {
		return fmt.Errorf("the Wayfarer that runs already does not answer: %w", err)
	}
	if string(reply) != handed {
		return fmt.Errorf("the Wayfarer that runs already answers %q", reply)
	}
	return nil
}

// Serve calls handle with the arguments of each later process, one at a time, until
// Close. A process counts this one as hung unless handle returns within 10 s.
func (i *Instance) Serve(handle func(args []string)) {
	if i.listener == nil {
		return
	}
	i.served.Go(func() {
		for {
			conn, err := i.listener.Accept()
			select {
			case <-i.closed:
				if err == nil {
					conn.Close()
				}
				return
			default:
			}
			if err != nil {
				// Such as too many open files: it may pass.
				select {
				case <-i.closed:
					return
				case <-time.After(time.Second):
				}
				continue
			}
			i.take(conn, handle)
		}
	})
}

// take serves one process.
func (i *Instance) take(conn net.Conn, handle func(args []string)) {
	defer conn.Close()
	if i.identify(conn) != nil {
		return // another user's
	}
	if conn.SetReadDeadline(time.Now().Add(readTime)) != nil {
		return
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxHandOver)).ReadBytes('\n')
	if err != nil {
		return
	}
	var args []string
	if json.Unmarshal(line, &args) != nil {
		return
	}
	handle(args)
	if conn.SetWriteDeadline(time.Now().Add(readTime)) == nil {
		_, _ = io.WriteString(conn, handed) // the other may have gone
	}
}

// Close ends it: the next process becomes the instance. A handle that runs is waited for.
func (i *Instance) Close() error {
	var err error
	i.closing.Do(func() {
		close(i.closed)
		if i.listener != nil {
			err = i.listener.Close()
		}
		i.served.Wait()
	})
	return err
}

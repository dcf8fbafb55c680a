package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// crowd counts what the users have of something, so that nobody has all of it. The
// operating system's administrator is not counted in all: they must get in to help.
type crowd struct {
	most, mostOfUser int

	mu    sync.Mutex
	all   int
	users map[string]int
}

// enter counts one more of a user; false: there are enough.
func (c *crowd) enter(user string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users[user] >= c.mostOfUser || user != rootUser && c.all >= c.most {
		return false
	}
	if c.users == nil {
		c.users = map[string]int{}
	}
	c.users[user]++
	if user != rootUser {
		c.all++
	}
	return true
}

func (c *crowd) leave(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users[user]--; c.users[user] == 0 {
		delete(c.users, user)
	}
	if user != rootUser {
		c.all--
	}
}

// door is a listener that turns away whoever has enough connections.
type door struct {
	net.Listener
	log  *slog.Logger
	tell occasionally
	in   *crowd
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		user := userOf(conn)
		if d.in.enter(user) {
			process := holdProcess(conn)
			leave := sync.OnceFunc(func() {
				process.close()
				d.in.leave(user)
			})
			return &guest{Conn: conn, process: process, leave: leave}, nil
		}
		if d.tell.mayTell(user) {
			d.log.Warn("too many connections of a user to the local API", "user", user)
		}
		conn.Close()
	}
}

// guest is a connection that was let in.
type guest struct {
	net.Conn
	process *heldProcess // at the other end
	leave   func()

	mu        sync.Mutex
	streaming bool // from the beginning of a stream on
	ahead     bool // net/http has read one byte of what follows the request
}

// errTalks ends a stream whose client goes on talking.
var errTalks = errors.New("something follows the request for a stream")

// Read implements net.Conn. While a stream goes out nothing may come in: net/http sees
// that a client has gone by reading one byte ahead, so it would never see it again of one
// that sent a byte.
func (g *guest) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streaming && n > 0 {
		clear(p[:n])
		return 0, errTalks
	}
	g.ahead = len(p) == 1 && n == 1
	return n, err
}

// stream says that a stream begins, whose client may say nothing more.
func (g *guest) stream() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ahead {
		return errTalks
	}
	g.streaming = true
	return nil
}

// Close implements net.Conn.
func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}

// pace bounds how often each user may ask; who asks more often waits.
type pace struct {
	mu    sync.Mutex
	users map[string]*rate.Limiter
}

// Bounds of a pace: what a window that shows everything needs at most, many times.
const (
	requestsPerSecond = 100
	requestBurst      = 200
	maxPaced          = 256 // users that are remembered
)

// wait returns when the user may ask, or with the error of ctx.
func (p *pace) wait(ctx context.Context, user string) error {
	p.mu.Lock()
	limiter := p.users[user]
	if limiter == nil {
		if len(p.users) >= maxPaced {
			p.forgetLocked()
		}
		if p.users == nil {
			p.users = map[string]*rate.Limiter{}
		}
		limiter = rate.NewLimiter(requestsPerSecond, requestBurst)
		p.users[user] = limiter
	}
	p.mu.Unlock()
	return limiter.Wait(ctx)
}

// forgetLocked forgets those who have not asked lately.
func (p *pace) forgetLocked() {
	for user, limiter := range p.users {
		if limiter.Tokens() >= requestBurst {
			delete(p.users, user)
		}
	}
}

// tellInterval is how often the log hears of the same trouble with a user: whoever has
// no rights must not fill it.
const tellInterval = time.Minute

// occasionally says when to tell of a user again.
type occasionally struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (o *occasionally) mayTell(user string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for who, then := range o.last {
		if now.Sub(then) >= tellInterval {
			delete(o.last, who)
		}
	}
	if _, told := o.last[user]; told {
		return false
	}
	if o.last == nil {
		o.last = map[string]time.Time{}
	}
	o.last[user] = now
	return true
}

package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"
)

// The service runs without root, and what name resolution may need root for is done by
// another process, which does nothing else. Between them is a socket that keeps messages
// apart (unixpacket); a message is one JSON value. The service says which servers and
// domains its tunnels have, and never what a file shall hold, nor where it is: the root
// process has a journal of its own, in a directory of root's, and plans as a service
// with root would.

const (
	// maxNamesMessage bounds a message, in bytes: beyond it are 32 tunnels with a
	// hundred domains each.
	maxNamesMessage = 128 << 10
	// maxNamesTunnels bounds the tunnels of a wish.
	maxNamesTunnels = 64
	// maxNamesServers bounds the host's servers in a reply.
	maxNamesServers = 64
	// namesTime bounds one request: two runs of resolvconf, and the bus.
	namesTime = 2*resolvconfTime + 2*busTime
)

// interfaceName is what a tunnel's interface may be called in a wish: the name becomes
// part of a record's name on resolvconf's command line.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

// namesRequest asks the root process who owns name resolution or, with Set, to make it
// as the tunnels wish, of which only interface, servers and domains are looked at.
type namesRequest struct {
	ID      uint64
	Set     bool
	Tunnels []Tunnel
}

// namesReply is the answer to the request of the same ID.
type namesReply struct {
	ID      uint64
	Owner   dnsMode      // of name resolution
	Servers []netip.Addr // that the host has without the tunnels

	Error string        // empty: done
	Errno syscall.Errno // of the system, if it was the system that refused
	File  string        // the path of a *FileError
}

// refuse puts an error into the reply.
func (r *namesReply) refuse(err error) {
	var file *FileError
	if errors.As(err, &file) {
		r.File, err = file.Path, file.Err
	}
	errors.As(err, &r.Errno)
	r.Error = err.Error()
}

// err is the error that the reply holds.
func (r *namesReply) err() error {
	if r.Error == "" {
		return nil
	}
	err := errors.New(r.Error)
	if r.Errno != 0 {
		err = &refusedError{r.Error, r.Errno}
	}
	if r.File != "" {
		return &FileError{r.File, err}
	}
	return err
}

// refusedError is what the system answered the root process.
type refusedError struct {
	text  string
	errno syscall.Errno
}

func (e *refusedError) Error() string { return e.text }
func (e *refusedError) Unwrap() error { return e.errno }

// AskForNames makes n ask the process at the other end of conn, which is in
// [Network.ServeNames], for what name resolution needs root for: replacing
// /etc/resolv.conf, resolvconf, the file for Samba. It is called before anything else;
// n closes conn.
func (n *Network) AskForNames(conn *net.UnixConn) {
	n.host.(*linuxHost).names = &namesClient{conn: conn}
}

// ServeNames changes the host's name resolution as the process at the other end of conn
// asks, until that has closed it or is gone, and then puts back what there was. Nothing
// that it can ask for changes more of the host than name servers and search domains.
// The error is of putting back, or of a conn that fails.
func (n *Network) ServeNames(ctx context.Context, conn *net.UnixConn) error {
	defer conn.Close()
	message := make([]byte, maxNamesMessage)
	for {
		size, err := conn.Read(message)
		if size == 0 || err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			_, undone := n.setNames(ctx, nil)
			return errors.Join(err, undone)
		}
		reply, err := json.Marshal(n.answerNames(ctx, message[:size]))
		if err == nil {
			_, err = conn.Write(reply)
		}
		if err != nil {
			n.log.Warn("network: the service gets no answer about name servers", "error", err)
		}
	}
}

func (n *Network) answerNames(ctx context.Context, message []byte) namesReply {
	ctx, cancel := context.WithTimeout(ctx, namesTime)
	defer cancel()
	var request namesRequest
	if err := json.Unmarshal(message, &request); err != nil {
		return namesReply{Error: "not a request about name servers"}
	}
	reply := namesReply{ID: request.ID}
	var err error
	if request.Set {
		reply.Owner, err = n.setNames(ctx, request.Tunnels)
	} else {
		reply.Owner, reply.Servers, err = n.lookNames(ctx)
	}
	if err != nil {
		n.log.Warn("network: name servers", "error", err)
		reply.refuse(err)
	}
	return reply
}

// lookNames says who owns name resolution, and which servers there are without us.
func (n *Network) lookNames(ctx context.Context) (dnsMode, []netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	owner, err := n.host.(*linuxHost).nameOwner(ctx, n.applied)
	servers := n.host.nameservers(n.applied)
	return owner, servers[:min(len(servers), maxNamesServers)], err
}

// setNames is Set for name resolution alone, and for what needs root alone.
func (n *Network) setNames(ctx context.Context, tunnels []Tunnel) (dnsMode, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wish, err := namesOnly(tunnels)
	if err != nil {
		return "", err
	}
	h := n.host.(*linuxHost)
	wanted, owner, err := h.planDNS(ctx, Config{Tunnels: wish}, slices.Clone(n.applied))
	if err != nil {
		return "", err
	}
	if dnsMode(owner) == dnsResolved {
		return "", errors.New("systemd-resolved has just taken over name resolution; try again")
	}
	n.applied, err = converge(ctx, n.log, n.journal, n.applied, wanted)
	return dnsMode(owner), err
}

// namesOnly checks a wish that comes from a process with fewer rights, and takes of it
// what name resolution needs.
func namesOnly(tunnels []Tunnel) ([]Tunnel, error) {
	if len(tunnels) > maxNamesTunnels {
		return nil, fmt.Errorf("name servers for %d tunnels", len(tunnels))
	}
	var wish []Tunnel
	for _, t := range tunnels {
		if !interfaceName.MatchString(t.Interface) {
			return nil, fmt.Errorf("%q is no interface of ours", t.Interface)
		}
		if err := t.checkDNS(); err != nil {
			return nil, fmt.Errorf("interface %s: %w", t.Interface, err)
		}
		for _, server := range slices.Concat(t.DNS, t.WINS) {
			if !server.IsValid() || server.Zone() != "" { // a zone can be any text
				return nil, fmt.Errorf("interface %s: %q is no server behind a tunnel", t.Interface, server)
			}
		}
		wish = append(wish, t.names())
	}
	return wish, nil
}

// names is the part of a tunnel that name resolution needs.
func (t *Tunnel) names() Tunnel {
	return Tunnel{Interface: t.Interface, DNS: t.DNS, SearchDomains: t.SearchDomains, MatchDomains: t.MatchDomains, WINS: t.WINS}
}

// namesClient is the service's end of the socket.
type namesClient struct {
	mu     sync.Mutex
	conn   *net.UnixConn
	last   uint64 // request
	answer []byte // room for one, of which mostly one page is ever used; made when first needed
}

func (c *namesClient) close() { c.conn.Close() }

// ask sends a request and waits for its reply.
func (c *namesClient) ask(ctx context.Context, request namesRequest) (namesReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	request.ID = c.last
	message, err := json.Marshal(request)
	if err == nil && len(message) > maxNamesMessage {
		err = fmt.Errorf("name servers and domains take %d bytes", len(message))
	}
	if err != nil {
		return namesReply{}, err
	}
	c.conn.SetDeadline(time.Now().Add(namesTime))
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.conn.SetDeadline(time.Unix(0, 0))
		close(expired)
	})
	defer func() {
		if !stop() {
			<-expired // not into the next request
		}
	}()
	if _, err := c.conn.Write(message); err != nil {
		return namesReply{}, fmt.Errorf("ask the root process: %w", err)
	}
	if c.answer == nil {
		c.answer = make([]byte, maxNamesMessage)
	}
	for {
		size, err := c.conn.Read(c.answer)
		if err != nil {
			return namesReply{}, fmt.Errorf("the root process does not answer: %w", errors.Join(err, context.Cause(ctx)))
		}
		var reply namesReply
		if err := json.Unmarshal(c.answer[:size], &reply); err != nil {
			return namesReply{}, fmt.Errorf("answer of the root process: %w", err)
		}
		if reply.ID == request.ID { // others belong to requests that were given up
			return reply, reply.err()
		}
	}
}

// planAskedNames plans name resolution of a process that has to ask for it.
func (h *linuxHost) planAskedNames(ctx context.Context, tunnels []Tunnel) ([]change, string, error) {
	var owner dnsMode
	var resolved []Tunnel
	var wish []Tunnel
	for _, t := range tunnels {
		t := t.names()
		if len(t.DNS) > 0 {
			if owner == "" {
				reply, err := h.names.ask(ctx, namesRequest{})
				if err != nil {
					return nil, "", err
				}
				owner = reply.Owner
			}
			if owner == dnsResolved {
				resolved = append(resolved, t)
				t.DNS = nil
			}
		}
		if len(t.DNS)+len(t.WINS) > 0 {
			wish = append(wish, t)
		}
	}
	changes, err := h.planResolved(resolved)
	if err != nil {
		return nil, "", err
	}
	if len(wish) > 0 {
		changes = append(changes, &namesChange{h: h, Tunnels: wish})
	}
	return changes, string(owner), nil
}

// askedNameservers is nameservers of a process that has to ask for them.
func (h *linuxHost) askedNameservers(applied []change) []netip.Addr {
	reply, err := h.names.ask(context.Background(), namesRequest{})
	if err != nil {
		h.log.Warn("network: the host's name servers", "error", err)
		return nil
	}
	return slices.DeleteFunc(reply.Servers, func(a netip.Addr) bool {
		return slices.ContainsFunc(applied, func(c change) bool {
			r, ok := c.(*resolvedChange)
			return ok && slices.Contains(r.Servers, a)
		})
	})
}

// namesChange is what the root process is asked for. That process undoes it as soon as
// this one is gone, so in the journal it is only a part of the wish.
type namesChange struct {
	plain
	h       *linuxHost
	Tunnels []Tunnel
}

func (c *namesChange) String() string {
	text := "names"
	for _, t := range c.Tunnels {
		text += fmt.Sprintf(" %s servers %v search %v match %v WINS %v", t.Interface, t.DNS, t.SearchDomains, t.MatchDomains, t.WINS)
	}
	return text
}

func (c *namesChange) id() string     { return "names" }
func (c *namesChange) kind() string   { return "names" }
func (c *namesChange) part() Part     { return PartDNS }
func (c *namesChange) inherit(change) {}

func (c *namesChange) apply(ctx context.Context) error { return c.ask(ctx, c.Tunnels) }

func (c *namesChange) undo(ctx context.Context) error {
	if c.h.names == nil {
		return nil // it is not this process that asks for names
	}
	return c.ask(ctx, nil)
}

func (c *namesChange) ask(ctx context.Context, tunnels []Tunnel) error {
	_, err := c.h.names.ask(ctx, namesRequest{Set: true, Tunnels: tunnels})
	return err
}

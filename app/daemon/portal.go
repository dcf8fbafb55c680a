package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"wayfarer/app"
)

const (
	// portalTime bounds the look for a portal, probeTime each question in it: a local
	// network that has one answers at once, and users wait for what it says.
	portalTime = 4 * time.Second
	probeTime  = 2 * time.Second
	// portalOpen is how long a portal can be reached past tunnel and block, once in
	// each network: long enough to sign in, and forgotten soon.
	portalOpen = 5 * time.Minute
	// closeAgain is when it is tried again to end that, should the host refuse.
	closeAgain = 5 * time.Second
	// maxPortalBody is how much of an answer is read, in bytes.
	maxPortalBody = 1 << 10
	// maxPortalAddresses bounds the addresses of a name that are reachable meanwhile.
	maxPortalAddresses = 8
)

// probe is a public page whose answer is known: whoever gets another one has been
// answered by the local network.
type probe struct {
	url    string
	status int
	body   []byte
}

// host is the one of the page.
func (p *probe) host() string {
	u, err := url.Parse(p.url)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// probes are what browsers and phones ask as well, so that it tells nobody anything.
var probes = []probe{
	{"http://detectportal.firefox.com/success.txt", http.StatusOK, []byte("success")},
	{"http://connectivitycheck.gstatic.com/generate_204", http.StatusNoContent, nil},
}

// portal is a page where the local network wants its users to sign in before it lets
// anything through.
type portal struct {
	url   string       // to visit: the probe's, which the network leads to its page
	host  string       // of that page; all that is believed of what the network said
	addrs []netip.Addr // of both
}

// portals looks for a portal, at most once in each network.
type portals struct {
	looking chan struct{} // has a value while somebody looks

	mu      sync.Mutex
	network int // counts the changes of network
	looked  bool
	found   *portal
}

// forget is called when the computer may be in another network.
func (p *portals) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network++
	p.looked, p.found = false, nil
}

// known is what has been found in this network, and which that is.
func (p *portals) known() (found *portal, looked bool, network int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found, p.looked, p.network
}

// find gives the portal of this network, nil if there is none; the question goes out once.
func (p *portals) find(ctx context.Context, look func(context.Context) *portal) (*portal, int) {
	select {
	case p.looking <- struct{}{}:
		defer func() { <-p.looking }()
	case <-ctx.Done():
		return nil, 0
	}
	found, looked, network := p.known()
	if looked {
		return found, network
	}
	found = look(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.network != network {
		return nil, p.network // of the network before
	}
	p.looked, p.found = ctx.Err() == nil, found
	return found, network
}

// lookForPortal asks the probes, outside of all tunnels, until one tells.
func (d *Daemon) lookForPortal(ctx context.Context) *portal {
	ctx, cancel := context.WithTimeout(ctx, portalTime)
	defer cancel()
	for _, p := range probes {
		page, captive, err := p.ask(ctx, d.dialOutside)
		if err != nil {
			d.log.Debug("no answer to the question for a portal", "url", p.url, "error", err)
			continue
		}
		if !captive {
			return nil
		}
		found := &portal{url: p.url, host: page}
		for _, name := range []string{page, p.host()} {
			found.addrs = append(found.addrs, d.addressesOutside(ctx, name)...)
		}
		d.log.Warn("this network wants its users to sign in", "portal", page, "addresses", found.addrs)
		return found
	}
	return nil
}

// addressesOutside are a host's addresses as the local network tells them.
func (d *Daemon) addressesOutside(ctx context.Context, host string) []netip.Addr {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}
	}
	addrs, err := d.network.LookupOutside(ctx, host)
	if err != nil {
		d.log.Info("a name cannot be found", "host", host, "error", err)
	}
	return addrs[:min(len(addrs), maxPortalAddresses)]
}

// dialOutside connects past the tunnels and the block.
func (d *Daemon) dialOutside(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%s has no address", host)
	for _, addr := range d.addressesOutside(ctx, host) {
		var conn net.Conn
		if conn, err = d.network.Dialer().DialContext(ctx, network, net.JoinHostPort(addr.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// ask says whether somebody else has answered, and on which host the page is where that
// one wants to be visited: the probe's own if it does not say, or says no host's name.
func (p *probe) ask(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error)) (page string, captive bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return "", false, err
	}
	req.Header.Set("User-Agent", "") // none of anybody's business
	client := &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
		// Where a stranger wants to lead nobody goes.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(req)
	if err != nil {
		return "", false, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxPortalBody))
	if err != nil {
		return "", false, err
	}
	switch {
	case answer.StatusCode == p.status && bytes.Equal(bytes.TrimSpace(body), p.body):
		return "", false, nil
	case answer.StatusCode >= 300 && answer.StatusCode < 400, answer.StatusCode == http.StatusOK,
		answer.StatusCode == http.StatusNetworkAuthenticationRequired: // RFC 6585 §6
	default:
		return "", false, fmt.Errorf("%s", answer.Status)
	}
	page = p.host()
	if to, err := url.Parse(answer.Header.Get("Location")); err == nil && isHost(to.Hostname()) {
		page = to.Hostname()
	}
	return page, true, nil
}

func isHost(name string) bool {
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Zone() == "" || isDomain(name)
}

// meetPortal is called after a lost connection was tried again in vain. If the local
// network has a portal, users are told, and can reach it for a while past tunnel and
// block, once in each network; and nothing else, since a network may pretend to have one.
// Meanwhile it is tried on.
func (t *tunnel) meetPortal(err error) {
	if t.daemon.network == nil || lookUp(err).code != app.CodeNoAnswer || errors.Is(err, errNetworkChanged) {
		return
	}
	select {
	case t.atPortal <- struct{}{}:
	default:
		return // it is on its way
	}
	t.searching.Store(true)
	go func() {
		defer func() { <-t.atPortal }()
		found, network := t.daemon.portals.find(t.ctx, t.daemon.look)
		t.showPortal(found, network)
	}()
}

// showPortal runs while atPortal has a value.
func (t *tunnel) showPortal(found *portal, network int) {
	text := ""
	if found != nil {
		if t.opened != network && len(found.addrs) > 0 {
			t.opened = network
			t.openPortal(found)
		}
		text = found.invitation()
		if time.Now().Before(t.openUntil) {
			text += fmt.Sprintf("; only these two are reachable past the tunnel, until %s, and meanwhile this network's DNS servers are asked for all names, also those behind the gateway",
				t.openUntil.UTC().Format("15:04 MST"))
		}
	}
	t.update(func() {
		if t.state == app.StateReconnecting {
			t.portal = text
		}
	})
}

// invitation is what users are asked to do.
func (p *portal) invitation() string {
	return fmt.Sprintf("this network wants you to sign in first: open %s in a browser, which leads to %s", p.url, p.host)
}

// openPortal lets a portal be reached until portalOpen is over or the tunnel carries again.
func (t *tunnel) openPortal(p *portal) {
	err := t.daemon.change(t.ctx, t, func(w *wish) {
		if w.empty() || !t.searching.Load() {
			return // nothing stands in the way, or it carries again
		}
		w.portal = p.addrs
		t.openUntil = time.Now().Add(portalOpen)
		t.shutter = time.AfterFunc(portalOpen, t.closePortal)
	})
	if err != nil {
		t.log.Warn("the portal cannot be reached", "error", err)
	}
}

// shut ends the opening within a change of the wish.
func (t *tunnel) shut(w *wish) {
	t.searching.Store(false)
	w.portal = nil
	if t.shutter != nil {
		t.shutter.Stop()
		t.shutter = nil
	}
}

// closePortal is called when the time is over, on a goroutine of its own. It ends that
// opening, and does not rest before it has.
func (t *tunnel) closePortal() {
	for !t.tryClosePortal() {
		select {
		case <-time.After(closeAgain):
		case <-t.done:
			return
		}
	}
}

// tryClosePortal says whether the opening whose time is over has ended.
func (t *tunnel) tryClosePortal() bool {
	ctx, cancel := context.WithTimeout(context.Background(), restoreTimeout)
	defer cancel()
	over := false // or it is another opening by now
	err := t.daemon.change(ctx, t, func(w *wish) {
		if over = !time.Now().Before(t.openUntil); over {
			w.portal = nil
		}
	})
	if err == nil && over {
		t.update(func() { t.portal = "" })
	}
	if err != nil {
		t.log.Error("this computer's network is not as it was before the portal", "error", err)
	}
	return err == nil
}

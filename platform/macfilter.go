package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// macAnchor is our place among the packet filter's rules. The system's pf.conf has an
// anchor com.apple/*, so what is loaded below that is evaluated without touching a file.
const macAnchor = "com.apple/wayfarer"

// macFilterChange are our rules of the packet filter: what may leave the host, and what
// may come to the tunnels' addresses.
type macFilterChange struct {
	h *macHost
	// Guards are the tunnels and the addresses that only they receive packets for.
	Guards []guard
	// Block holds back all that does not leave by a tunnel.
	Block bool
	// BlockIPv6 does so for IPv6, and lets link-local addresses be.
	BlockIPv6 bool
	// BlockDNS keeps names from being looked up outside: the system asks the servers
	// from before whenever the tunnels' do not answer.
	BlockDNS bool
	// Local are networks that are not held back.
	Local []netip.Prefix
	// Portal are addresses that the block lets through.
	Portal []netip.Addr
}

// macPass is what a socket of this process sends.
type macPass struct {
	protocol string // of /etc/protocols
	to       netip.Addr
	from     uint16 // port; 0: any
	port     uint16 // that it sends to; 0: any
}

// rule lets these packets out. A local port that is ours is nobody else's; without one,
// the packets are those of root.
func (p macPass) rule() string {
	from, to := "", ""
	if p.port != 0 {
		to = fmt.Sprintf(" port = %d", p.port)
	}
	if p.from != 0 {
		from = fmt.Sprintf(" port = %d", p.from)
	} else {
		to += " user = 0"
	}
	return fmt.Sprintf("pass out quick %s proto %s from any%s to %v%s no state", macFamily(p.to), p.protocol, from, p.to, to)
}

// planFilter decides what is held back. A system whose packet filter cannot be used can
// have tunnels, but no block.
func (h *macHost) planFilter(ctx context.Context, cfg Config, home *home, servers []netip.Addr) ([]change, Report, error) {
	w := cfg.withholds(home, servers)
	report := Report{IPv6Blocked: w.noIPv6}
	c := &macFilterChange{
		h: h, Guards: w.guards, Block: cfg.BlockOutside, BlockIPv6: w.noIPv6 && !cfg.BlockOutside,
		BlockDNS: w.dns, Local: w.local, Portal: w.portal,
	}
	if err := h.evaluated(ctx); err != nil {
		if cfg.BlockOutside {
			return nil, report, err
		}
		report.IPv6Blocked = false
		report.Unguarded = err.Error()
		h.log.Warn("network: packets for a tunnel's addresses are accepted everywhere", "error", err)
		return nil, report, nil
	}
	return []change{c}, report, nil
}

// errNoAnchor: somebody has replaced the system's rules.
var errNoAnchor = errors.New("the packet filter's rules have no anchor com.apple/*; put it back into /etc/pf.conf and load that (pfctl -f /etc/pf.conf)")

// evaluated says why the packet filter would not look at our rules.
func (h *macHost) evaluated(ctx context.Context) error {
	rules, err := h.pfctl(ctx, "", "-s", "rules")
	if err != nil {
		return fmt.Errorf("the packet filter: %w", err)
	}
	if !strings.Contains(rules, `anchor "com.apple/*"`) {
		return errNoAnchor
	}
	return nil
}

func (h *macHost) pfctl(ctx context.Context, input string, args ...string) (string, error) {
	return h.sys.run(ctx, input, pfctlPath, args...)
}

func (c *macFilterChange) String() string {
	return "filter:\n" + strings.Join(c.rules(nil), "\n")
}

func (c *macFilterChange) id() string     { return "filter" }
func (c *macFilterChange) kind() string   { return "mac-filter" }
func (c *macFilterChange) part() Part     { return PartFirewall }
func (c *macFilterChange) survives() bool { return false }
func (c *macFilterChange) blocks() bool   { return c.Block }
func (c *macFilterChange) inherit(change) {}

// macFilter is the packet filter as this process has left it.
type macFilter struct {
	mu       sync.Mutex
	standing *macFilterChange // nil: none
	passes   []macPass        // of this process's sockets
	text     string           // of the rules that were loaded
	loaded   string           // the same as the system writes them
}

// maxPasses bounds the rules for sockets.
const maxPasses = 64

func (c *macFilterChange) apply(ctx context.Context) error {
	f := &c.h.filter
	f.mu.Lock()
	defer f.mu.Unlock()
	blocked := f.standing != nil && f.standing.Block
	if blocked {
		stands, err := c.h.holdsLocked(ctx)
		if err != nil {
			return err
		}
		blocked = stands
	}
	if err := c.h.enable(ctx); err != nil {
		return err
	}
	if err := c.h.load(ctx, c); err != nil {
		return err
	}
	f.standing = c
	if !c.Block || blocked {
		return nil
	}
	// What another program's rules have let through while there was no block goes on
	// without a look at the rules.
	_, err := c.h.pfctl(ctx, "", "-F", "states")
	return err
}

func (c *macFilterChange) undo(ctx context.Context) error {
	f := &c.h.filter
	f.mu.Lock()
	defer f.mu.Unlock()
	f.standing, f.text, f.loaded = nil, "", ""
	if _, err := c.h.pfctl(ctx, "", "-a", macAnchor, "-F", "rules"); err != nil {
		return err
	}
	return c.h.release(ctx)
}

// load replaces the anchor's rules at once, so that there is no moment without them, and
// makes sure that they are there. The filter's lock is held.
func (h *macHost) load(ctx context.Context, c *macFilterChange) error {
	f := &h.filter
	text := strings.Join(c.rules(f.passes), "\n") + "\n"
	is, err := h.loadedRules(ctx)
	if err != nil || text == f.text && is == f.loaded {
		return err
	}
	if _, err := h.pfctl(ctx, text, "-a", macAnchor, "-f", "-"); err != nil {
		return err
	}
	is, err = h.loadedRules(ctx)
	if err != nil {
		return err
	}
	if is == "" && strings.TrimSpace(text) != "" {
		return errors.New("the packet filter has taken the rules and does not have them")
	}
	f.text, f.loaded = text, is
	return nil
}

// holds says whether the packet filter is on, and has the rules that this process, or an
// earlier one, has given it.
func (h *macHost) holds(ctx context.Context) (bool, error) {
	h.filter.mu.Lock()
	defer h.filter.mu.Unlock()
	return h.holdsLocked(ctx)
}

func (h *macHost) holdsLocked(ctx context.Context) (bool, error) {
	if err := h.evaluated(ctx); errors.Is(err, errNoAnchor) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	info, err := h.pfctl(ctx, "", "-s", "info")
	if err != nil || !strings.Contains(info, pfEnabled) {
		return false, err
	}
	is, err := h.loadedRules(ctx)
	if h.filter.text == "" { // of an earlier process
		return is != "", err
	}
	return is == h.filter.loaded, err
}

// pfEnabled is what the packet filter says of itself when it is on.
const pfEnabled = "Status: Enabled"

// loadedRules are our rules as the system writes them. Beside these pfctl says what has
// nothing to do with them.
func (h *macHost) loadedRules(ctx context.Context) (string, error) {
	said, err := h.pfctl(ctx, "", "-a", macAnchor, "-s", "rules")
	var rules strings.Builder
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "pass ") || strings.HasPrefix(line, "block ") {
			rules.WriteString(line)
		}
	}
	return rules.String(), err
}

// pass lets the packets of a socket through a block that stands or comes. The oldest
// connection of too many is forgotten.
func (h *macHost) pass(ctx context.Context, p macPass) error {
	f := &h.filter
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.passes, p) {
		f.passes = append(f.passes, p)
	}
	if len(f.passes) > maxPasses {
		// Sockets of tunnels take theirs back themselves; connections do not.
		oldest := max(0, slices.IndexFunc(f.passes, func(o macPass) bool { return o.from == 0 }))
		f.passes = slices.Delete(f.passes, oldest, oldest+1)
	}
	if f.standing == nil || !f.standing.holds() {
		return nil
	}
	if f.text == "" { // read from the journal: perhaps before the computer was restarted
		if is, err := h.loadedRules(ctx); err != nil || is == "" {
			return err
		}
	}
	return h.load(ctx, f.standing)
}

// leftBehind remembers the rules of an earlier process, which may stay until the first
// wish.
func (h *macHost) leftBehind(c *macFilterChange) {
	h.filter.mu.Lock()
	defer h.filter.mu.Unlock()
	if h.filter.standing == nil {
		h.filter.standing = c
	}
}

// unpass forgets a socket. Its rule goes with the next change.
func (h *macHost) unpass(p macPass) {
	h.filter.mu.Lock()
	defer h.filter.mu.Unlock()
	h.filter.passes = slices.DeleteFunc(h.filter.passes, func(o macPass) bool { return o == p })
}

var (
	macToken    = regexp.MustCompile(`(?m)^Token : ([0-9]+)`)
	macTokenAll = regexp.MustCompile(`^[0-9]+$`)
)

// enable switches the packet filter on. It stays on for as long as somebody has a token;
// ours is written down at once, for a process that is killed.
func (h *macHost) enable(ctx context.Context) error {
	info, err := h.pfctl(ctx, "", "-s", "info")
	if err != nil {
		return err
	}
	if held, err := h.held(ctx, h.token()); err != nil || held && strings.Contains(info, pfEnabled) {
		return err
	}
	if err := h.release(ctx); err != nil { // a token that keeps nothing on
		return err
	}
	said, err := h.pfctl(ctx, "", "-E")
	if err != nil {
		return err
	}
	match := macToken.FindStringSubmatch(said)
	if match == nil {
		return fmt.Errorf("the packet filter gives no token to keep it on: %q", oneLine(said))
	}
	if err := os.WriteFile(h.tokenPath, []byte(match[1]+"\n"), 0o600); err != nil {
		_, back := h.pfctl(ctx, "", "-X", match[1])
		return errors.Join(err, back)
	}
	return nil
}

// release gives our token back, and the packet filter is off if nobody else has one.
func (h *macHost) release(ctx context.Context) error {
	token := h.token()
	held, err := h.held(ctx, token)
	if err != nil {
		return err
	}
	if held {
		if _, err := h.pfctl(ctx, "", "-X", token); err != nil {
			return err
		}
	}
	if err := os.Remove(h.tokenPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// token is the one that was written down; empty if there is none.
func (h *macHost) token() string {
	content, err := readBounded(h.tokenPath)
	token := strings.TrimSpace(string(content))
	if err != nil || !macTokenAll.MatchString(token) {
		return ""
	}
	return token
}

// held says whether the packet filter still knows a token.
func (h *macHost) held(ctx context.Context, token string) (bool, error) {
	if token == "" {
		return false, nil
	}
	all, err := h.pfctl(ctx, "", "-s", "References")
	return slices.Contains(strings.Fields(all), token), err
}

// holds says whether something is held back that sockets may need.
func (c *macFilterChange) holds() bool { return c.Block || c.BlockIPv6 || c.BlockDNS }

// rules are the change's, in pf.conf's language. The first that applies decides, and none
// keeps state, so that a new set of rules counts at once. All words in it are numbers and
// names of interfaces that the kernel has given.
func (c *macFilterChange) rules(passes []macPass) []string {
	var rules []string
	add := func(format string, args ...any) { rules = append(rules, fmt.Sprintf(format, args...)) }
	for _, g := range c.Guards {
		for _, a := range g.Addresses {
			add("pass in quick on lo0 %s from any to %v no state", macFamily(a), a)
			add("block drop in quick on ! %s %s from any to %v", g.Link, macFamily(a), a)
		}
	}
	if !c.holds() {
		return rules
	}
	add("pass out quick on lo0 all no state")
	for _, g := range c.Guards {
		add("pass out quick on %s all no state", g.Link)
	}
	for _, p := range passes {
		rules = append(rules, p.rule())
	}
	for _, a := range c.Portal {
		add("pass out quick %s from any to %v no state", macFamily(a), a)
	}
	if c.BlockDNS {
		for _, protocol := range []string{"udp", "tcp"} {
			add("block return out quick proto %s from any to any port = 53", protocol)
		}
	}
	if !c.Block && !c.BlockIPv6 {
		return rules
	}
	rules = append(rules, c.housekeeping()...)
	for _, p := range openPrefixes(c.Local, c.Block, c.BlockIPv6) {
		add("pass out quick %s from any to %v no state", macFamily(p.Addr()), p)
	}
	if c.Block {
		add("block return out quick all")
	} else {
		add("block return out quick inet6 all")
	}
	return rules
}

// housekeeping lets through what an interface needs to get and keep its addresses: DHCP
// (RFC 2131 §4.1, RFC 8415 §7.2), neighbour discovery (RFC 4861 §4) and the multicast
// reports that it depends on (RFC 2710 §3, RFC 3810 §5).
func (c *macFilterChange) housekeeping() []string {
	var rules []string
	if c.Block {
		rules = append(rules, "pass out quick inet proto udp from any port = 68 to any port = 67 no state")
	}
	for _, to := range []string{"fe80::/10", "ff02::1:2"} {
		rules = append(rules, fmt.Sprintf("pass out quick inet6 proto udp from any port = 546 to %s port = 547 no state", to))
	}
	for _, kind := range neighbourICMPv6 {
		rules = append(rules, fmt.Sprintf("pass out quick inet6 proto ipv6-icmp from any to any icmp6-type %d no state", kind))
	}
	return rules
}

// macFamily is an address family in the words of pf.conf and ifconfig.
func macFamily(a netip.Addr) string {
	if a.Is6() {
		return "inet6"
	}
	return "inet"
}

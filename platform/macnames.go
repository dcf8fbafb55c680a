package platform

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// storePrefix begins our keys of the dynamic store: services of the network that are in
// no configuration. What begins with State: is forgotten when the computer restarts.
const storePrefix = "State:/Network/Service/5741F7A2-66A3-4E5C-9D4B-"

// storeKey names part n of an interface's service, whose identifier has the form of a
// UUID.
func storeKey(link string, n int, entity string) (string, error) {
	unit, err := strconv.ParseUint(strings.TrimLeft(link, "abcdefghijklmnopqrstuvwxyz"), 10, 32)
	if err != nil {
		return "", fmt.Errorf("interface %q has no number", link)
	}
	return fmt.Sprintf("%s%08X%04X/%s", storePrefix, unit, n, entity), nil
}

// storeList is a list of texts in a dictionary of the dynamic store.
type storeList struct {
	Name   string
	Values []string
}

// macStoreChange is a key of the dynamic store, with a dictionary: name servers or WINS
// servers.
type macStoreChange struct {
	plain
	h     *macHost
	Key   string
	Lists []storeList
	// NoSearch: the domains whose names are looked up do not complete names.
	NoSearch bool
}

func (c *macStoreChange) String() string {
	var words []string
	for _, l := range c.Lists {
		words = append(words, fmt.Sprintf("%s %q", l.Name, l.Values))
	}
	if c.NoSearch {
		words = append(words, noSearchName)
	}
	return fmt.Sprintf("store %s: %s", c.Key, strings.Join(words, ", "))
}

func (c *macStoreChange) id() string     { return "store " + c.Key }
func (c *macStoreChange) part() Part     { return PartDNS }
func (c *macStoreChange) kind() string   { return "mac-store" }
func (c *macStoreChange) inherit(change) {}

// Bounds of one list: scutil(8) takes a hundred words and some 2,000 bytes in a line.
const (
	maxListWords = 50
	maxListBytes = 1500
)

// ours is what a key of ours may be, also in a journal.
var ours = regexp.MustCompile(`^` + regexp.QuoteMeta(storePrefix) + `[0-9A-F]{12}/(DNS|SMB)$`)

// noSearchName is the number by which a key's domains do not complete names.
const noSearchName = "SupplementalMatchDomainsNoSearch"

// storeWord is what may be written to scutil without a quote.
var storeWord = regexp.MustCompile(`^[A-Za-z0-9._:-]+$`)

// script is what scutil(8) is told, to make the key be as wished. A word that could be
// taken for another command is refused.
func (c *macStoreChange) script() (string, error) {
	if !ours.MatchString(c.Key) {
		return "", fmt.Errorf("%q is no key of this program's", c.Key)
	}
	var b strings.Builder
	b.WriteString("d.init\n")
	for _, l := range c.Lists {
		if !storeWord.MatchString(l.Name) || len(l.Values) > maxListWords {
			return "", fmt.Errorf("the list %q cannot be written to the dynamic store", l.Name)
		}
		b.WriteString("d.add " + l.Name + " *")
		for _, v := range l.Values {
			switch {
			case v == "":
				b.WriteString(` ""`)
			case storeWord.MatchString(v):
				b.WriteString(" " + v)
			default:
				return "", fmt.Errorf("%q cannot be written to the dynamic store", v)
			}
		}
		b.WriteString("\n")
	}
	if c.NoSearch {
		b.WriteString("d.add " + noSearchName + " # 1\n")
	}
	b.WriteString("set " + c.Key + "\n")
	return b.String(), nil
}

func (c *macStoreChange) apply(ctx context.Context) error {
	script, err := c.script()
	if err != nil {
		return err
	}
	if stands, err := c.stands(ctx); err != nil || stands {
		return err
	}
	said, err := c.h.sys.run(ctx, script, scutilPath)
	if err != nil {
		return err
	}
	stands, err := c.stands(ctx)
	if err == nil && !stands {
		err = fmt.Errorf("the dynamic store has not taken it: %q", oneLine(said))
	}
	return err
}

func (c *macStoreChange) undo(ctx context.Context) error {
	if !ours.MatchString(c.Key) {
		return fmt.Errorf("%q is no key of this program's", c.Key)
	}
	is, err := c.h.show(ctx, c.Key)
	if err != nil || is == nil {
		return err
	}
	if _, err := c.h.sys.run(ctx, "remove "+c.Key+"\n", scutilPath); err != nil {
		return err
	}
	if is, err = c.h.show(ctx, c.Key); err == nil && is != nil {
		err = errors.New("the dynamic store has it still")
	}
	return err
}

// stands says whether the store has the key as wished.
func (c *macStoreChange) stands(ctx context.Context) (bool, error) {
	is, err := c.h.show(ctx, c.Key)
	if err != nil {
		return false, err
	}
	lists := c.Lists
	if c.NoSearch {
		lists = append(slices.Clone(lists), storeList{noSearchName, []string{"1"}})
	}
	if len(is) != len(lists) {
		return false, nil
	}
	for _, l := range lists {
		if !slices.Equal(is[l.Name], l.Values) {
			return false, nil
		}
	}
	return true, nil
}

// show reads the values of a key of the dynamic store; nil if there is no such key.
func (h *macHost) show(ctx context.Context, key string) (map[string][]string, error) {
	said, err := h.sys.run(ctx, "show "+key+"\n", scutilPath)
	if err != nil {
		return nil, err
	}
	return parseStore(said), nil
}

// parseStore reads what scutil(8) shows of a dictionary: the lists of texts in it, and
// single values as lists of one. It is nil if there is no dictionary.
func parseStore(said string) map[string][]string {
	var lists map[string][]string
	list := ""
	for line := range strings.Lines(said) {
		words := strings.Fields(line)
		switch {
		case lists == nil:
			if len(words) == 2 && words[0] == "<dictionary>" {
				lists = map[string][]string{}
			}
		case len(words) == 0:
		case words[0] == "}":
			list = ""
		case len(words) == 4 && words[1] == ":" && words[2] == "<array>":
			list = words[0]
			lists[list] = nil
		case list != "" && len(words) >= 2 && words[1] == ":":
			lists[list] = append(lists[list], strings.Join(words[2:], " "))
		case len(words) == 3 && words[1] == ":":
			lists[words[0]] = words[2:]
		}
	}
	return lists
}

// planNames makes a service of the network of each tunnel that has servers. Its domains
// are supplemental, so that it is asked beside the service that has the default route; the
// empty one stands for all names. That service stays the primary one, to whose interface
// the system leads the default route.
//
// The system ignores SearchDomains of a service without addresses of its own, but completes
// names with supplemental domains, unless their key says otherwise. So search domains are
// supplemental, too, in keys that do not.
func (h *macHost) planNames(cfg Config) ([]change, error) {
	var changes []change
	for _, t := range cfg.Tunnels {
		search, match := namesOf(&t)
		for n, domains := range slices.Concat(match, search) {
			key, err := storeKey(t.Interface, n, "DNS")
			if err != nil {
				return nil, err
			}
			changes = append(changes, &macStoreChange{h: h, Key: key, NoSearch: n < len(match), Lists: []storeList{
				{"ServerAddresses", texts(t.DNS)}, {"SupplementalMatchDomains", domains},
			}})
		}
		if len(t.WINS) > 0 {
			key, err := storeKey(t.Interface, 0, "SMB")
			if err != nil {
				return nil, err
			}
			changes = append(changes, &macStoreChange{h: h, Key: key, Lists: []storeList{{"WINSAddresses", texts(t.WINS)}}})
		}
	}
	return changes, nil
}

// winsUnheeded: configd takes SMB of the primary service only.
const winsUnheeded = "written, but macOS heeds those of the primary network only"

// namesOf are the domains of a tunnel with servers: those that complete names, and the
// others that its servers resolve, each cut into lists that one key can have.
func namesOf(t *Tunnel) (search, match [][]string) {
	if len(t.DNS) == 0 {
		return nil, nil
	}
	search = chunks(t.SearchDomains)
	if len(t.MatchDomains) == 0 {
		return search, [][]string{{""}}
	}
	return search, chunks(slices.DeleteFunc(slices.Clone(t.MatchDomains), func(d string) bool {
		return slices.ContainsFunc(t.SearchDomains, func(s string) bool {
			return strings.EqualFold(strings.TrimSuffix(s, "."), strings.TrimSuffix(d, "."))
		})
	}))
}

// chunks cuts domains into lists that one key can have.
func chunks(domains []string) [][]string {
	var all [][]string
	size := 0
	for _, d := range domains {
		d = strings.TrimSuffix(d, ".")
		if len(all) == 0 || len(all[len(all)-1]) == maxListWords || size+len(d)+1 > maxListBytes {
			all, size = append(all, nil), 0
		}
		all[len(all)-1] = append(all[len(all)-1], d)
		size += len(d) + 1
	}
	return all
}

func texts(addrs []netip.Addr) []string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}

// nameservers implements host: the servers of the primary service, which is none of ours.
func (h *macHost) nameservers([]change) []netip.Addr {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	lists, err := h.show(ctx, "State:/Network/Global/DNS")
	if err != nil {
		h.log.Warn("network: cannot see the host's name servers", "error", err)
	}
	var servers []netip.Addr
	for _, text := range lists["ServerAddresses"] {
		if a, err := netip.ParseAddr(text); err == nil {
			servers = appendNew(servers, a.WithZone(""))
		}
	}
	return servers
}

// macResolver is whom the system asks for the names of a domain; "" is for all names.
type macResolver struct {
	domain  string
	servers []netip.Addr
	link    string // interface; may be missing
}

var resolverLink = regexp.MustCompile(`\((.+)\)$`)

// parseResolvers reads what scutil(8) --dns tells, in the order in which they are asked,
// without those that only count for sockets that are bound to an interface.
func parseResolvers(said string) []macResolver {
	var all []macResolver
	for line := range strings.Lines(said) {
		if strings.Contains(line, "for scoped queries") {
			break
		}
		if strings.HasPrefix(line, "resolver #") {
			all = append(all, macResolver{})
			continue
		}
		name, value, found := strings.Cut(line, " : ")
		if !found || len(all) == 0 {
			continue
		}
		r := &all[len(all)-1]
		switch name, value = strings.TrimSpace(name), strings.TrimSpace(value); {
		case name == "domain":
			r.domain = value
		case strings.HasPrefix(name, "nameserver["):
			if a, err := netip.ParseAddr(value); err == nil {
				r.servers = append(r.servers, a.WithZone(""))
			}
		case name == "if_index":
			if match := resolverLink.FindStringSubmatch(value); match != nil {
				r.link = match[1]
			}
		}
	}
	return slices.DeleteFunc(all, func(r macResolver) bool { return len(r.servers) == 0 })
}

// The system takes its time from the dynamic store to the resolvers.
const (
	verifyTries = 20
	verifyPause = 100 * time.Millisecond
)

// verify implements host: whether the tunnels' servers are asked first for what they are
// to resolve, and who else is asked.
func (h *macHost) verify(ctx context.Context, cfg Config, report *Report) error {
	h.sockets.avoid(interfaces(cfg))
	if report.DNS == "" {
		return nil
	}
	var resolvers []macResolver
	for try := 1; ; try++ {
		said, err := h.sys.run(ctx, "", scutilPath, "--dns")
		if err != nil {
			return err
		}
		if resolvers = parseResolvers(said); namesTaken(cfg, resolvers) == "" || try == verifyTries {
			break
		}
		select {
		case <-time.After(verifyPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	report.NamesTaken = namesTaken(cfg, resolvers)
	report.NamesElsewhere = namesElsewhere(cfg, resolvers)
	if report.Unguarded != "" && slices.ContainsFunc(cfg.Tunnels, resolvesAll) {
		servers, _ := merged(cfg.Tunnels)
		for _, r := range resolvers {
			for _, a := range r.servers {
				if r.domain == "" && !slices.Contains(servers, a) {
					report.OtherServers = appendNew(report.OtherServers, a)
				}
			}
		}
	}
	return nil
}

// namesTaken says who is asked instead of a tunnel; empty if nobody is.
func namesTaken(cfg Config, resolvers []macResolver) string {
	asked := func(domain string) *macResolver {
		for i, r := range resolvers {
			if strings.EqualFold(r.domain, domain) {
				return &resolvers[i]
			}
		}
		return nil
	}
	for _, t := range cfg.Tunnels {
		if len(t.DNS) == 0 {
			continue
		}
		domains := t.MatchDomains
		if resolvesAll(t) {
			domains = []string{""}
		}
		for _, domain := range domains {
			r := asked(strings.TrimSuffix(domain, "."))
			if r == nil || !slices.ContainsFunc(r.servers, func(a netip.Addr) bool { return slices.Contains(t.DNS, a) }) {
				if r != nil && r.link != "" {
					return r.link
				}
				return "another program"
			}
		}
	}
	return ""
}

// namesElsewhere lists domains of the tunnels, or below them, that others resolve.
func namesElsewhere(cfg Config, resolvers []macResolver) []NameClaim {
	servers, _ := merged(cfg.Tunnels)
	var found []NameClaim
	for _, r := range resolvers {
		if r.domain == "" || slices.ContainsFunc(r.servers, func(a netip.Addr) bool { return slices.Contains(servers, a) }) {
			continue
		}
		for _, t := range cfg.Tunnels {
			if slices.ContainsFunc(slices.Concat(t.SearchDomains, t.MatchDomains), func(d string) bool { return isBelow(r.domain, d) }) {
				found = appendNew(found, NameClaim{Interface: r.link, Domain: r.domain, Tunnel: t.Interface})
			}
		}
	}
	return found
}

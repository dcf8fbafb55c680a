//go:build lab && linux

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wayfarer/app"
)

// certificates of the gateways, where it is not that of gw.lab.test.
var certificates = map[string]string{
	"legacy": "gw-legacy", "legacy-md5": "gw-legacy", "legacy-am": "gw-legacy",
	"chain": "gw-chain", "chain-frag": "gw-chain", "other": "gw2",
}

func fingerprint(t *testing.T, p profile) string {
	t.Helper()
	if p["AUTH"] == "psk" {
		return "" // a secret proves it
	}
	name, ok := certificates[p["NAME"]]
	if !ok {
		name = "gw"
	}
	data, err := os.ReadFile(filepath.Join(stateDir, "pki", name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// checkStatus compares the status with what the profile and its gateway are.
func (h *host) checkStatus(t *testing.T, p profile, g gives, c app.Connection) {
	t.Helper()
	same := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("status: %s: got %v, want %v", what, got, want)
		}
	}
	if len(c.Addresses) != 1 || !prefixes(t, []string{g.pool})[0].Contains(c.Addresses[0].Addr()) {
		t.Errorf("status: addresses %v, want one of %s", c.Addresses, g.pool)
	}
	same("dns", c.DNS, g.dns)
	same("wins", c.WINS, g.wins)
	same("domains", c.Domains, g.domains)
	same("banner", c.Banner, g.banner)
	same("split_include", c.SplitInclude, g.include)
	same("split_exclude", c.SplitExclude, g.exclude)

	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	same("owner", c.Owner, me.Username)
	if c.ID == "" || c.Since == nil || time.Since(*c.Since) > time.Minute {
		t.Errorf("status: id %q, since %v", c.ID, c.Since)
	}
	if c.Gateway == nil || c.IKE == nil || c.TUN == nil || len(c.ESP) != 1 {
		t.Fatalf("status: gateway %v, ike %v, tun %v, esp %v", c.Gateway, c.IKE, c.TUN, c.ESP)
	}
	same("gateway.host", c.Gateway.Host, p["GATEWAY"])
	same("gateway.address", c.Gateway.Address, p["GATEWAY"])
	same("gateway.port", c.Gateway.Port, 4500)
	same("gateway.certificate_sha256", c.Gateway.CertificateSHA256, fingerprint(t, p))
	// a DN may be written in another order or with other blanks
	for part := range strings.SplitSeq(p["REMOTE_ID"], ",") {
		if !strings.Contains(c.Gateway.Identity, part) {
			t.Errorf("status: gateway.identity %q, want %q", c.Gateway.Identity, p["REMOTE_ID"])
		}
	}
	same("ike.version", c.IKE.Version, 1)
	exchange := map[string]string{"main": "main", "push": "main", "aggr": "aggressive"}[p["MODE"]]
	same("ike.exchange", c.IKE.Exchange, exchange)
	auth := map[string]string{"hybrid": "hybrid-rsa", "psk": "xauth-psk", "rsa": "xauth-rsa"}[p["AUTH"]]
	same("ike.auth", c.IKE.Auth, auth)
	same("ike.suite", c.IKE.Suite, p["IKE_PROPOSAL"])
	same("ike.nat_t", c.IKE.NATT, "rfc3947")
	same("ike.dpd", c.IKE.DPD, true)
	same("ike.fragmentation", c.IKE.Fragmentation, p["NAME"] != "chain")
	// rw is behind NAT, except for IPv6.
	same("ike.nat", c.IKE.NAT, natShown(t, h.ns == "rw" && p["NAME"] != "hybrid6"))
	same("ike.rekeys", c.IKE.Rekeys, 0)
	within(t, "ike.established", c.IKE.Established, -time.Minute, 0)
	within(t, "ike.last_heard", c.IKE.LastHeard, -time.Minute, 0)
	within(t, "ike.expires", c.IKE.Expires, 0, 25*time.Hour)

	esp := c.ESP[0]
	same("esp.suite", esp.Suite, p["ESP_PROPOSAL"])
	same("esp.local", esp.Local, c.Addresses[0])
	same("esp.replayed and bad_icv", []uint64{esp.Replayed, esp.BadICV}, []uint64{0, 0})
	within(t, "esp.established", esp.Established, -time.Minute, 0)
	within(t, "esp.expires", esp.Expires, 0, 25*time.Hour)
	for code, want := range map[string]bool{"weak-crypto": strings.HasPrefix(p["NAME"], "legacy"), "psk-aggressive": p["NAME"] == "psk-am"} {
		if want != slices.ContainsFunc(c.Warnings, func(w app.Warning) bool { return w.Code == code }) {
			t.Errorf("status: warnings %v", c.Warnings)
		}
	}
	if c.Step != "" || c.Prompt != nil || c.Failure != nil {
		t.Errorf("status: step %q, prompt %v, failure %v of a connection that is up", c.Step, c.Prompt, c.Failure)
	}
}

// natShown is what the status says of NAT. A gateway without kernel ESP claims to be
// behind one before strongSwan 6; else it is this side that claims that, where there
// is none.
func natShown(t *testing.T, behindNAT bool) string {
	t.Helper()
	claims := gatewayMajor(t) < 6
	switch {
	case behindNAT && claims:
		return "both"
	case behindNAT:
		return "local"
	case claims:
		return "remote"
	}
	return "forced"
}

// gatewayMajor is the first number of the gateways' version of strongSwan.
func gatewayMajor(t *testing.T) int {
	t.Helper()
	version := mustLab(t, "gw", "version")
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		t.Fatalf("the gateway's version: %q", version)
	}
	return n
}

// within checks that a time is there and lies between now+from and now+to.
func within(t *testing.T, what string, got *time.Time, from, to time.Duration) {
	t.Helper()
	if got == nil || time.Until(*got) < from || time.Until(*got) > to {
		t.Errorf("status: %s: %v", what, got)
	}
}

// checkKernel compares the status with the client's kernel and resolv.conf.
func (h *host) checkKernel(t *testing.T, c app.Connection) {
	t.Helper()
	var links []struct {
		MTU   int `json:"mtu"`
		Addrs []struct {
			Family string `json:"family"`
			Local  string `json:"local"`
			Len    int    `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(mustInside(t, h.ns, "ip", "-j", "addr", "show", "dev", c.TUN.Name)), &links); err != nil {
		t.Fatal(err)
	}
	// the path's measure may come after the status was asked for
	if mtu := h.connection(t).TUN.MTU; links[0].MTU != c.TUN.MTU && links[0].MTU != mtu {
		t.Errorf("status: mtu %d, then %d, the interface has %d", c.TUN.MTU, mtu, links[0].MTU)
	}
	var addrs []string
	for _, a := range links[0].Addrs {
		if a.Family == "inet" {
			addrs = append(addrs, fmt.Sprintf("%s/%d", a.Local, a.Len))
		}
	}
	if fmt.Sprint(addrs) != fmt.Sprint(c.Addresses) {
		t.Errorf("status: addresses %v, the interface has %v", c.Addresses, addrs)
	}

	if kernel := h.tunnelRoutes(t, c.TUN.Name); fmt.Sprint(sorted(c.Routes)) != fmt.Sprint(kernel) {
		t.Errorf("status: routes %v, the kernel has %v", c.Routes, kernel)
	}

	resolv := mustInside(t, h.ns, "cat", "/etc/resolv.conf")
	for _, dns := range c.DNS {
		if !strings.Contains(resolv, "nameserver "+dns.String()) {
			t.Errorf("status: DNS %v, resolv.conf:\n%s", dns, resolv)
		}
	}
	for _, domain := range c.Domains {
		if !regexp.MustCompile(`(?m)^(search|domain)\b.*\b` + regexp.QuoteMeta(domain) + `\b`).MatchString(resolv) {
			t.Errorf("status: domain %s, resolv.conf:\n%s", domain, resolv)
		}
	}
}

// tunnelRoutes are the kernel's routes through the tunnel, in any table; two halves
// of the address space stand for the whole.
func (h *host) tunnelRoutes(t *testing.T, tun string) []netip.Prefix {
	t.Helper()
	var routes []struct {
		Type string `json:"type"`
		Dst  string `json:"dst"`
	}
	out := mustInside(t, h.ns, "ip", "-j", "-4", "route", "show", "table", "all", "dev", tun)
	if err := json.Unmarshal([]byte(out), &routes); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var all []netip.Prefix
	for _, r := range routes {
		if r.Type != "" && r.Type != "unicast" {
			continue
		}
		switch {
		case r.Dst == "default" || r.Dst == "0.0.0.0/1":
			r.Dst = "0.0.0.0/0"
		case r.Dst == "128.0.0.0/1":
			continue
		case !strings.Contains(r.Dst, "/"):
			r.Dst += "/32"
		}
		all = append(all, prefixes(t, []string{r.Dst})...)
	}
	return sorted(all)
}

func sorted(p []netip.Prefix) []netip.Prefix {
	p = slices.Clone(p)
	slices.SortFunc(p, netip.Prefix.Compare)
	return slices.Compact(p)
}

// gatewaySAs is what "swanctl --list-sas" says on the profile's gateway.
func gatewaySAs(t *testing.T, p profile) string {
	t.Helper()
	ns := "gw"
	if p["NAME"] == "other" {
		ns = "gw2"
	}
	return mustLab(t, "gw", "sas", ns)
}

// swanctlNames of algorithms.
var swanctlNames = map[string]string{
	"aes256": "AES_CBC-256", "aes128": "AES_CBC-128", "3des": "3DES_CBC",
	"aes256gcm16": "AES_GCM_16-256", "aes128gcm16": "AES_GCM_16-128",
	"sha256": "HMAC_SHA2_256_128", "sha1": "HMAC_SHA1_96", "md5": "HMAC_MD5_96",
	"modp1024": "MODP_1024", "modp2048": "MODP_2048", "ecp256": "ECP_256",
}

var childSA = regexp.MustCompile(`(?s)INSTALLED, TUNNEL(?:-in-UDP)?, ESP:(\S+)\n` +
	`.*?in  ([0-9a-f]+),\s+(\d+) bytes,\s+(\d+) packets.*?\n` +
	`.*?out ([0-9a-f]+),\s+(\d+) bytes,\s+(\d+) packets.*?\n`)

// checkGateway compares the status with the gateway's SAs: algorithms, SPIs, and the
// counters of both sides, once the traffic has come to rest.
func (h *host) checkGateway(t *testing.T, p profile) {
	t.Helper()
	var why string
	defer func() {
		if t.Failed() {
			t.Log(why)
		}
	}()
	eventually(t, 4*time.Second, "status and gateway agree", func() bool {
		why = disagreement(t, h.connection(t), gatewaySAs(t, p))
		return why == ""
	})
}

// disagreement says where a connection differs from what its gateway lists. An ESP SA
// that the gateway has replaced (REKEYED) does not count.
func disagreement(t *testing.T, c app.Connection, list string) string {
	t.Helper()
	// an SA that took over from another lists the address twice
	holder := regexp.MustCompile(`  remote .*\[([0-9. ]* )?` + regexp.QuoteMeta(c.Addresses[0].Addr().String()) + `( [0-9. ]*)?\]\n`)
	at := holder.FindStringIndex(list)
	if at == nil {
		return fmt.Sprintf("the gateway has given %v to nobody:\n%s", c.Addresses, list)
	}
	list = list[at[1]:]
	line, list, _ := strings.Cut(list, "\n")
	for part := range strings.SplitSeq(c.IKE.Suite, "-") {
		if !strings.Contains(line, swanctlNames[part]) {
			return fmt.Sprintf("status: ike.suite %s, gateway: %s", c.IKE.Suite, line)
		}
	}
	if next := regexp.MustCompile(`(?m)^\S`).FindStringIndex(list); next != nil {
		list = list[:next[0]] // without the gateway's other clients
	}
	installed := childSA.FindAllStringSubmatch(list, -1)
	if len(installed) == 0 {
		return "the gateway has no ESP SA:\n" + list
	}
	for _, m := range installed {
		i := slices.IndexFunc(c.ESP, func(e app.ESP) bool { return spi(t, e.SPIOut) == spi(t, "0x"+m[2]) })
		if i < 0 {
			return fmt.Sprintf("status: no ESP SA %s, only %+v", m[2], c.ESP)
		}
		esp := c.ESP[i]
		var names []string
		for part := range strings.SplitSeq(esp.Suite, "-") {
			names = append(names, swanctlNames[part])
		}
		got := fmt.Sprint(strings.Join(names, "/"), esp.BytesOut, esp.PacketsOut, spi(t, esp.SPIIn), esp.BytesIn, esp.PacketsIn)
		want := fmt.Sprint(m[1], number(t, m[3]), number(t, m[4]), spi(t, "0x"+m[5]), number(t, m[6]), number(t, m[7]))
		if got != want {
			return fmt.Sprintf("ESP SA %s: suite, bytes and packets out, SPI, bytes and packets in:\nstatus  %s\ngateway %s", m[2], got, want)
		}
	}
	return ""
}

func spi(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		t.Errorf("SPI: %v", err)
	}
	return n
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Errorf("counter: %v", err)
	}
	return n
}

package platform

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

const macKey = "State:/Network/Service/5741F7A2-66A3-4E5C-9D4B-000000040000/DNS"

func TestMacStoreScript(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change macStoreChange
		want   string // empty: refused
	}{
		{
			"split",
			macStoreChange{Key: macKey, NoSearch: true, Lists: []storeList{
				{"ServerAddresses", []string{"10.1.1.1", "2001:db8::1"}},
				{"SupplementalMatchDomains", []string{"corp.example", "_x.lab-2.example"}},
			}},
			`d.init
d.add ServerAddresses * 10.1.1.1 2001:db8::1
d.add SupplementalMatchDomains * corp.example _x.lab-2.example
d.add SupplementalMatchDomainsNoSearch # 1
set ` + macKey + "\n",
		},
		{
			"all names",
			macStoreChange{Key: macKey, Lists: []storeList{{"SupplementalMatchDomains", []string{""}}}},
			"d.init\nd.add SupplementalMatchDomains * \"\"\nset " + macKey + "\n",
		},
		{"a line more", macStoreChange{Key: macKey, Lists: []storeList{{"SearchDomains", []string{"a\nset State:/Network/Global/DNS"}}}}, ""},
		{"a word more", macStoreChange{Key: macKey, Lists: []storeList{{"SearchDomains", []string{"a b"}}}}, ""},
		{"a quote", macStoreChange{Key: macKey, Lists: []storeList{{"SearchDomains", []string{`"`}}}}, ""},
		{"a backslash", macStoreChange{Key: macKey, Lists: []storeList{{"SearchDomains", []string{`a\`}}}}, ""},
		{"a tab", macStoreChange{Key: macKey, Lists: []storeList{{"SearchDomains", []string{"a\tb"}}}}, ""},
		{"a list of another name", macStoreChange{Key: macKey, Lists: []storeList{{"Search Domains", nil}}}, ""},
		{"too long", macStoreChange{Key: macKey, Lists: []storeList{{"SearchDomains", make([]string, maxListWords+1)}}}, ""},
		{"another program's key", macStoreChange{Key: "State:/Network/Global/DNS"}, ""},
		{"a key and more", macStoreChange{Key: macKey + "\nremove x"}, ""},
		{"a setup", macStoreChange{Key: strings.Replace(macKey, "State:", "Setup:", 1)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.change.script()
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v", got, err)
			}
			if tt.want == "" {
				f := newFakeMac()
				_, h := f.network(t, t.TempDir())
				tt.change.h = h
				if err := tt.change.apply(t.Context()); err == nil || len(f.diary) > 0 {
					t.Errorf("applied: %v, %q", err, f.diary)
				}
			}
		})
	}
	f := newFakeMac()
	_, h := f.network(t, t.TempDir())
	if err := (&macStoreChange{h: h, Key: "State:/Network/Global/DNS"}).undo(t.Context()); err == nil || len(f.store) != 1 {
		t.Errorf("another program's key was removed: %v", err)
	}
}

func TestMacParseStore(t *testing.T) {
	for said, want := range map[string]string{
		"":                "map[]",
		"  No such key\n": "map[]",
		"<dictionary> {\n  SearchDomains : <array> {\n    0 : corp.example\n  }\n  ServerAddresses : <array> {\n    0 : 10.1.1.1\n    1 : fe80::1%en0\n  }\n  SupplementalMatchDomains : <array> {\n    0 : \n  }\n  SupplementalMatchDomainsNoSearch : 1\n}\n": `map["SearchDomains":["corp.example"] "ServerAddresses":["10.1.1.1" "fe80::1%en0"] "SupplementalMatchDomains":[""] "SupplementalMatchDomainsNoSearch":["1"]]`,
		"<dictionary> {\n  ServerPort : 53\n}\n":                      `map["ServerPort":["53"]]`,
		"<dictionary> {\n  ServerAddresses : <array> {\n    0 : 10.1": `map["ServerAddresses":["10.1"]]`,
	} {
		if got := fmt.Sprintf("%q", parseStore(said)); got != want {
			t.Errorf("%q: %s", said, got)
		}
	}
	if parseStore("  No such key\n") != nil || parseStore("<dictionary> {\n}\n") == nil {
		t.Error("an empty dictionary is not the same as none")
	}
}

// resolversOfMac is what a Mac with another VPN tells.
const resolversOfMac = `DNS configuration

resolver #1
  search domain[0] : corp.example
  nameserver[0] : 10.1.1.1
  nameserver[1] : fe80::1%en0
  if_index : 15 (utun9)
  flags    : Request A records, Request AAAA records
  reach    : 0x00000002 (Reachable)
  order    : 101200

resolver #2
  domain   : local
  options  : mdns
  timeout  : 5
  flags    : Request A records, Request AAAA records
  reach    : 0x00000000 (Not Reachable)
  order    : 300000

resolver #3
  domain   : Lab.example
  nameserver[0] : 192.0.2.53

DNS configuration (for scoped queries)

resolver #1
  nameserver[0] : 192.168.1.1
  if_index : 4 (en0)
`

func TestMacParseResolvers(t *testing.T) {
	var got []string
	for _, r := range parseResolvers(resolversOfMac) {
		got = append(got, fmt.Sprintf("%q %v %s", r.domain, r.servers, r.link))
	}
	if want := `"" [10.1.1.1 fe80::1] utun9, "Lab.example" [192.0.2.53] `; strings.Join(got, ", ") != want {
		t.Errorf("%s", got)
	}
	for _, said := range []string{"", "No DNS configuration available\n", "  nameserver[0] : 10.1.1.1\n"} {
		if got := parseResolvers(said); len(got) != 0 {
			t.Errorf("%q: %v", said, got)
		}
	}
}

// TestMacVerify: whether names go where they shall.
func TestMacVerify(t *testing.T) {
	all := macTunnel
	all.MatchDomains = nil
	for _, tt := range []struct {
		name   string
		others string
		tunnel Tunnel
		taken  string
		claims string
	}{
		{"split", "", macTunnel, "", "[]"},
		{"all", "", all, "", "[]"},
		{"all, and another VPN has them", resolversOf("", "192.0.2.53", "utun9"), all, "utun9", "[]"},
		{"split, and another VPN has all", resolversOf("", "192.0.2.53", "utun9"), macTunnel, "", "[]"},
		{"a domain below is another's", resolversOf("eu.corp.example", "192.0.2.53", "en0"), macTunnel, "", "[{en0 eu.corp.example utun4}]"},
		{"the domain is another's", resolversOf("Corp.Example", "192.0.2.53", ""), macTunnel, "another program", "[{ Corp.Example utun4}]"},
		{"the domain is another's with our server", resolversOf("corp.example", "10.1.1.2", ""), macTunnel, "", "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeMac()
				f.others = tt.others
				n, _ := f.network(t, t.TempDir())
				run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tt.tunnel}}))
				r := n.Report()
				if r.DNS != "configd" || r.NamesTaken != tt.taken || fmt.Sprint(r.NamesElsewhere) != tt.claims || len(r.OtherServers) > 0 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

func resolversOf(domain, server, link string) string {
	text := "\nresolver #1\n"
	if domain != "" {
		text += "  domain   : " + domain + "\n"
	}
	text += "  nameserver[0] : " + server + "\n"
	if link != "" {
		text += "  if_index : 20 (" + link + ")\n"
	}
	return text
}

// TestMacSearch: which domains complete names, and whose servers are asked for them.
func TestMacSearch(t *testing.T) {
	for _, tt := range []struct {
		name          string
		search, match string
		wantSearch    string // domains that complete names
		wantDomains   string // that the tunnel's servers resolve, "." is all
	}{
		{"all names", "corp.example lab.example", "", "corp.example lab.example", ". corp.example lab.example"},
		{"all names, none completed", "", "", "", "."},
		{"split, one of them completes", "Corp.example.", "corp.example lab.example", "Corp.example", "lab.example Corp.example"},
		{"split, all of them complete", "corp.example", "corp.example", "corp.example", "corp.example"},
		{"split, another one completes", "lab.example", "corp.example", "lab.example", "corp.example lab.example"},
		{"split, none completes", "", "corp.example", "", "corp.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeMac()
			n, _ := f.network(t, t.TempDir())
			tunnel := macTunnel
			tunnel.SearchDomains, tunnel.MatchDomains = strings.Fields(tt.search), strings.Fields(tt.match)
			run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}))
			var search, domains []string
			for line := range strings.Lines(f.resolvers()) {
				if _, domain, found := strings.Cut(strings.TrimSpace(line), "] : "); found && strings.Contains(line, "search domain[") {
					search = append(search, domain)
				}
			}
			for _, r := range parseResolvers(f.resolvers()) {
				if slices.Contains(r.servers, tunnel.DNS[0]) {
					domains = append(domains, cmp.Or(r.domain, "."))
				}
			}
			if strings.Join(search, " ") != tt.wantSearch || strings.Join(domains, " ") != tt.wantDomains {
				t.Errorf("names are completed with %q, the tunnel resolves %q", search, domains)
			}
		})
	}
}

// TestMacSearchChanges: a domain that begins to complete names, or ends, keeps its key,
// which is written again.
func TestMacSearchChanges(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	tunnel := macTunnel
	tunnel.MatchDomains = []string{"corp.example"}
	for _, search := range [][]string{nil, tunnel.MatchDomains, nil} {
		tunnel.SearchDomains = search
		run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}))
		if is := f.resolvers(); strings.Contains(is, "search domain[0] : corp.example") != (search != nil) {
			t.Errorf("search %q: %s", search, is)
		}
	}
}

// TestMacManyDomains: what does not fit into one key has several, and all of it comes back.
func TestMacManyDomains(t *testing.T) {
	tunnel := macTunnel
	tunnel.MatchDomains = nil
	for i := range 120 {
		tunnel.MatchDomains = append(tunnel.MatchDomains, fmt.Sprintf("%s%d.example.", strings.Repeat("x", i/2), i))
	}
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	before := f.String()
	run(t, "Set", n.Set(t.Context(), Config{Tunnels: []Tunnel{tunnel}}))
	var found []string
	for key, lists := range f.store {
		if strings.HasSuffix(key, "/DNS") && strings.HasPrefix(key, storePrefix) {
			domains := lists["SupplementalMatchDomains"]
			if len(domains) > maxListWords || len(strings.Join(domains, " ")) > maxListBytes || !ours.MatchString(key) {
				t.Errorf("%s has %q", key, domains)
			}
			found = append(found, domains...)
		}
	}
	want := slices.Clone(tunnel.SearchDomains)
	for _, d := range tunnel.MatchDomains {
		want = append(want, strings.TrimSuffix(d, "."))
	}
	slices.Sort(found)
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Errorf("%d domains instead of %d", len(found), len(want))
	}
	run(t, "Set", n.Set(t.Context(), Config{}))
	if f.String() != before {
		t.Errorf("left is\n%s", added(before, f.String()))
	}
}

// TestMacNotTaken: what the dynamic store does not show after it was set was not set.
func TestMacNotTaken(t *testing.T) {
	f := newFakeMac()
	n, _ := f.network(t, t.TempDir())
	before := f.String()
	f.step = func(command string) {
		if strings.HasSuffix(command, "/DNS") && strings.HasPrefix(command, "scutil set") {
			f.step, f.lose = func(string) {}, true
		}
	}
	err := n.Set(t.Context(), Config{Tunnels: []Tunnel{macTunnel}})
	if err == nil || !strings.Contains(err.Error(), "has not taken it") || f.String() != before {
		t.Errorf("%v, left is\n%s", err, added(before, f.String()))
	}
}

func TestMacStoreKey(t *testing.T) {
	for link, want := range map[string]string{
		"utun4": macKey, "utun12": strings.Replace(macKey, "00000004", "0000000C", 1), "utun": "", "wayfarer0x": "", "": "", "utun-1": "", "utun99999999999": "",
	} {
		if got, err := storeKey(link, 0, "DNS"); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", link, got, err)
		}
	}
}

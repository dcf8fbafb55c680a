package store

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// vpncService is how NetworkManager names its plug-in.
const vpncService = "org.freedesktop.networkmanager.vpnc"

// isNetworkManager tells a keyfile of NetworkManager with a VPN in it.
func isNetworkManager(text string) bool {
	sections := readINI(text)
	return sections["vpn"] != nil && sections["connection"] != nil
}

// importNetworkManager reads a connection of NetworkManager's plug-in for vpnc, in the
// form of nm-settings-keyfile(5).
func importNetworkManager(text string) (*Imported, error) {
	sections := readINI(text)
	vpn := sections["vpn"]
	if kind := vpn.get("service-type"); strings.ToLower(kind) != vpncService {
		return nil, fmt.Errorf("this is a connection of NetworkManager for another kind of VPN: %s", shown(kind))
	}
	if secrets := sections["vpn-secrets"]; secrets != nil {
		for _, name := range secrets.names {
			vpn.add(name, secrets.values[strings.ToLower(name)])
		}
	}
	for key, value := range vpn.values {
		vpn.values[key] = unescape(value)
	}
	c := &Candidate{}
	c.Profile.Name = field(unescape(sections["connection"].get("id")))
	if err := fromVpnc(c, vpn); err != nil {
		return nil, err
	}
	for _, secret := range []struct {
		flags, what string
		missing     bool
	}{
		{"IPSec secret-flags", "group's password", len(c.GroupSecret) == 0 && c.Profile.Auth == "xauth-psk"},
		{"Xauth password-flags", "password", len(c.Password) == 0},
	} {
		// Bit 0 (agent-owned): it is in the keyring of NetworkManager's applet.
		if flags, err := strconv.Atoi(vpn.get(secret.flags)); err == nil && flags&1 != 0 && secret.missing {
			c.remark("The %s is not in the file: NetworkManager keeps it elsewhere. You are asked for it.", secret.what)
		}
	}
	if ip := sections["ipv4"]; ip != nil {
		networkManagerRoutes(c, ip)
	}
	vpn.ignore("ipsec-secret-type", "xauth-password-type")
	vpn.leftover(c)
	return &Imported{Format: "NetworkManager (vpnc)", Profiles: []*Candidate{c}}, nil
}

// networkManagerRoutes reads "route1=10.0.0.0/8,192.0.2.1,0" and the older
// "routes=10.0.0.0/8;"; next hop and metric mean nothing in a tunnel.
func networkManagerRoutes(c *Candidate, ip *keys) {
	for _, name := range ip.names {
		number, ok := strings.CutPrefix(strings.ToLower(name), "route")
		if _, err := strconv.Atoi(number); !ok || number != "s" && err != nil {
			continue
		}
		for route := range strings.SplitSeq(ip.get(name), ";") {
			network, _, _ := strings.Cut(route, ",")
			if network = field(network); network != "" {
				c.Profile.RoutesAdd = append(c.Profile.RoutesAdd, network)
			}
		}
	}
	if ip.on("never-default") {
		c.remark("\"Use this connection only for resources on its network\" is up to the gateway here: it says which networks it serves.")
	}
}

// unescape resolves the escapes of a keyfile of GLib.
func unescape(value string) string {
	return strings.NewReplacer(`\s`, " ", `\t`, "\t", `\n`, "\n", `\r`, "\r", `\\`, `\`).Replace(value)
}

// vpncKeys are the settings of vpnc(8), which its files write as "Key value".
var vpncKeys = []string{
	"IPSec gateway", "IPSec ID", "IPSec secret", "IPSec obfuscated secret", "Xauth username", "Xauth password",
	"Xauth obfuscated password", "Xauth interactive", "Domain", "IKE DH Group", "Perfect Forward Secrecy", "Vendor",
	"NAT Traversal Mode", "Local Port", "Local Addr", "Cisco UDP Encapsulation Port", "IKE Authmode", "CA-File", "CA-Dir",
	"Enable Single DES", "Enable no encryption", "DPD idle timeout (our side)", "Application version", "IPSEC target network",
	"Interface name", "Interface mode", "Interface MTU", "Script", "Debug", "No Detach", "Pidfile", "Noninteractive",
}

// vpncLine is compiled when it is needed: every start of a program would pay for it.
var vpncLine = sync.OnceValue(func() *regexp.Regexp {
	var names []string
	for _, name := range vpncKeys {
		names = append(names, regexp.QuoteMeta(name))
	}
	// The longest first: one may begin as another one does.
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	return regexp.MustCompile(`(?i)^(` + strings.Join(names, "|") + `)(?:[ \t]+(.*))?$`)
})

func readVpnc(text string) *keys {
	k := newKeys()
	number := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		number++
		if m := vpncLine().FindStringSubmatch(line); m != nil {
			k.add(m[1], m[2])
		} else if line != "" && !strings.HasPrefix(line, "#") {
			k.add(fmt.Sprintf("line %d", number), line) // which may be a mistyped secret
		}
	}
	return k
}

// isVpnc tells a configuration file of vpnc.
func isVpnc(text string) bool {
	_, ok := readVpnc(text).values["ipsec gateway"]
	return ok
}

// importVpnc reads a configuration file of vpnc(8).
func importVpnc(text string) (*Imported, error) {
	k, c := readVpnc(text), &Candidate{}
	if err := fromVpnc(c, k); err != nil {
		return nil, err
	}
	k.leftover(c)
	return &Imported{Format: "vpnc (.conf)", Profiles: []*Candidate{c}}, nil
}

// fromVpnc reads the settings that vpnc and NetworkManager share.
func fromVpnc(c *Candidate, k *keys) error {
	p := &c.Profile
	p.Gateway, p.Login = field(k.get("IPSec gateway")), field(k.get("Xauth username"))
	if p.Gateway == "" {
		return errNoGateway
	}
	group := field(k.get("IPSec ID"))
	switch mode := strings.ToLower(k.get("IKE Authmode")); mode {
	case "hybrid":
		p.Auth, p.GroupID = "hybrid", group
	case "cert":
		p.Auth = "xauth-rsa"
		c.remark("Your certificate is not in the file: choose it in the profile.")
	default:
		p.Auth, p.GroupID = "xauth-psk", group
		c.aggressive()
	}
	if file := field(k.get("CA-File")); file != "" {
		p.CA = []string{file}
		c.remark("The gateway's CA certificate stays in %s.", shown(file))
	}
	vpncSecrets(c, k)
	vpncGroups(c, k)
	vpncTransport(c, k)
	c.domain(k.get("Domain"))
	for _, key := range []string{"Enable Single DES", "Enable no encryption"} {
		if _, ok := k.values[strings.ToLower(key)]; ok && k.get(key) != "no" {
			c.remark("%q is never done; the gateway must know better algorithms.", key)
		}
	}
	k.ignore("service-type", "Vendor", "Application Version", "DPD idle timeout (our side)", "Script", "Debug", "No Detach", "Pidfile",
		"Noninteractive", "Xauth interactive", "Interface name", "Interface mode", "Interface MTU")
	return nil
}

func vpncSecrets(c *Candidate, k *keys) {
	c.ciscoSecret(&c.GroupSecret, "group's password", k.get("IPSec secret"), k.get("IPSec obfuscated secret"))
	c.ciscoSecret(&c.Password, "password", k.get("Xauth password"), k.get("Xauth obfuscated password"))
	c.dropUnusedSecret()
}

// vpncGroups reads the groups: dh2 unless the file says otherwise.
func vpncGroups(c *Candidate, k *keys) {
	number := strings.TrimPrefix(strings.ToLower(k.get("IKE DH Group")), "dh")
	if number == "" {
		number = "2"
	}
	if group := c.group(number, "phase 1"); group != "" {
		c.needs(weakIn(group)...)
	}
	switch pfs := strings.ToLower(k.get("Perfect Forward Secrecy")); pfs {
	case "", "server":
	case "nopfs":
		c.Profile.PFS = "off"
	default:
		if group := c.group(strings.TrimPrefix(pfs, "dh"), "phase 2"); group != "" {
			c.pfs(group)
		}
	}
}

func vpncTransport(c *Candidate, k *keys) {
	switch k.get("NAT Traversal Mode") {
	case "none":
		c.noNAT()
	case "cisco-udp":
		c.remark("Cisco's own encapsulation in UDP is not supported: that of the standard is used, port 4500, which the gateway must allow.")
	}
	k.ignoreIf("Cisco UDP Encapsulation Port", "10000", "0")
	k.ignoreIf("Local Port", "500", "0") // any port does
	if port, err := strconv.ParseUint(k.values["local port"], 10, 16); err == nil && !k.read["local port"] {
		k.ignore("Local Port")
		c.Profile.LocalPort = int(port)
	}
	if target := k.get("IPSEC target network"); target != "" {
		for _, network := range c.networks(target) {
			if network != "0.0.0.0/0" {
				c.Profile.RemoteNetworks = append(c.Profile.RemoteNetworks, network)
			}
		}
	}
}

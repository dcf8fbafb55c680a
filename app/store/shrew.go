package store

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"regexp"
	"strings"
	"sync"

	"wayfarer/app"
)

// shrewLine is a line of a Shrew site: a type (number, string, binary), key, and value. It
// is compiled when it is needed, as vpncLine is.
var shrewLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([nsb]):([a-z0-9-]+):(.*)$`) })

// isShrew tells a site of Shrew's client.
func isShrew(text string) bool {
	k, _ := readShrew(text)
	_, version := k.values["version"]
	_, host := k.values["network-host"]
	return version || host
}

// maxShrewList bounds a list of networks, in bytes: a thousand and more of them.
const maxShrewList = 32 << 10

// readShrew reads the lines of a site. A key that comes again adds to its list; lines
// that would make one too long are skipped, and counted.
func readShrew(text string) (k *keys, skipped int) {
	k = newKeys()
	for line := range strings.Lines(text) {
		m := shrewLine().FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		key, value := m[2], m[3]
		if old := k.values[key]; old != "" && strings.HasPrefix(key, "policy-list-") {
			if len(old)+len(value) > maxShrewList {
				skipped++
				continue
			}
			value = old + "," + value
		}
		k.add(key, value)
	}
	return k, skipped
}

// shrewAuth are its methods of authentication.
var shrewAuth = map[string]string{
	"mutual-psk": "psk", "mutual-psk-xauth": "xauth-psk", "mutual-rsa": "rsa", "mutual-rsa-xauth": "xauth-rsa",
	"hybrid-rsa-xauth": "hybrid", "hybrid-grp-xauth": "hybrid",
}

// importShrew reads a site of Shrew's client, as its export writes it.
func importShrew(text string) (*Imported, error) {
	k, skipped := readShrew(text)
	c := &Candidate{}
	p := &c.Profile
	p.Gateway, p.Login = field(k.get("network-host")), field(k.get("client-saved-username"))
	if p.Gateway == "" {
		return nil, errNoGateway
	}
	if port := k.get("network-ike-port"); port != "" && port != "500" && port != "0" {
		p.Gateway += ":" + port
	}
	var ok bool
	if p.Auth, ok = shrewAuth[k.get("auth-method")]; !ok {
		p.Auth = ""
		c.remark("Authentication %s is not known.", shown(k.get("auth-method")))
	}
	shrewIdentities(c, k)
	shrewCredentials(c, k)
	shrewPhases(c, k)
	shrewNetwork(c, k)
	if skipped > 0 {
		c.remark("The lists of networks are too long: %d lines of them are left out.", skipped)
	}
	shrewClient(c, k)
	k.leftover(c)
	return &Imported{Format: "Shrew Soft VPN client (.vpn)", Profiles: []*Candidate{c}}, nil
}

// shrewIdentities reads who is who. An identity without data is what a certificate or
// an address says.
func shrewIdentities(c *Candidate, k *keys) {
	kinds := map[string]string{"fqdn": "fqdn:", "ufqdn": "email:", "keyid": "keyid:", "asn1dn": "dn:", "address": "ip:"}
	kind, name := k.get("ident-client-type"), field(k.get("ident-client-data"))
	switch {
	case name == "":
	case kind == "keyid":
		c.Profile.GroupID = name
	case kinds[kind] != "":
		c.Profile.LocalID = kinds[kind] + name
	}
	kind, name = k.get("ident-server-type"), field(k.get("ident-server-data"))
	if name != "" && kinds[kind] != "" {
		c.Profile.RemoteID = kinds[kind] + name
	}
}

// shrewCredentials reads the secret and the certificates.
func shrewCredentials(c *Candidate, k *keys) {
	binary := func(key, what string) []byte {
		data, err := base64.StdEncoding.DecodeString(k.get(key))
		if err != nil {
			c.remark("The %s cannot be read: it is not in base64.", what)
			return nil
		}
		return data
	}
	secret := binary("auth-mutual-psk", "group's secret")
	method, _ := c.Profile.AuthMethod()
	switch {
	case len(secret) == 0:
	case method.GroupSecret == app.NotUsed:
		clear(secret)
	default:
		c.GroupSecret = secret
		c.secret("group's secret", false)
	}
	if ca := binary("auth-server-cert-data", "gateway's CA certificate"); len(ca) > 0 {
		c.addCA(ca)
	} else if name := k.get("auth-server-cert"); name != "" {
		c.remark("The gateway's CA certificate %s is not in the file: choose it in the profile.", shown(name))
	}
	k.ignore("auth-server-cert", "auth-server-cert-name", "auth-client-cert-name", "auth-client-key-name")
	certificate, key := binary("auth-client-cert-data", "certificate"), binary("auth-client-key-data", "key")
	files := shown(k.get("auth-client-cert") + " " + k.get("auth-client-key"))
	switch {
	case !method.Certificate:
		clear(key)
	case len(certificate) > 0:
		c.Certificate, c.Key = certificate, key
		if string(certificate) == string(key) || !app.IsPEM(key) {
			c.Key = nil // PKCS #12 has both
		}
		if app.IsPEM(key) && !strings.Contains(string(key), "ENCRYPTED") {
			c.secret("private key", false)
		}
	default:
		c.remark("Your certificate and key (%s) are not in the file: choose them in the profile.", files)
	}
}

// addCA takes over a CA certificate, in PEM or DER.
func (c *Candidate) addCA(data []byte) {
	certs, err := app.ParseCertificates(data)
	if err != nil {
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(data); err != nil {
			c.remark("The gateway's CA certificate cannot be read: choose it in the profile.")
			return
		}
		certs = []*x509.Certificate{cert}
	}
	var text strings.Builder
	for _, cert := range certs {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}) // a Builder never fails
	}
	c.Profile.CA = append(c.Profile.CA, text.String())
}

// shrewAlgorithms are the algorithms that a suite's name has other words for.
var shrewAlgorithms = map[string]string{
	"3des": "3des", "md5": "md5", "sha1": "sha1", "sha2-256": "sha256", "sha2-384": "sha384", "sha2-512": "sha512",
}

// shrewPart is one part of a suite; empty if the file leaves it open.
func shrewPart(c *Candidate, name, keyLength, what string) string {
	name = strings.TrimPrefix(name, "esp-")
	switch {
	case name == "" || name == "auto" || name == "aes" && (keyLength == "" || keyLength == "0"):
		return ""
	case name == "aes":
		return name + keyLength
	case shrewAlgorithms[name] == "":
		c.remark("%s for %s is never used; the gateway must know another algorithm.", shown(name), what)
	}
	return shrewAlgorithms[name]
}

// shrewPhases reads what is offered. A suite is taken over where the file leaves no
// part of it open.
func shrewPhases(c *Candidate, k *keys) {
	switch k.get("phase1-exchange") {
	case "aggressive":
		c.aggressive()
	case "main":
		c.Profile.Exchange = "main"
	}
	group := k.get("phase1-dhgroup")
	if group != "" && group != "0" {
		group = c.group(group, "phase 1")
	} else {
		group = ""
	}
	parts := []string{
		shrewPart(c, k.get("phase1-cipher"), k.get("phase1-keylen"), "phase 1"), shrewPart(c, k.get("phase1-hash"), "", "phase 1"), group,
	}
	c.suiteIfWhole(parts, ofIKE)
	parts = []string{
		shrewPart(c, k.get("phase2-transform"), k.get("phase2-keylen"), "phase 2"), shrewPart(c, k.get("phase2-hmac"), "", "phase 2"),
	}
	c.suiteIfWhole(parts, ofESP)
	switch group := k.get("phase2-pfsgroup"); group {
	case "", "0":
	case "-1":
		c.Profile.PFS = "off"
	default:
		if name := c.group(group, "phase 2"); name != "" {
			c.pfs(name)
		}
	}
	switch k.get("ipcomp-transform") {
	case "deflate":
		c.Profile.IPComp = true
	case "lzs":
		c.remark("Compression with LZS is not supported and is left out.")
	}
	k.ignore("phase1-life-secs", "phase1-life-kbytes", "phase2-life-secs", "phase2-life-kbytes")
}

// suiteIfWhole notes a suite, or what is weak in one that is open in parts.
func (c *Candidate) suiteIfWhole(parts []string, to func(*app.Profile) *[]string) {
	for _, part := range parts {
		if part == "" {
			c.needs(weakIn(strings.Join(parts, "-"))...)
			return
		}
	}
	c.suite(parts, to)
}

// shrewNetwork reads how packets travel, and which.
func shrewNetwork(c *Candidate, k *keys) {
	if k.get("network-natt-mode") == "disable" {
		c.noNAT()
	}
	if mtu := k.get("network-mtu-size"); mtu != "" && mtu != "1380" && mtu != "0" {
		c.remark("The MTU %s is not taken over: the right one is found out.", shown(mtu))
	}
	include, exclude := k.get("policy-list-include"), k.get("policy-list-exclude")
	if k.get("policy-list-auto") == "0" {
		c.Profile.RemoteNetworks = c.networks(include)
		c.Profile.RoutesSkip = c.networks(exclude)
	}
	k.ignore("version", "network-natt-rate", "network-frag-mode", "network-frag-size", "network-dpd-enable",
		"network-notify-enable", "policy-level", "policy-nailed")
	k.ignoreIf("network-natt-port", "4500")
	k.ignoreIf("vendor-chkpt-enable", "0", "1") // such gateways are recognised
}

// networks reads a list of "address / mask".
func (c *Candidate) networks(list string) []string {
	var networks []string
	for item := range strings.SplitSeq(list, ",") {
		address, mask, ok := strings.Cut(item, "/")
		if !ok {
			continue
		}
		if network, ok := c.network(address, mask); ok {
			networks = append(networks, network)
		}
	}
	return networks
}

// shrewClient reads where the settings of the client come from. What is set by hand
// there, beside the address, comes from the gateway here.
func shrewClient(c *Candidate, k *keys) {
	if address := field(k.get("client-ip-addr")); address != "" && k.get("client-addr-auto") == "0" {
		if network, ok := c.network(address, "255.255.255.255"); ok {
			c.Profile.LocalNetworks = []string{network}
		}
	}
	switch mode := k.get("client-auto-mode"); {
	case mode == "push":
		c.Profile.ModeConfig = "push"
	case mode == "disabled" && len(c.Profile.LocalNetworks) > 0:
		c.Profile.ModeConfig = "off"
	case mode == "disabled":
		c.remark("The gateway gives no address: set local_networks to this computer's own, and mode_config to off.")
	case mode == "dhcp":
		c.remark("Settings by DHCP over IPsec are not supported; the gateway is asked for them by Mode-Config.")
	}
	k.ignore("client-iface", "client-addr-auto", "client-ip-mask", "client-banner-enable", "client-dns-used", "client-dns-auto",
		"client-dns-suffix-auto", "client-splitdns-used", "client-splitdns-auto", "client-wins-used", "client-wins-auto")
}

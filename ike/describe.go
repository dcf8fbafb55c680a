package ike

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"wayfarer/ike/isakmp"
)

// Bounds of descriptions, in bytes.
const (
	maxDescribed = 2 << 10 // of a payload
	maxShown     = 32      // of a value in hexadecimal
)

// describe says for an administrator what is in a payload, on one line: "KE 256 bytes".
// The message may be a stranger's and need not be authentic. No text of it is a secret:
// what is not known to be harmless is told by its length.
func describe(p isakmp.Payload) string {
	text := describeBody(p)
	if text == "" {
		text = size(p.Body)
	}
	text = p.Type.String() + " " + text
	if len(text) > maxDescribed {
		text = strings.ToValidUTF8(text[:maxDescribed], "") + "…"
	}
	return text
}

func size(b []byte) string { return fmt.Sprintf("%d bytes", len(b)) }

// describeBody is empty for what is told by its length alone, and for what does not
// parse.
func describeBody(p isakmp.Payload) string {
	switch p.Type {
	case isakmp.PayloadSA:
		return describeSA(p.Body)
	case isakmp.PayloadID:
		if id, err := isakmp.ParseID(p.Body); err == nil {
			return describeIDPayload(id)
		}
	case isakmp.PayloadCert, isakmp.PayloadCertReq:
		return describeCert(p)
	case isakmp.PayloadNotify:
		if n, err := isakmp.ParseNotify(p.Body); err == nil {
			return describeNotify(n)
		}
	case isakmp.PayloadDelete:
		if d, err := isakmp.ParseDelete(p.Body); err == nil {
			spis := make([]string, len(d.SPIs))
			for i, spi := range d.SPIs {
				spis[i] = shownHex(spi)
			}
			return strings.Join(append([]string{d.Protocol.String()}, spis...), " ")
		}
	case isakmp.PayloadVendorID:
		if v, ok := identifyVendor(p.Body); ok {
			return v.name
		}
		return shownHex(p.Body)
	case isakmp.PayloadAttribute:
		if c, err := isakmp.ParseConfig(p.Body); err == nil {
			return describeConfig(c)
		}
	}
	return ""
}

// shownHex is the begin of a value that is no secret.
func shownHex(b []byte) string {
	if len(b) > maxShown {
		return hex.EncodeToString(b[:maxShown]) + "…"
	}
	return hex.EncodeToString(b)
}

// describeSA lists proposals, and their transforms by the names of suites.
func describeSA(body []byte) string {
	sa, err := isakmp.ParseSA(body)
	if err != nil {
		return ""
	}
	var all []string
	for _, p := range sa.Proposals {
		text := fmt.Sprintf("proposal %d %v", p.Number, p.Protocol)
		if len(p.SPI) > 0 {
			text += " SPI " + shownHex(p.SPI)
		}
		for i, t := range p.Transforms {
			if i == 0 {
				text += ": "
			} else {
				text += ", "
			}
			text += describeTransform(p.Protocol, t)
		}
		if all = append(all, text); len(strings.Join(all, "; ")) > maxDescribed {
			break
		}
	}
	return strings.Join(all, "; ")
}

// describeTransform is the suite, what else is asked for, and the lifetimes.
func describeTransform(protocol isakmp.ProtocolID, t isakmp.Transform) string {
	values := map[uint16]uint64{}
	for _, a := range t.Attributes {
		values[a.Type], _ = a.Uint()
	}
	words := []string{fmt.Sprintf("transform %d", t.ID)}
	switch protocol {
	case isakmp.ProtoISAKMP:
		words = phase1Words(values)
	case isakmp.ProtoESP:
		words = espWords(t.ID, values)
	}
	return strings.Join(append(words, lifetimeWords(protocol, t.Attributes)...), " ")
}

// lifetimeWords read pairs of type and duration; there may be several.
func lifetimeWords(protocol isakmp.ProtocolID, attributes []isakmp.Attribute) (lives []string) {
	lifeType, lifeDuration := isakmp.AttrESPLifeType, isakmp.AttrESPLifeDuration
	if protocol == isakmp.ProtoISAKMP {
		lifeType, lifeDuration = isakmp.AttrLifeType, isakmp.AttrLifeDuration
	}
	unit := "s"
	for _, a := range attributes {
		switch v, _ := a.Uint(); {
		case a.Type == lifeType && v == uint64(isakmp.LifeKilobytes):
			unit = "kB"
		case a.Type == lifeType:
			unit = "s"
		case a.Type == lifeDuration:
			lives = append(lives, fmt.Sprintf("%d %s", v, unit))
		}
	}
	return lives
}

// phase1Words name the attributes of RFC 2409 Appendix A.
func phase1Words(values map[uint16]uint64) []string {
	number := func(attr uint16) uint64 { return values[attr] }
	suite := cipherName(number(isakmp.AttrKeyLength), func(c *cipherAlg) bool {
		return c.ikeID != 0 && uint64(c.ikeID) == number(isakmp.AttrEncryption)
	}, number(isakmp.AttrEncryption))
	suite += "-" + hashName(func(h *hashAlg) bool {
		return h.ikeID != 0 && uint64(h.ikeID) == number(isakmp.AttrHash)
	}, number(isakmp.AttrHash))
	suite += "-" + groupName(number(isakmp.AttrGroup))
	method := fmt.Sprintf("method %d", number(isakmp.AttrAuthMethod))
	for _, m := range authMethods {
		if uint64(m.id) == number(isakmp.AttrAuthMethod) {
			method = m.name
		}
	}
	return []string{suite, method}
}

// encapsulations are the modes of RFC 2407 §4.5, RFC 3947 §5.1 and its drafts.
var encapsulations = map[uint64]string{
	uint64(isakmp.EncapTunnel): "tunnel", uint64(isakmp.EncapTransport): "transport",
	uint64(isakmp.EncapUDPTunnel): "udp-tunnel", uint64(isakmp.EncapUDPTransport): "udp-transport",
	uint64(isakmp.EncapUDPTunnelDraft): "udp-tunnel (draft)",
}

// espWords name a transform and the attributes of RFC 2407 §4.5.
func espWords(id uint8, values map[uint16]uint64) []string {
	suite := cipherName(values[isakmp.AttrESPKeyLength], func(c *cipherAlg) bool { return c.espID == id }, uint64(id))
	if auth, ok := values[isakmp.AttrESPAuth]; ok {
		suite += "-" + hashName(func(h *hashAlg) bool { return uint64(h.espID) == auth }, auth)
	}
	if group, ok := values[isakmp.AttrESPGroup]; ok {
		suite += "-" + groupName(group)
	}
	words := []string{suite}
	if mode, ok := values[isakmp.AttrESPEncapsulation]; ok {
		name, known := encapsulations[mode]
		if !known {
			name = fmt.Sprintf("mode %d", mode)
		}
		words = append(words, name)
	}
	return words
}

// cipherName is the name of the cipher that is meant by is, with keys of so many bits.
func cipherName(bits uint64, is func(*cipherAlg) bool, number uint64) string {
	i := slices.IndexFunc(ciphers, func(c *cipherAlg) bool { return is(c) && uint64(c.keyBits) == bits })
	switch {
	case i >= 0:
		return ciphers[i].name
	case bits != 0:
		return fmt.Sprintf("cipher(%d)/%d", number, bits)
	}
	return fmt.Sprintf("cipher(%d)", number)
}

func hashName(is func(*hashAlg) bool, number uint64) string {
	if i := slices.IndexFunc(hashes, is); i >= 0 {
		return hashes[i].name
	}
	return fmt.Sprintf("hash(%d)", number)
}

func groupName(number uint64) string {
	if g := groupByID(number); g != nil {
		return g.name
	}
	return fmt.Sprintf("group(%d)", number)
}

// idTypes are the names of RFC 2407 §4.6.2.1, without their prefix.
var idTypes = map[isakmp.IDType]string{
	isakmp.IDIPv4Addr: "IPV4_ADDR", isakmp.IDFQDN: "FQDN", isakmp.IDUserFQDN: "USER_FQDN", isakmp.IDIPv4Subnet: "IPV4_ADDR_SUBNET",
	isakmp.IDIPv6Addr: "IPV6_ADDR", isakmp.IDIPv6Subnet: "IPV6_ADDR_SUBNET", isakmp.IDIPv4Range: "IPV4_ADDR_RANGE",
	isakmp.IDIPv6Range: "IPV6_ADDR_RANGE", isakmp.IDDERDN: "DER_ASN1_DN", isakmp.IDDERGN: "DER_ASN1_GN", isakmp.IDKeyID: "KEY_ID",
}

func describeIDPayload(id isakmp.ID) string {
	name, ok := idTypes[id.Type]
	if !ok {
		name = fmt.Sprintf("type(%d)", id.Type)
	}
	text := name + " " + describeID(id)
	if id.Protocol != 0 || id.Port != 0 {
		text += fmt.Sprintf(" protocol %d port %d", id.Protocol, id.Port)
	}
	return text
}

// certEncodings are those of RFC 2408 §3.9 that are seen.
var certEncodings = map[uint8]string{isakmp.CertPKCS7: "PKCS #7", isakmp.CertX509Sig: "X.509", isakmp.CertCRL: "CRL"}

// describeCert names a certificate by its subject, and an authority that is asked for.
func describeCert(p isakmp.Payload) string {
	c, err := isakmp.ParseCert(p.Body)
	if err != nil {
		return ""
	}
	text, ok := certEncodings[c.Encoding]
	if !ok {
		text = fmt.Sprintf("encoding(%d)", c.Encoding)
	}
	text += " " + size(c.Data)
	name := c.Data
	if p.Type == isakmp.PayloadCert {
		cert, err := x509.ParseCertificate(c.Data)
		if err != nil {
			return text
		}
		name = cert.RawSubject
	}
	if subject, err := parseDN(name); err == nil {
		text += " " + subject.String()
	}
	return text
}

func describeNotify(n isakmp.Notify) string {
	text := fmt.Sprintf("%v %v", n.Protocol, n.Type)
	if n.Type == isakmp.NotifyResponderLifetime {
		if as, err := isakmp.ParseAttributes(n.Data); err == nil {
			return strings.Join(append([]string{text}, lifetimeWords(n.Protocol, as)...), " ")
		}
	}
	if len(n.Data) > 0 {
		text += " " + shownHex(n.Data)
	}
	return text
}

// configNames are the attributes of Mode-Config, Unity and XAUTH by the names of their
// drafts.
var configNames = map[uint16]string{
	isakmp.CfgIP4Address: "INTERNAL_IP4_ADDRESS", isakmp.CfgIP4Netmask: "INTERNAL_IP4_NETMASK", isakmp.CfgIP4DNS: "INTERNAL_IP4_DNS",
	isakmp.CfgIP4NBNS: "INTERNAL_IP4_NBNS", isakmp.CfgAddressExpiry: "INTERNAL_ADDRESS_EXPIRY", isakmp.CfgIP4DHCP: "INTERNAL_IP4_DHCP",
	isakmp.CfgApplicationVersion: "APPLICATION_VERSION", isakmp.CfgIP6Address: "INTERNAL_IP6_ADDRESS", isakmp.CfgIP6DNS: "INTERNAL_IP6_DNS",
	isakmp.CfgIP6NBNS: "INTERNAL_IP6_NBNS", isakmp.CfgIP6DHCP: "INTERNAL_IP6_DHCP", isakmp.CfgIP4Subnet: "INTERNAL_IP4_SUBNET",
	isakmp.CfgSupported: "SUPPORTED_ATTRIBUTES", isakmp.CfgIP6Subnet: "INTERNAL_IP6_SUBNET",
	isakmp.UnityBanner: "UNITY_BANNER", isakmp.UnitySavePassword: "UNITY_SAVE_PASSWD", isakmp.UnityDefDomain: "UNITY_DEF_DOMAIN",
	isakmp.UnitySplitDNS: "UNITY_SPLITDNS_NAME", isakmp.UnitySplitInclude: "UNITY_SPLIT_INCLUDE", isakmp.UnityNATTPort: "UNITY_NATT_PORT",
	isakmp.UnityLocalLAN: "UNITY_LOCAL_LAN", isakmp.UnityPFS: "UNITY_PFS", isakmp.UnityFWType: "UNITY_FW_TYPE",
	isakmp.UnityBackupServers: "UNITY_BACKUP_SERVERS", isakmp.UnityDDNSHostname: "UNITY_DDNS_HOSTNAME",
	isakmp.XAuthType: "XAUTH_TYPE", isakmp.XAuthUserName: "XAUTH_USER_NAME", isakmp.XAuthPassword: "XAUTH_USER_PASSWORD",
	isakmp.XAuthPasscode: "XAUTH_PASSCODE", isakmp.XAuthMessage: "XAUTH_MESSAGE", isakmp.XAuthChallenge: "XAUTH_CHALLENGE",
	isakmp.XAuthDomain: "XAUTH_DOMAIN", isakmp.XAuthStatus: "XAUTH_STATUS", isakmp.XAuthNextPIN: "XAUTH_NEXT_PIN",
	isakmp.XAuthAnswer: "XAUTH_ANSWER",
}

func describeConfig(c isakmp.Config) string {
	text := fmt.Sprintf("%v %d", c.Type, c.Identifier)
	for i, a := range c.Attributes {
		if i == 0 {
			text += ": "
		} else {
			text += ", "
		}
		name, ok := configNames[a.Type]
		if !ok {
			name = fmt.Sprintf("attribute(%d)", a.Type)
		}
		if text += name; len(a.Value) > 0 {
			text += " " + configValue(a)
		}
		if len(text) > maxDescribed {
			break
		}
	}
	return text
}

// configValue shows addresses, numbers and the gateway's texts. Logins, passwords, codes
// and answers are blanked; whatever else there is has a length.
func configValue(a isakmp.Attribute) string {
	switch a.Type {
	case isakmp.XAuthUserName, isakmp.XAuthPassword, isakmp.XAuthPasscode, isakmp.XAuthNextPIN, isakmp.XAuthAnswer:
		return redacted
	case isakmp.CfgIP4Address, isakmp.CfgIP4Netmask, isakmp.CfgIP4DNS, isakmp.CfgIP4NBNS, isakmp.CfgIP4DHCP,
		isakmp.CfgIP6Address, isakmp.CfgIP6DNS, isakmp.CfgIP6NBNS, isakmp.CfgIP6DHCP:
		switch len(a.Value) {
		case 4, 16:
			return addrOf(a.Value).String()
		case 17: // with the length of the prefix
			return fmt.Sprintf("%v/%d", addrOf(a.Value[:16]), a.Value[16])
		}
	case isakmp.CfgIP4Subnet:
		if len(a.Value) == 8 {
			return subnetText(a.Value[:4], a.Value[4:])
		}
	case isakmp.UnitySplitInclude, isakmp.UnityLocalLAN:
		return splitText(a.Value)
	case isakmp.CfgApplicationVersion, isakmp.UnityBanner, isakmp.UnityDefDomain, isakmp.UnitySplitDNS, isakmp.UnityBackupServers,
		isakmp.UnityDDNSHostname, isakmp.XAuthMessage, isakmp.XAuthDomain:
		return fmt.Sprintf("%q", printable(a.Value))
	case isakmp.CfgAddressExpiry, isakmp.UnitySavePassword, isakmp.UnityNATTPort, isakmp.UnityPFS, isakmp.XAuthType, isakmp.XAuthStatus:
		if v, ok := a.Uint(); ok {
			return fmt.Sprint(v)
		}
	}
	return size(a.Value)
}

// splitText lists the networks of a Unity attribute: address and mask are in the first
// eight bytes of each entry.
func splitText(value []byte) string {
	if len(value)%splitEntryLen != 0 {
		return size(value)
	}
	var networks []string
	for entry := range slices.Chunk(value, splitEntryLen) {
		networks = append(networks, subnetText(entry[:4], entry[4:8]))
	}
	return strings.Join(networks, " ")
}

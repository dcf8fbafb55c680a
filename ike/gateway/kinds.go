package gateway

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"wayfarer/ike/isakmp"
)

// The functions below make the gateway of a Config behave as one kind of gateway in
// the field does, as far as a client can tell. They want Chain, Key, Users, Pool and
// Settings to be set before, and leave authentication (Secrets, ClientCAs) to the
// caller. Lifetimes of a kind are its usual defaults.

// racoonIKE and racoonESP are what racoon 0.8.2 can do of what we can: neither
// elliptic curves nor AES-GCM, and SHA2-256 as PF_KEY cuts it on Linux.
var (
	racoonIKE = []string{"aes256-sha256-modp2048", "aes128-sha1-modp2048", "3des-sha1-modp1024"}
	racoonESP = []string{"aes256-sha256_96", "aes128-sha256_96", "aes256-sha1", "aes128-sha1", "3des-sha1"}
)

// Racoon is ipsec-tools 0.8.2 on Linux with proposal_check claim and generate_policy
// on.
func Racoon(c *Config) {
	c.Identity = isakmp.ID{Type: isakmp.IDDERDN, Data: c.Chain[0].RawSubject}
	c.IKE, c.ESP = racoonIKE, racoonESP
	c.ResponderLifetime = true
	c.IKELifetime, c.ESPLifetime = 8*time.Hour, 30*time.Minute
	c.FragmentSize = 552
	c.DPD = 20 * time.Second
	c.Quirks = Quirks{
		VendorIDs:        [][]byte{[]byte("\x70\x03\xcb\xc1\x09\x7d\xbe\x9c\x26\x00\xba\x69\x83\xbc\x8b\x35")},
		NoRetransmission: true, RandomPadding: true, ReversedCookies: true,
		StrictLifetime: true, NeedXAuthVendor: true, StrictNATD: true,
		XAuthType: true, DeleteOnFail: true, OnlyAsked: true, ZeroSplitDNS: true, SpoiltPorts: true,
		OtherAddress: true, ReturnOnNewest: true,
	}
}

// StrongSwan is charon 5.9 with libipsec and without its Unity plugin as it comes,
// which is also what pfSense and OPNsense have.
func StrongSwan(c *Config) {
	c.CertOnRequest, c.ForceEncapsulation = true, true
	c.Networks, c.Narrow = slices.Clone(c.Settings.SplitInclude), true
	c.Quirks = Quirks{VendorIDs: [][]byte{[]byte("\x88\x2f\xe5\x6d\x6f\xd2\x0d\xbc\x22\x51\x61\x3b\x2e\xbe\x5b\xeb")}}
}

// Libreswan is pluto 4.10 with modecfgpull=no: it pushes the settings on STATUS's
// message ID.
func Libreswan(c *Config) {
	c.Networks, c.Push = slices.Clone(c.Settings.SplitInclude), true
	c.Quirks = Quirks{
		VendorIDs: [][]byte{[]byte("OE-Libreswan-4.10")},
		NoHybrid:  true, ZeroIdentifier: true, PadAttributes: true, PadMessages: true, Push: PushChained, AddressByUser: true, NetworksOnly: true,
	}
}

// Cisco is an ASA or VPN 3000 concentrator, with IOS's late vendor ID.
func Cisco(c *Config) {
	c.Networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	c.ESPLifetime = 20 * time.Minute
	c.Quirks = Quirks{
		VendorIDs: [][]byte{
			[]byte("\x1f\x07\xf7\x0e\xaa\x65\x14\xd3\xb0\xfa\x96\x54\x2a\x50\x05\x00"),
			[]byte("\xf6\xf7\xef\xc7\xf5\xae\xb8\xcb\x15\x8c\xb9\xd0\x94\xba\x69\xe7"),
		},
		LateDPD: true, SkipSignIn: true, NetworksOnly: true, QuietLifetime: true, DeleteTheirs: true,
	}
}

// FortiGate is a FortiGate with a dial-up policy.
func FortiGate(c *Config) {
	c.ResponderLifetime = true
	c.IKELifetime, c.ESPLifetime = 8*time.Hour, 30*time.Minute
	c.Quirks = Quirks{
		VendorIDs:    [][]byte{[]byte("\x1d\x6e\x17\x8f\x6c\x2c\x0b\xe2\x84\x98\x54\x65\x45\x0f\xe9\xd4")},
		OddLifetimes: true,
	}
}

// FritzBox is a FRITZ!Box, which has no vendor ID of its own. It knows each user by a
// group of the same name.
func FritzBox(c *Config) {
	c.IKELifetime, c.ESPLifetime = time.Hour, time.Hour
	c.Quirks = Quirks{NoHybrid: true, ProbeMID: true}
}

// SonicWALL is a SonicWALL.
func SonicWALL(c *Config) {
	c.Quirks = Quirks{VendorIDs: [][]byte{[]byte("\x5b\x36\x2b\xc8\x20\xf6\x00\x08")}, ClearMM6: true}
}

// Juniper is a NetScreen that asks for a PASSCODE, which is the user's password here.
func Juniper(c *Config) {
	users := c.Users
	c.XAuth = func(round int, reply []isakmp.Attribute) XAuthTurn {
		if round == 0 {
			return XAuthTurn{Ask: []isakmp.Attribute{{Type: isakmp.XAuthUserName}, {Type: isakmp.XAuthPasscode}}}
		}
		user, _ := isakmp.Find(reply, isakmp.XAuthUserName)
		code, _ := isakmp.Find(reply, isakmp.XAuthPasscode)
		right, known := users[string(user.Value)]
		return XAuthTurn{Passed: known && right == string(code.Value), User: string(user.Value)}
	}
	c.Quirks = Quirks{SettingsBeforeStatus: true, AddressByUser: true}
}

// Numbers of the attributes of Check Point's office mode.
const (
	checkPointDomain = 16387
	checkPointMAC    = 16388
)

// CheckPoint is a Check Point with office mode, whose default domain has an attribute
// of its own.
func CheckPoint(c *Config) {
	users, user := c.Users, ""
	c.XAuth = func(round int, reply []isakmp.Attribute) XAuthTurn {
		generic := isakmp.BasicAttribute(isakmp.XAuthType, 0)
		switch round {
		case 0:
			return XAuthTurn{Ask: []isakmp.Attribute{generic, {Type: isakmp.XAuthUserName}}}
		case 1:
			name, _ := isakmp.Find(reply, isakmp.XAuthUserName)
			user = string(name.Value)
			return XAuthTurn{Ask: []isakmp.Attribute{
				generic, {Type: isakmp.XAuthPassword}, {Type: isakmp.XAuthMessage, Value: []byte("Password:")},
			}}
		}
		password, _ := isakmp.Find(reply, isakmp.XAuthPassword)
		right, known := users[user]
		return XAuthTurn{
			Passed: known && right == string(password.Value), User: user,
			With: []isakmp.Attribute{{Type: isakmp.XAuthMessage, Value: []byte("User authenticated")}},
		}
	}
	c.Settings.Extra = append(c.Settings.Extra,
		isakmp.Attribute{Type: checkPointDomain, Value: []byte(c.Settings.DefaultDomain)},
		isakmp.Attribute{Type: checkPointMAC, Value: []byte{2, 0, 0, 0, 0, 1}})
	c.Settings.DefaultDomain = ""
	c.Quirks = Quirks{
		VendorIDs: [][]byte{[]byte("\xf4\xed\x19\xe0\xc1\x14\xeb\x51\x6f\xaa\xac\x0e\xe3\x7d\xaf\x28\x07\xb4\x38\x1f\x00\x00\x00\x01")},
		ClientID:  isakmp.ID{Type: isakmp.IDUserFQDN}, CheckPointXAuth: true,
	}
}

// Shrew is Shrew's iked, whose clients have all one address as their identity: it
// pushes everything with STATUS, or else takes its time to hear what it is asked.
func Shrew(c *Config, identity string) {
	for _, p := range c.Settings.SplitInclude {
		entry := slices.Concat(p.Addr().AsSlice(), net.CIDRMask(p.Bits(), 32), make([]byte, 6))
		c.Settings.Extra = append(c.Settings.Extra, isakmp.Attribute{Type: isakmp.UnitySplitInclude, Value: entry})
	}
	c.Settings.SplitInclude, c.Settings.AddressExpiry = nil, 24*time.Hour
	c.Quirks = Quirks{
		ClientID:         isakmp.ID{Type: isakmp.IDUserFQDN, Data: []byte(identity)},
		EmptyCertRequest: true, SettingsInStatus: c.Push, AddressByUser: c.Push, DeafToRequests: 2,
	}
	c.Push = false
}

package gateway

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"wayfarer/ike/isakmp"
)

// Protocol times and bounds of the gateway.
const (
	// retransmitFirst, retransmitGrowth and retransmitTries are strongSwan's
	// manner with requests of its own: 2 s, 3.6 s, 6.5 s, 11.7 s, 21 s.
	retransmitFirst  = 2 * time.Second
	retransmitGrowth = 1.8
	retransmitTries  = 5

	halfOpenLife = 30 * time.Second // from the first message to the end of XAUTH, as strongSwan
	dpdTries     = 3                // unanswered probes after which a client is given up

	maxSAs       = 4096 // ISAKMP SAs, half-open ones included
	maxExchanges = 64   // exchanges that an SA remembers
	maxReplies   = 64   // received datagrams that an SA remembers, to answer duplicates
	maxChildren  = 64   // of one SA; more is a client gone mad

	defaultIKELifetime = 8 * time.Hour // RFC 2409 leaves it to policy; racoon's and Cisco's customs
	defaultESPLifetime = time.Hour
	defaultFragment    = 1248 // bytes of a UDP payload: an IPv4 packet of 1280 with marker, as strongSwan
	minFragment        = 256  // so that 255 of them carry any message
)

// Socket is a UDP socket that the gateway serves.
type Socket struct {
	Conn net.PacketConn // its local address is a *net.UDPAddr, unless it is Raw
	// NonESP says that the socket speaks as port 4500 does: messages have the
	// non-ESP marker, everything else is ESP (RFC 3948 §2). Without it, only the
	// drafts 00 and 01 of NAT traversal have tunnels through the socket.
	NonESP bool
	// Raw says that the socket carries ESP as IP protocol 50, and nothing else; its
	// local address is a *net.IPAddr. Clients without NAT traversal need it.
	Raw bool
}

// Config says what a gateway offers. Chain, Key, Users and Pool are needed; the
// zero value of everything else is a sensible default.
type Config struct {
	// Chain is the gateway's certificate and after it the intermediate ones.
	Chain []*x509.Certificate
	// Key signs: RSA, or ECDSA on P-256, P-384 or P-521. That it belongs to Chain[0]
	// is not checked: tests want a gateway whose signature is wrong.
	Key crypto.Signer
	// Identity is IDir; its zero value is the first DNS name of Chain[0], else its
	// first IPv4 address, else its subject.
	Identity isakmp.ID
	// CertOnRequest sends certificates only to clients that ask by CERTREQ, as
	// strongSwan does by default.
	CertOnRequest bool

	// Secrets are the pre-shared keys by group: the data of the client's ID, which
	// only Aggressive Mode shows in time. The one of the group "" is for all others.
	// Without any, clients cannot authenticate by a secret.
	Secrets map[string]string
	// MutualGroup demands of clients with hybrid authentication that they prove to
	// know the secret of their group as well, in Cisco's way.
	MutualGroup bool
	// ClientCAs issue the clients' certificates. Without any, clients cannot
	// authenticate by a certificate.
	ClientCAs []*x509.Certificate

	Users map[string]string // passwords by login
	// XAuth, if set, takes the place of Users: it says what is asked after phase 1
	// (round 0, no reply) and after each REPLY. It is called from the loop and must
	// not call the gateway.
	XAuth func(round int, reply []isakmp.Attribute) XAuthTurn

	// IKE and ESP are the suites that are accepted, by strongSwan's names:
	// "aes256-sha256-modp2048"; "aes128gcm16", "aes256-sha1-modp1024" (with PFS
	// in exactly that group). Empty: all that this package knows, PFS as the
	// client likes.
	IKE, ESP []string
	// IPComp agrees to compress inner packets when the client offers that.
	IPComp bool
	// Lifetimes of ISAKMP SAs and ESP SAs, in whole seconds; zero is 8 h and 1 h.
	// What the client offers is shortened to them, and at their end the gateway
	// sends a Delete.
	IKELifetime, ESPLifetime time.Duration
	// ResponderLifetime leaves the client's offer as it is and tells a shorter
	// lifetime by a RESPONDER-LIFETIME Notify instead, as racoon does
	// (RFC 2407 §4.6.3.1).
	ResponderLifetime bool

	// Pool gives the clients their addresses (IPv4).
	Pool netip.Prefix
	// Pool6, if set, gives each of them an IPv6 address too, numbered as its IPv4
	// address is in Pool.
	Pool6 netip.Prefix
	// Offices are networks that clients may have behind them instead of an address
	// from Pool: satellite offices.
	Offices []netip.Prefix
	// Settings is what Mode-Config tells the client beside its address.
	Settings Settings
	// Push sends the settings after XAUTH without being asked.
	Push bool
	// Networks is what clients may reach; empty is everything. A Quick Mode for
	// something that overlaps none of them is refused.
	Networks []netip.Prefix
	// Narrow answers Quick Mode with the first of Networks inside the client's
	// proposal, as strongSwan does without its Unity plugin. Otherwise the
	// proposal is repeated and Networks is enforced on the packets.
	Narrow bool

	// NATT are the ways of NAT traversal that the gateway knows: "rfc3947",
	// "draft-03" to "draft-00". Nil is the first alone, empty none.
	NATT []string
	// ForceEncapsulation hides that there is no NAT, so that clients that would
	// send ESP as an IP protocol put it into UDP, as strongSwan's libipsec does.
	ForceEncapsulation bool
	// FragmentSize is the largest UDP payload of a message to clients that know
	// Cisco's fragmentation; zero is 1248, negative is to neither announce nor
	// send nor accept fragments.
	FragmentSize int
	// DPD is the silence after which the gateway probes a client, and the
	// interval of further probes (RFC 3706); zero never probes.
	DPD time.Duration

	// Inside is the network behind the gateway; nil: see Packets.
	Inside *Inside
	// Packets gets the inner packets of the clients when there is no Inside. It
	// is called from the loop, must not call the gateway, and may keep packet.
	Packets func(client netip.Addr, packet []byte)

	// Handover, if set, takes the place of both: another data path carries the packets of
	// the tunnels. It gets each pair of ESP SAs when it is made, from the loop, and must not
	// call the gateway.
	Handover func(*SAs)

	// Quirks makes the gateway behave as some in the field.
	Quirks Quirks
	// Hook sees every message before it is hashed and encrypted, and returns
	// what is sent in its place: nothing, itself, another or several. It is
	// called from the loop and must not call the gateway.
	Hook func(*Message) []*Message
	// Received sees every message that was accepted, decrypted and without its
	// HASH. The same rules hold.
	Received func(*Message)

	Rand io.Reader    // cookies, nonces, keys, IVs; nil is crypto/rand
	Log  *slog.Logger // one line per message at level debug; nil discards
}

// Settings is what Mode-Config can tell a client (draft-dukes-ike-mode-cfg-02 §3.4
// and Cisco's Unity attributes, which only clients with the Unity vendor ID get).
type Settings struct {
	NetmaskBits        int // IP4_NETMASK; 0: none
	DNS, WINS          []netip.Addr
	AddressExpiry      time.Duration // in whole seconds; 0: none
	ApplicationVersion string

	Banner        string
	SavePassword  *bool // nil: not said
	DefaultDomain string
	SplitDNS      []string
	SplitInclude  []netip.Prefix
	LocalLAN      []netip.Prefix
	// ShortSplit writes each network of SplitInclude and LocalLAN as an attribute
	// of its own with 8 bytes instead of entries of 14 bytes in one attribute, as
	// strongSwan does with networks from a pool.
	ShortSplit    bool
	PFSGroup      uint16 // 0: not said
	BackupServers []string

	Extra []isakmp.Attribute // sent last, as they are
}

// check fills in the defaults.
func (c *Config) check() error {
	if len(c.Chain) == 0 || c.Key == nil {
		return errors.New("no certificate or key")
	}
	if c.Identity.Type == 0 {
		c.Identity = identityOf(c.Chain[0])
	}
	if !c.Pool.IsValid() || !c.Pool.Addr().Is4() {
		return fmt.Errorf("address pool %v: want an IPv4 network", c.Pool)
	}
	if c.Pool6.IsValid() && (!c.Pool6.Addr().Is6() || c.Pool6.Bits() > 128-32+c.Pool.Bits()) {
		return fmt.Errorf("address pool %v: want an IPv6 network not smaller than %v", c.Pool6, c.Pool)
	}
	for _, n := range c.Networks {
		if !n.IsValid() {
			return errors.New("a network that is none")
		}
	}
	for _, p := range [][]netip.Prefix{c.Settings.SplitInclude, c.Settings.LocalLAN} {
		for _, n := range p {
			if !n.IsValid() || !n.Addr().Is4() {
				return fmt.Errorf("network %v: want IPv4", n)
			}
		}
	}
	if len(c.Networks) == 0 {
		c.Networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&c.IKELifetime, defaultIKELifetime}, {&c.ESPLifetime, defaultESPLifetime}} {
		if *d.value == 0 {
			*d.value = d.def
		}
		if *d.value < time.Second {
			return fmt.Errorf("lifetime of %v: want a second at least", *d.value)
		}
	}
	if c.FragmentSize == 0 {
		c.FragmentSize = defaultFragment
	}
	if c.FragmentSize > 0 && c.FragmentSize < minFragment {
		return fmt.Errorf("fragments of %d bytes: want %d at least", c.FragmentSize, minFragment)
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// identityOf is what a gateway with this certificate calls itself.
func identityOf(cert *x509.Certificate) isakmp.ID {
	if len(cert.DNSNames) > 0 {
		return isakmp.ID{Type: isakmp.IDFQDN, Data: []byte(cert.DNSNames[0])}
	}
	if len(cert.IPAddresses) > 0 && cert.IPAddresses[0].To4() != nil {
		return isakmp.ID{Type: isakmp.IDIPv4Addr, Data: cert.IPAddresses[0].To4()}
	}
	return isakmp.ID{Type: isakmp.IDDERDN, Data: cert.RawSubject}
}

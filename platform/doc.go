// Package platform is everything about the host that differs per operating system,
// the virtual interface itself aside: addresses, routes and DNS of tunnels, and
// sockets that stay outside of them.
//
// # Wish, not command
//
// [Network.Set] takes a whole [Config], the wish, and makes the host so. It can be
// called again at any time: what is as wished is not touched, what somebody took
// away meanwhile comes back, what is no longer wished is undone. The zero Config
// restores the host.
//
// A wish is turned into a list of changes (change.go), each with what it needs to
// be undone. They are applied in order, and undone in the reverse order. What a
// wish no longer contains is undone only after everything new stands, so a failure
// half way rolls back to exactly the wish before. A change is plain data, so that a
// journal can hold it.
//
// # Linux: routes
//
// Netlink goes through github.com/vishvananda/netlink: Apache-2.0, with releases, and
// it covers links, addresses, routes and rules with suppress_prefixlength, protocol
// and mark, where jsimonetti/rtnetlink is closer to the messages on the wire.
//
// All routes stand in a table of their own, 119, and never in main, so that no DHCP
// client, and no more specific route of the local network, competes with them. Three
// rules lead there, of which a split tunnel needs the first only:
//
//	30560: not fwmark 0x3766 lookup 119 suppress_prefixlength 0   the tunnels' networks
//	30561: lookup main suppress_prefixlength 0                   the local networks
//	30562: not fwmark 0x3766 lookup 119                           a full tunnel's default route
//
// A network that stays outside is a throw route in that table: the search goes on
// in main. Sockets of [Network.ListenPacket] carry the mark, so packets to a gateway
// need no host route and follow the host when it moves to another network. Routes
// and rules carry the protocol number 119, by which they can be told from others'.
// The mark avoids the bits that Kubernetes (0x4000, 0x8000) and Tailscale
// (0xff0000) give a meaning.
//
// With rp_filter=1 the kernel drops packets from a gateway whose address is routed
// into the tunnel: its check looks the source up without the mark. The sysctl
// src_valid_mark alone does not help, because packets that come in carry no mark;
// wg-quick adds firewall rules that give them one. Here
// net.ipv4.conf.all.rp_filter becomes 2 (loose) meanwhile, only if it is needed.
//
// WINS servers are ignored: Linux has no place for them.
//
// # Linux: DNS
//
// Where /etc/resolv.conf names systemd-resolved's stub and resolved answers on the
// system bus, each tunnel's servers and domains belong to its link. Otherwise
// /etc/resolv.conf itself is replaced, never written through a symlink, and put back
// as it was, unless somebody else has written it meanwhile. A file cannot send some
// names here and others there: tunnels that are to resolve all names come first; the
// servers from before stay only if no tunnel wants all names, behind the tunnels'
// own, where the resolver asks them when the others do not answer.
//
// # Windows and macOS
//
// Not there yet: Set and ListenPacket answer [ErrUnsupported].
package platform

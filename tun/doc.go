// Package tun is the inside end of a tunnel: where the host's packets come from
// and where decrypted packets go.
//
// A [Device] gives inner IP packets one by one where they are, and takes them in batches,
// so that a pump between it and the protocol engine copies nothing. Who reads can answer
// the host beside who writes: each direction has one owner. There are two:
//
//   - [Open] makes a network interface of the operating system. It is built on
//     golang.zx2c4.com/wireguard/tun, and wintun on Windows: wintun.dll has to stand
//     beside the program, and an interface has a GUID that follows from its name. On
//     macOS it is called utun and a number. It has no addresses and, on Linux, is down;
//     package platform does the rest. On Linux it moves packets itself, with the
//     segmentation offloads of the system: what the host hands over whole is cut where it
//     is, a segment's headers written over the end of the one before, which was taken by
//     then; and segments of TCP that follow each other, and datagrams of UDP where the
//     kernel has that (6.2), go back as one packet, if their checksums are right. The
//     host's packets wait in a few queues, which are read in turn.
//     On macOS and Windows the library gives one packet with each call, and takes one
//     ([FromLibrary]): a goroutine reads up to 64 ahead, so that what the host sends while
//     others are encrypted is there at once, and can leave as one run.
//   - [NewStack] makes a TCP/IP stack inside the process, for a connection without
//     any rights: programs reach the tunnel through [Stack.DialContext],
//     [Stack.ListenPacket] and [Stack.LookupHost] only. It is built on gVisor's
//     stack directly rather than on wireguard-go's netstack, whose Close races
//     with packets that are being sent (a send on a closed channel), whose Read
//     gives one packet at a time, and whose resolver knows no search domains.
//
// The rest belongs to the pump, and keeps what does not fit the path to the gateway
// from being fragmented there, where many NATs and firewalls drop fragments:
//
//   - [ClampMSS] keeps TCP connections through the tunnel from sending segments that
//     do not fit.
//   - A [Fragmenter] cuts IPv4 packets that may be cut before they are encapsulated
//     (RFC 4301 §7), so that nothing between the two ends sees a fragment.
//   - [TooBig] answers the others as a router does.
package tun

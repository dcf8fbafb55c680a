// Package ike is an IKEv1 initiator for road warriors: everything of the protocol
// that has state. [Dial] makes a [Session], which carries IP packets.
//
//	Dial
//	  transport   one UDP socket for both gateway ports (two for the fixed pair of
//	              RFC 3947, a raw one for plain ESP); receive loops
//	  mainmode    or aggressive: an ISAKMP SA (sa), its keys (keymat, dh, suite), how
//	              ESP will travel (natt)
//	  auth        HASH or SIG of both sides; certificate, chain, trust, identity
//	  xauth       the gateway asks for the user, who may be asked in turn (ask)
//	  modecfg     the gateway gives address, DNS, networks: Assignment
//	  quickmode   a pair of ESP SAs (childsa), whose packets package esp makes,
//	              compressed before (ipcomp) if the profile and the gateway agree
//	Session
//	  control     the loop that owns all of it afterwards: rekeying,
//	              reauthentication, dead peer detection (dpd), Deletes
//	              (informational) and what replaces the deleted, the path's MTU (pmtu)
//
// # Exchanges
//
// An exchange is a straight-line function, a line per round trip, under the ladder
// of the standard. They stand on one primitive in exchange.go, which sends,
// retransmits, and ends on the first message that its accept function approves.
// Whoever waits resends by timer; whoever does not wait resends on a byte-identical
// duplicate. A message is decrypted with a copy of the IV; IV and state change only
// once its HASH has been verified. What comes while something else is awaited goes
// to a default handler (DPD, Delete, the gateway's own Quick Mode).
//
// # Trust
//
// Nothing unauthenticated is obeyed: cleartext Notify and Delete are hints that the
// final error shows. Each state of an ISAKMP SA lists the exchanges that are looked
// at; no login leaves before the gateway has proved who it is, no Quick Mode happens
// before the settings are there. Text and names from the gateway are made harmless
// where they are parsed.
//
// A login leaves once in a call of Dial: after it nothing is tried again by itself,
// neither another address nor another exchange. An answer of the user's that comes when
// the gateway has probably dropped the half-open SA is kept unsent, for a fresh one.
// A gateway can ask for a one-time password in the field of the password: one that is
// known is not sent under other words than it was given under, on a reauthentication or,
// with Config.Words, in a later Dial; and what is typed when the gateway asks twice in a
// sign-in is not kept.
//
// # Gateways and algorithms
//
// What gateways need that others do not is a table in quirk.go, with a row for each
// kind; a profile forces or forbids each quirk. Package gateway imitates all of them.
// Suites are tables in suite.go. Camellia is not there: neither the standard library
// nor golang.org/x/crypto has it, and the libraries that do are abandoned or have no
// users yet.
//
// # Log
//
// Debug has a line for each message; trace has, beside it, what is in each payload, with
// logins, passwords, codes and answers blanked (describe.go). Probes are not traced: they
// come for hours, and what an attempt said is to be found after them.
//
// # Goroutines
//
// The receive loops of the transport, one for each socket, sort datagrams. Dial's
// goroutine, later the control loop, owns the ISAKMP SA; a reauthentication builds its
// successor in a goroutine of its own and hands it over. So does a question to the user
// while the session is up with the answer. The receive loop of the socket that ESP comes by
// opens its packets where they have arrived and delivers what was in them before it reads
// on; the caller of WritePacket and Flush seals and sends. ChildSAs are published to both
// as a whole.
//
// So each direction of packets has one owner, who shares nothing that changes with others
// but atomic values. It takes a lock for what is not the rule: messages of IKE, packets of
// an SPI that has no SA (yet), the first packet of an SA, and those that are larger than the
// path carries. What others want of the way in they post to its owner, who is woken for it
// (receiver.go). The keys of an SA that is removed are wiped at once, though its owner may
// sleep for hours; on the way out an owner that is amid a batch does that itself, when the
// batch is finished (claim.go).
//
// A socket that can moves datagrams in runs (BatchConn), so that one call carries some
// 64 KiB either way, a raw one of plain ESP, too. Nothing is allocated for a packet, and the
// payload is not copied, unless it is encrypted in CBC mode, or goes either way in AES-GCM
// with an ICV of 8 bytes.
//
// Time is read through package time alone, so that tests run in virtual time.
package ike

// Package daemon owns tunnels: it is the only package that knows the protocol
// engine, the virtual interface and the host's network at once. It implements
// control.Backend; the service serves it, `wayfarer proxy` and `wayfarer demo` run
// one inside their own process, without rights.
//
// # Structure
//
// A [Daemon] lists connections and guards the host's network, which they share: the
// wish for it is the sum of what each has, under one lock, so that two connections
// cannot take the same network. A tunnel is one connection: its method run is its
// life as a straight line, and the only code that changes what the tunnel has.
//
//	profile.go      app.Profile -> ike.Config; what cannot be used is refused here
//	credentials.go  secrets, certificate and key of a request
//	tunnel.go       one connection: what it has, its beginning and its end
//	life.go         connect, carry, connect again; pauses and their reasons
//	dial.go         one attempt: trust, the engine's call, names of gateways
//	link.go         interface, host's network and block of one connection
//	wishes.go       what all connections want of the host; what it warns of
//	surroundings.go the host's network changes, the computer wakes up
//	portal.go       a network that wants its users to sign in first
//	managed.go      profiles that an administrator has placed, from their files
//	policy.go       what the administrator forbids; his profiles, as users connect them
//	always.go       managed profiles connect by themselves
//	prompt.go       questions to the user, and their answers
//	clock.go        the bound of an attempt, without the user's thinking
//	networks.go     Assignment and selectors -> routes, domains; clashes
//	pump.go         packets between interface and session, none larger than the path
//	status.go       what is told of a connection
//	failure.go      errors -> app.Failure: the only texts that users read
//	logs.go         what the service has logged, for its users
//	watchers.go     who waits for changes of the status
//	restore.go      the host's network as it was, when nobody is connected
//	host.go         what the service's program needs of package platform
//
// The interface is made while the gateway tells the settings (openAhead), without an
// address, and down but on Windows, where nobody heeds it yet. Nothing else of the host is
// changed before a session stands, but for the block.
//
// Locks are taken in the order host, Daemon.mu, tunnel.mu. No lock is held while the
// engine, the interface or the host is called, but for the host lock around Set.
//
// # The leak block
//
// With block_outside the block goes up before the first packet of an attempt leaves,
// once the user has given the password; that of an always-on profile at once. It stands until the user disconnects: while the
// connection is lost (state blocked) and, if it has ever been connected, also when it
// cannot come back, for instance because the password was changed (state blocked, with the
// failure). A new connection of the same profile takes the block over without a gap. A
// first attempt that fails lifts it: whoever was never connected is not left offline. An
// orderly end of the service lifts all blocks; a killed service leaves its own, which the
// next start lifts, unless an always-on profile wants it.
//
// # Staying connected
//
// When the host's network changes, or the computer wakes up, the session asks the
// gateway at once, the host's network is set anew (routes and DNS may have been
// overwritten, the local networks be others), pauses between attempts end, and an
// attempt that has not come to the sign-in begins anew. Without any network nothing is
// tried, for at most five minutes; a first attempt says so after three seconds. If another
// program takes the name servers, or removes routes, rules or the block, the host's network is
// set anew as well.
//
// A pause between attempts is a random part of a delay that grows from half a second to
// a minute, and begins anew after a connection that lasted a minute. While packets want to
// go out it is no longer than four seconds.
//
// Gateways' names are looked up past the tunnels at each attempt; where that fails, the
// addresses that were found last serve, of the names that are still tried. A session whose
// gateway was silent for a minute is asked in other ways than by the engine's probes; it
// is not called connected after a minute and a half. Nor is one that has no ESP SA when the
// host's network is set: some gateways agree on a tunnel and delete it at once.
//
// An interface that another program removes ends the session: the connection comes back
// with a new one as after any loss, its block standing meanwhile. What of the host's network
// cannot be set anew, and names that go elsewhere than into the tunnel, are warnings in
// Status for as long as it is so.
//
// An always-on profile never gives up. After a refused sign-in, or what else will not
// become better by itself, it rests, from a quarter of an hour to four hours; changes of
// the network do not shorten that, since gateways lock accounts.
//
// # Portals
//
// After an attempt that nobody answered, at most once in each network, two public pages
// are asked whose answers are known (lookForPortal). If somebody else answers, users are
// told to sign in there. While a connection is lost, its dead tunnel and its block then
// stand aside for five minutes, once in each network: but for nothing else than the
// addresses of these two pages and the host's own DNS servers, for a hostile network may
// pretend to have a portal. All names are asked of those servers then, the company's too,
// which programs may want all the time: users are told that. The opening ends by a timer,
// whatever the attempts do, and sooner if one of them connects. A connection without
// block_outside has a block meanwhile, so that nothing else that the tunnel would have held
// leaves in the clear.
//
// # Attack surface
//
// The service has the right to change the network, so this is what reaches it:
//
//   - The local API. Who may call is settled in app/control from the identity that
//     the operating system vouches for; this package sees only permitted calls. A
//     profile is still untrusted: it cannot name a file, a command or an interface
//     (certificates and keys come as PEM text), every text is bounded and free of control
//     characters, every network is parsed, and connections, failures and questions
//     are bounded in number.
//   - The network. The engine parses what comes from there. What it hands over are
//     typed values; texts among them (banner, prompts, certificate names, domains)
//     are made harmless again where they enter status, and domains that are no host
//     names never reach the host's configuration.
//   - A hostile gateway. It gets no password before it is trusted (the engine's
//     doing); it can route only what the security associations cover, cannot pull
//     traffic out of the tunnel (split-exclude lists are shown and not obeyed, no
//     route around the tunnel is made for its address), and cannot make this side
//     hammer it with a password it refused.
//   - The local network. It is asked for a portal, by HTTP: of the answer a status and
//     the name of a host are believed, nothing is followed, all is bounded. What it
//     answers to name lookups leads at most to a gateway that is not trusted.
//   - Managed profiles. They are read only if nobody but the administrator can change
//     them, and their secrets only if nobody else can read them. Every user sees and
//     connects them, without the secrets: those of groups and keys are used for all, the
//     password only for the administrator. A user can ask for the leak block beside what
//     a profile says, and change nothing else of it.
//   - The policy. It holds for every connection that the service makes, the
//     administrator's too; if it cannot be read, all is forbidden that one can forbid. It
//     is no wall around a user: wayfarer proxy, which has no rights, is as free as any
//     other program of his.
//   - The host. Packets from its programs are checked against the selectors by the
//     engine. They enter no parser here but the MSS clamp, the cutting of what is too
//     large and its answer, which are total.
//
// Passwords and groups' secrets are held in memory for as long as the connection may
// need them to come back, and zeroised at its end; private keys are dropped then, in
// parsed form they cannot be overwritten. None of them is logged or in a status.
package daemon

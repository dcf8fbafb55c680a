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
//	tunnel.go       dial, open, set, carry, dial again, restore
//	prompt.go       questions to the user, and their answers
//	clock.go        the bound of an attempt, without the user's thinking
//	networks.go     Assignment and selectors -> routes, domains; clashes
//	pump.go         packets between interface and session, none larger than the path
//	status.go       what is told of a connection
//	failure.go      errors -> app.Failure: the only texts that users read
//
// Locks are taken in the order host, Daemon.mu, tunnel.mu. No lock is held while the
// engine, the interface or the host is called, but for the host lock around Set.
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
//   - The host. Packets from its programs are checked against the selectors by the
//     engine. They enter no parser here but the MSS clamp, the cutting of what is too
//     large and its answer, which are total.
//
// Passwords and groups' secrets are held in memory for as long as the connection may
// need them to come back, and zeroised at its end; private keys are dropped then, in
// parsed form they cannot be overwritten. None of them is logged or in a status.
package daemon

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime"
	"strings"
	"syscall"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/ike/isakmp"
	"wayfarer/platform"
	"wayfarer/tun"
)

// hostError: this machine, not the gateway, is in the way.
type hostError struct {
	err     error
	passing bool // it may be over at the next attempt
}

func (e *hostError) Error() string { return e.err.Error() }

func (e *hostError) Unwrap() error { return e.err }

// timeoutError: the attempt took too long, and stood at step then.
type timeoutError struct {
	step    app.Step
	gateway string // of the profile, one or several
}

func (e *timeoutError) Error() string { return fmt.Sprintf("%s: %v", e.step, errTimeout) }

func (e *timeoutError) Unwrap() error { return errTimeout }

// said is what a user is told of an error, and whether a lost connection is worth
// another attempt after it.
type said struct {
	code    app.Code
	step    app.Step // empty: where the connection stood
	message string
	hint    string
	again   bool
}

// explanations is the one place where errors become texts: the first row that knows
// the error counts. What may be retried never includes a refused password: a
// gateway locks accounts.
var explanations = []func(error) (said, bool){
	when(explainFailure),
	whenIs(errStopped, said{code: app.CodeCancelled, message: "disconnected", hint: "connect again when you like"}),
	whenIs(errCancelled, said{code: app.CodeCancelled, message: "cancelled", hint: "connect again when you like"}),
	when(explainUnanswered),
	when(explainTimeout),
	whenIs(errSettingsChanged, said{
		code: app.CodeSettingsRefused, again: true,
		message: "the gateway changed the settings of the connection", hint: "connect again",
	}),
	explainSocket,
	whenIs(errNetworkChanged, said{
		code: app.CodeNoAnswer, again: true,
		message: "this computer's network has changed meanwhile", hint: "connect again",
	}),
	whenIs(errOffline, said{
		code: app.CodeNoAnswer, step: app.StepFindGateway, again: true,
		message: "this computer has no network", hint: "connect it to a network and try again",
	}),
	when(explainHost),
	when(explainTrust),
	when(explainCredentials),
	when(explainWeak),
	when(explainRefused),
	when(explainConfig),
	when(explainProtocol),
	when(explainNoAnswer),
	when(explainAddressChanged),
	when(explainClosed),
	whenIs(net.ErrClosed, said{code: app.CodeNoAnswer, again: true, message: "the connection was closed", hint: "connect again"}),
	whenIs(context.Canceled, said{code: app.CodeCancelled, message: "cancelled", hint: "connect again when you like"}),
	whenIs(context.DeadlineExceeded, said{
		code: app.CodeNoAnswer, again: true,
		message: "there was no answer in time", hint: "allow more time, or check the gateway's address",
	}),
}

func when[E error](explain func(E) said) func(error) (said, bool) {
	return func(err error) (said, bool) {
		e, ok := errors.AsType[E](err)
		if !ok {
			return said{}, false
		}
		return explain(e), true
	}
}

func whenIs(target error, s said) func(error) (said, bool) {
	return func(err error) (said, bool) { return s, errors.Is(err, target) }
}

// explain makes a failure of err, which happened at step: one line, whatever the
// gateway wrote.
func explain(err error, step app.Step) *app.Failure {
	s := lookUp(err)
	if s.step != "" {
		step = s.step
	}
	return app.NewFailure(s.code, step, strings.ReplaceAll(s.message, "\n", " "), s.hint)
}

// explainFor improves a failure by what the profile tells: how this side had proved
// itself when the gateway fell silent or refused.
func explainFor(f *app.Failure, err error, p *app.Profile) {
	m, _ := p.AuthMethod()
	if f.Code == app.CodeNoAnswer {
		_, closed := errors.AsType[*ike.ClosedByGatewayError](err)
		explainSilence(f, m, closed)
		return
	}
	refused, ok := errors.AsType[*ike.RefusedError](err)
	if ok && refused.What == ike.RefusedConnection && beforeSignIn(f.Step) && !m.Certificate && m.GroupSecret != app.Required {
		// Neither login nor password has left: it is not they that were refused.
		*f = *app.NewFailure(app.CodeNoProposal, f.Step, f.Message,
			"ask the administrator how the gateway wants its users to sign in (--auth, --group-id) and in which exchange (--exchange)")
	}
}

func beforeSignIn(step app.Step) bool {
	return step == app.StepFindGateway || step == app.StepAgreeSecurity || step == app.StepCheckCertificate
}

// explainSilence words what a gateway does that does not believe our proof: most fall
// silent, some delete the SA before they ask for anything.
func explainSilence(f *app.Failure, m app.AuthMethod, closed bool) {
	switch {
	case closed && m.Certificate && (f.Step == app.StepSignIn || f.Step == app.StepGetSettings):
		*f = *app.NewFailure(app.CodeSignInRefused, f.Step, "the gateway ended the connection once it had seen the certificate",
			"ask the administrator whether the gateway accepts it: its CA, its names, its validity")
	case m.GroupSecret == app.Required && f.Step == app.StepCheckCertificate:
		f.Hint = "the group's secret may be wrong, or the gateway may not know this side (--local-id, --group-id)"
	case m.Certificate && (f.Step == app.StepCheckCertificate || f.Step == app.StepSignIn || f.Step == app.StepGetSettings):
		f.Hint = "the gateway may not accept the certificate, or a firewall on the way may drop large packets"
	}
}

// worthRetrying says whether a connection that err ended may come back.
func worthRetrying(err error) bool {
	s := lookUp(err)
	return s.again && s.code != app.CodeSignInRefused
}

// failedAt is the step at which err happened; step is where the connection stood.
func failedAt(err error, step app.Step) app.Step {
	if s := lookUp(err); s.step != "" {
		return s.step
	}
	return step
}

func lookUp(err error) said {
	for _, row := range explanations {
		if found, ok := row(err); ok {
			return found
		}
	}
	return said{
		code:    app.CodeInternal,
		message: fmt.Sprintf("internal error: %v", err),
		hint:    "look at the log, and report it",
	}
}

func explainFailure(f *app.Failure) said {
	return said{code: f.Code, step: f.Step, message: f.Message, hint: f.Hint}
}

func explainUnanswered(e *unansweredError) said {
	what := map[app.PromptKind]string{
		app.PromptPassword:  "a password",
		app.PromptOTP:       "a one-time password",
		app.PromptChallenge: "an answer to its question",
		app.PromptNextPIN:   "a new PIN",
	}[e.kind]
	if what == "" {
		what = "an answer"
	}
	return said{
		code: app.CodeCancelled, step: app.StepSignIn,
		message: fmt.Sprintf("the gateway wants %s and nobody is there to give it", what),
		hint:    "give the password beforehand, or connect from a terminal",
	}
}

// systemHints are what to do where it differs between systems.
type systemHints struct {
	rights       string // that the service lacks
	device       string // for tunnels, which there is not
	namesTaken   string // by a program, %s
	otherServers string // %[1]s, which %[2]s, who looks names up, has beside the tunnel's
}

// hintsFor is those of a system, by its GOOS.
func hintsFor(goos string) systemHints {
	const others = "name servers that are not the tunnel's, %[1]s: programs ask them for the names behind the gateway too, perhaps past the tunnel; "
	switch goos {
	case "windows":
		return systemHints{
			rights:       "start the service wayfarerd, or run it as administrator; or use wayfarer proxy, which needs no rights",
			device:       "install Wayfarer again (wintun.dll belongs beside wayfarerd.exe), or use wayfarer proxy, which needs none",
			namesTaken:   "%s has replaced the name servers again and again: names are looked up past the tunnel; end it, then connect again",
			otherServers: "%[2]s has " + others + "end the program that has set them",
		}
	case "darwin":
		return systemHints{
			rights:       "run the service as root, or use wayfarer proxy, which needs no rights",
			device:       "restart this computer, or use wayfarer proxy, which needs none",
			namesTaken:   "%s has name servers that come before the tunnel's: names are looked up past it; end it, then connect again",
			otherServers: "%[2]s has " + others + "take them out of the network's settings",
		}
	}
	return systemHints{
		rights: "run the service as root or with CAP_NET_ADMIN, or use wayfarer proxy, which needs neither",
		device: "load the TUN driver (modprobe tun), or use wayfarer proxy, which needs none",
		namesTaken: "%s has replaced /etc/resolv.conf again and again: names are looked up past the tunnel; " +
			"have it leave that file alone (NetworkManager: dns=none in its configuration), then connect again",
		otherServers: "/etc/resolv.conf has " + others + "take them out of the configuration of %[2]s",
	}
}

// hints are this system's.
var hints = hintsFor(runtime.GOOS)

func explainHost(e *hostError) said {
	const failed = "this computer's network could not be set up: "
	s := said{
		code: app.CodeNetworkConfig, step: app.StepBuildTunnel, again: e.passing,
		message: fmt.Sprintf("%s%v", failed, e.err),
		hint:    "look at the log of the service",
	}
	// The errors themselves name a remedy; it belongs into the hint.
	switch part, _ := errors.AsType[*platform.Error](e.err); {
	case errors.Is(e.err, tun.ErrRemoved), errors.Is(e.err, platform.ErrNoInterface):
		s.message = "another program has removed the tunnel's interface"
		s.hint = "connect again; if it happens again, find out which program removes interfaces that are not its own"
		s.again = true
	case errors.Is(e.err, tun.ErrNoDevice):
		s.message = failed + tun.ErrNoDevice.Error()
		s.hint = hints.device
	case errors.Is(e.err, tun.ErrNoRights):
		s.message, s.hint = failed+tun.ErrNoRights.Error(), hints.rights
	case errors.Is(e.err, platform.ErrNoRights):
		s.message, s.hint = failed+platform.ErrNoRights.Error(), hints.rights
		if part != nil {
			s.message = fmt.Sprintf("%s%s: %v", failed, part.Part, platform.ErrNoRights)
		}
	case errors.As(e.err, new(*conflictError)):
		s.hint = "end the other VPN first"
	case errors.As(e.err, new(*platform.FileError)):
		s.hint = "let the service replace that file: it must not be read-only, and the service needs the right to write it"
	}
	return s
}

// explainSocket is about a socket that has to be a certain one. The rights that every
// socket needs are explainHost's.
func explainSocket(err error) (said, bool) {
	e, ok := errors.AsType[*ike.SocketError](err)
	if !ok || errors.Is(err, platform.ErrNoRights) {
		return said{}, false
	}
	why := e.Err.Error()
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		why = no.Error()
	}
	denied := errors.Is(err, fs.ErrPermission)
	s := said{code: app.CodeNetworkConfig, step: app.StepBuildTunnel, again: !denied}
	switch {
	case e.Port == 0:
		s.again = false
		s.message = "plain ESP needs a raw socket, which this computer refuses: " + why
		s.hint = "have NAT traversal switched on at the gateway and leave nat_t out"
		if denied {
			s.message = "plain ESP needs a raw socket, and this program has no right to open one"
			s.hint = "an administrator gives the service that right (CAP_NET_RAW) by a managed profile with nat_t = \"off\", or by AmbientCapabilities=CAP_NET_RAW in its unit; or " + s.hint
		}
	case denied:
		s.message = fmt.Sprintf("this program has no right to UDP port %d of this computer", e.Port)
		s.hint = "an administrator gives the service that right (CAP_NET_BIND_SERVICE) by a managed profile with such a local_port, or by AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit; or set local_port = 0, which takes any port"
	default:
		s.message = fmt.Sprintf("UDP port %d of this computer cannot be had: %s", e.Port, why)
		s.hint = "stop the other IPsec program that has it (strongSwan on Linux, IKEEXT on Windows), or set local_port = 0, which takes any port"
	}
	return s, true
}

func explainTrust(e *ike.TrustError) said {
	gateway := "the gateway"
	if e.Host != "" {
		gateway += " " + printable(e.Host, 253)
	}
	s := said{code: app.CodeUntrusted, step: app.Step(e.Step), message: gateway + " is not trusted: " + printable(e.Detail, maxText)}
	switch e.Reason {
	case ike.TrustUnknown:
		s.hint = "compare the fingerprint with the administrator's and accept it (--trust-new), or give the CA certificate (--ca)"
	case ike.TrustIssuer:
		s.hint = "give the CA certificate that signed it (--ca), or the fingerprint (--pin)"
	case ike.TrustName:
		s.hint = "check the gateway's name, or say how the gateway calls itself (--remote-id)"
	case ike.TrustPin:
		s.hint = "if the administrator confirms the new certificate, replace the pin in the profile; otherwise somebody may be listening"
	case ike.TrustExpired:
		s.hint = "check this computer's clock, and have the gateway's certificate renewed"
	case ike.TrustSecret:
		s.hint = "check the group's secret; otherwise somebody may be listening"
	case ike.TrustWeak:
		s.hint = "have the gateway's certificate replaced by a stronger one"
	default:
		s.hint = "have the gateway's certificate corrected; otherwise somebody may be listening"
	}
	if e.Certificate != nil && (e.Reason == ike.TrustUnknown || e.Reason == ike.TrustPin || e.Reason == ike.TrustIssuer) {
		if sum := fmt.Sprintf("%x", e.SHA256()); !strings.Contains(e.Detail, sum) {
			s.message += fmt.Sprintf(" (SHA-256 %s)", sum)
		}
	}
	if e.Needs != 0 {
		s.hint += "; " + allowWeak(e.Needs)
	}
	return s
}

func explainCredentials(e *ike.CredentialsError) said {
	s := said{
		code: app.CodeSignInRefused, step: app.Step(e.Step), message: "the gateway refused login or password",
		hint: "check both; after several wrong tries a gateway may lock the account",
	}
	if e.Message != "" {
		s.message += ": " + printable(e.Message, maxText)
	}
	return s
}

func explainWeak(e *ike.WeakError) said {
	s := said{
		code: app.CodeNoProposal, step: app.Step(e.Step),
		message: fmt.Sprintf("%s is too weak and the profile does not allow it", e.What), hint: allowWeak(e.Needs),
	}
	if s.step == app.StepCheckCertificate {
		s.code = app.CodeUntrusted
	}
	return s
}

// explainRefused words a refusal that anybody on the way could have sent as what it
// is: a guess.
func explainRefused(e *ike.RefusedError) said {
	s := said{step: app.Step(e.Step), again: true}
	subject := "the gateway refused "
	if !e.Authenticated {
		subject = "the gateway stayed silent after an unconfirmed message: probably it refused "
	}
	switch e.What {
	case ike.RefusedProposal:
		s.code, s.again = app.CodeNoProposal, false
		s.message = subject + "all algorithms that were offered"
		if len(e.Offered) > 0 {
			s.message += " (" + strings.Join(e.Offered, ", ") + ")"
		}
		s.hint = proposalHint(s.step)
	case ike.RefusedSettings:
		s.code = app.CodeSettingsRefused
		s.message = subject + "the settings: no address is free, or the networks do not suit it"
		s.hint = "ask the administrator whether addresses are left and which networks are allowed"
	case ike.RefusedTunnel:
		s.code, s.again = app.CodeSettingsRefused, false
		s.message = "the gateway agreed on a tunnel and did not keep it"
		s.hint = "leave nat_t out, so that the tunnel goes in UDP; or ask the administrator what the gateway's log says"
	default:
		s.code, s.hint = refusedCode(e.Notify, s.step)
		s.message = subject + "the connection"
	}
	if e.Notify != 0 {
		s.message += fmt.Sprintf(" [%v]", e.Notify)
	}
	if e.Detail != "" {
		s.message += ": " + printable(e.Detail, maxText)
	}
	return s
}

func proposalHint(step app.Step) string {
	if step == app.StepBuildTunnel {
		return "ask the administrator for the ESP algorithms and PFS group (--esp, --set pfs=…); an old gateway may need --allow-weak 3des,md5,modp1024"
	}
	return "ask the administrator for the IKE algorithms (--ike); an old gateway may need --allow-weak 3des,md5,modp1024"
}

// refusedCode sorts the refusals that are neither of algorithms nor of settings.
func refusedCode(notify isakmp.NotifyType, step app.Step) (app.Code, string) {
	switch notify {
	case isakmp.NotifyAuthenticationFailed, isakmp.NotifyInvalidIDInfo, isakmp.NotifyInvalidHash:
		return app.CodeSignInRefused, "check login, password or secret, certificate and --local-id"
	case isakmp.NotifyInvalidExchangeType, isakmp.NotifyUnsupportedExchange:
		return app.CodeNoProposal, "try the other exchange (--exchange main or aggressive)"
	}
	switch step {
	case app.StepSignIn:
		return app.CodeSignInRefused, "check login and password"
	case app.StepGetSettings, app.StepBuildTunnel:
		return app.CodeSettingsRefused, "ask the administrator what the gateway's log says"
	}
	return app.CodeProtocol, "ask the administrator what the gateway's log says"
}

func explainConfig(e *ike.ConfigError) said {
	s := said{code: app.CodeUsage, message: e.Error(), hint: "correct the profile"}
	if e.Needs != 0 {
		s.hint = allowWeak(e.Needs)
	}
	return s
}

func explainProtocol(e *ike.ProtocolError) said {
	return said{
		code: app.CodeProtocol, step: app.Step(e.Step), again: true,
		message: "the gateway broke the protocol: " + printable(e.Detail, maxText),
		hint:    "try again; if it stays, report it with the log",
	}
}

// Hints for a gateway that is silent from the start, and for one that falls silent.
const (
	hintUnreachable = "check the name and whether UDP ports 500 and 4500 get through"
	hintPathDrops   = "a firewall or hotspot on the way may drop large or fragmented packets; try another network"
)

// timeouts say what a gateway had not done when the time was over.
var timeouts = map[app.Step]string{
	app.StepAgreeSecurity:    "did not agree on security in time",
	app.StepCheckCertificate: "did not prove who it is in time",
	app.StepSignIn:           "did not answer the sign-in in time",
	app.StepGetSettings:      "did not give its settings in time",
	app.StepBuildTunnel:      "had no tunnel ready in time",
	app.StepTest:             "did not answer through the tunnel in time",
}

func explainTimeout(e *timeoutError) said {
	s := said{code: app.CodeNoAnswer, step: e.step, again: true, hint: "allow more time (--timeout); " + hintPathDrops}
	what, answered := timeouts[e.step]
	switch {
	case answered:
		s.message = fmt.Sprintf("the gateway %s %s", e.gateway, what)
	case strings.Contains(e.gateway, ","):
		s.message, s.hint = fmt.Sprintf("none of the gateways %s answers", e.gateway), hintUnreachable
	default:
		s.message, s.hint = fmt.Sprintf("the gateway %s does not answer", e.gateway), hintUnreachable
	}
	return s
}

func explainNoAnswer(e *ike.NoAnswerError) said {
	s := said{
		code: app.CodeNoAnswer, step: app.Step(e.Step), again: true,
		message: fmt.Sprintf("the gateway %s does not answer", e.Gateway),
	}
	switch s.step {
	case "", app.StepFindGateway:
		s.hint = hintUnreachable
	case app.StepTest:
		s.message = fmt.Sprintf("the gateway %s stopped answering", e.Gateway)
		s.hint = "check this computer's network connection"
	default:
		s.message = fmt.Sprintf("the gateway %s stopped answering", e.Gateway)
		s.hint = hintPathDrops
	}
	if dns, ok := errors.AsType[*net.DNSError](e.Err); ok {
		s.message = fmt.Sprintf("the gateway's name %s could not be found", printable(dns.Name, 253))
		s.hint = "check the name and this computer's network connection"
	} else if e.Err != nil {
		s.message += fmt.Sprintf(" (%v)", e.Err)
	}
	if e.Hint != "" {
		s.message += ", probably: " + printable(e.Hint, maxText)
	}
	return s
}

func explainAddressChanged(e *ike.AddressChangedError) said {
	return said{
		code: app.CodeSettingsRefused, again: true,
		message: fmt.Sprintf("the gateway changed this connection's address from %s to %s", e.Old, e.New), hint: "connect again",
	}
}

func explainClosed(*ike.ClosedByGatewayError) said {
	return said{
		code: app.CodeNoAnswer, again: true, message: "the gateway ended the connection",
		hint: "connect again; if it stays so, ask the administrator about limits",
	}
}

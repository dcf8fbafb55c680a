package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/ike/isakmp"
	"wayfarer/platform"
	"wayfarer/tun"
)

// Every row of the table, and what a user must be able to read in it.
func TestExplain(t *testing.T) {
	const here = app.StepGetSettings // where the connection stands
	cases := []struct {
		name  string
		err   error
		code  app.Code
		step  app.Step
		again bool
		says  []string // in message or hint
	}{
		{"failure", app.NewFailure(app.CodePolicy, app.StepSignIn, "not here", "ask"), app.CodePolicy, app.StepSignIn, false, []string{"not here", "ask"}},
		{"stopped", errStopped, app.CodeCancelled, here, false, []string{"disconnected"}},
		{"cancelled", fmt.Errorf("prompt: %w", errCancelled), app.CodeCancelled, here, false, []string{"cancelled"}},
		{"context cancelled", context.Canceled, app.CodeCancelled, here, false, []string{"cancelled"}},
		{"unanswered otp", &unansweredError{app.PromptOTP}, app.CodeCancelled, app.StepSignIn, false, []string{"one-time password", "nobody"}},
		{"unanswered banner", &unansweredError{app.PromptBanner}, app.CodeCancelled, app.StepSignIn, false, []string{"an answer"}},
		{"timeout", &timeoutError{app.StepFindGateway, "vpn.example.com"}, app.CodeNoAnswer, app.StepFindGateway, true, []string{"the gateway vpn.example.com does not answer", "500 and 4500"}},
		{"timeout of several", &timeoutError{app.StepFindGateway, "a.example, b.example"}, app.CodeNoAnswer, app.StepFindGateway, true, []string{"none of the gateways a.example, b.example answers", "500 and 4500"}},
		{"timeout at sign-in", &timeoutError{app.StepSignIn, "vpn.example.com"}, app.CodeNoAnswer, app.StepSignIn, true, []string{"vpn.example.com did not answer the sign-in in time", "--timeout"}},
		{"deadline", context.DeadlineExceeded, app.CodeNoAnswer, here, true, []string{"in time"}},
		{"settings", errSettingsChanged, app.CodeSettingsRefused, here, true, []string{"changed the settings"}},

		{"host", &hostError{err: errors.New("route: file exists")}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{"route: file exists"}},
		{"no device", &hostError{err: fmt.Errorf("open: %w", tun.ErrNoDevice)}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{hints.device}},
		{"no rights", &hostError{err: fmt.Errorf("open: %w", tun.ErrNoRights)}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{hints.rights, "wayfarer proxy"}},
		{"no rights for routes", &hostError{err: &platform.Error{Part: platform.PartRoute, Err: platform.ErrNoRights}}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{"route", hints.rights}},
		{"socket", &ike.NoAnswerError{Err: &hostError{err: errors.New("SO_MARK"), passing: true}}, app.CodeNetworkConfig, app.StepBuildTunnel, true, []string{"SO_MARK"}},

		{"unknown gateway", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustUnknown, Detail: "no CA"}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"no CA", "--trust-new", "--ca"}},
		{"unknown gateway of several", &ike.TrustError{Host: "b.example", Step: ike.StepCheckCertificate, Reason: ike.TrustUnknown}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"the gateway b.example is not trusted"}},
		{"issuer", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustIssuer}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"--ca", "--pin"}},
		{"name", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustName}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"--remote-id"}},
		{"pin", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustPin}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"administrator confirms"}},
		{"expired", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustExpired, Needs: ike.WeakExpired}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"clock", "--allow-weak expired"}},
		{"weak key", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustWeak, Needs: ike.WeakRSA1024 | ike.WeakSHA1Cert}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"--allow-weak rsa1024,sha1-cert"}},
		{"secret", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustSecret}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"group's secret"}},
		{"signature", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustSignature}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"listening"}},
		{"fingerprint", unknownGateway(t), app.CodeUntrusted, app.StepCheckCertificate, false, []string{"SHA-256 ", fmt.Sprintf("%x", unknownGateway(t).SHA256())}},

		{"credentials", &ike.CredentialsError{Step: ike.StepSignIn, Message: "bad\x1b[2J luck"}, app.CodeSignInRefused, app.StepSignIn, false, []string{"refused login or password: bad[2J luck", "lock"}},
		{"weak", &ike.WeakError{Step: ike.StepAgreeSecurity, Needs: ike.Weak3DES | ike.WeakMODP1024, What: "3des-sha1-modp1024"}, app.CodeNoProposal, app.StepAgreeSecurity, false, []string{"3des-sha1-modp1024", "--allow-weak 3des,modp1024"}},
		{"weak certificate", &ike.WeakError{Step: ike.StepCheckCertificate, Needs: ike.WeakRSA1024}, app.CodeUntrusted, app.StepCheckCertificate, false, []string{"--allow-weak rsa1024"}},

		{"proposal", &ike.RefusedError{Step: ike.StepAgreeSecurity, What: ike.RefusedProposal, Notify: isakmp.NotifyNoProposalChosen, Authenticated: true, Offered: []string{"aes256-sha256-modp2048", "aes128-sha1-modp2048"}}, app.CodeNoProposal, app.StepAgreeSecurity, false, []string{"the gateway refused", "aes256-sha256-modp2048, aes128-sha1-modp2048", "NO_PROPOSAL_CHOSEN", "--ike", "--allow-weak"}},
		{"proposal, forgeable", &ike.RefusedError{Step: ike.StepAgreeSecurity, What: ike.RefusedProposal}, app.CodeNoProposal, app.StepAgreeSecurity, false, []string{"probably"}},
		{"esp proposal", &ike.RefusedError{Step: ike.StepBuildTunnel, What: ike.RefusedProposal, Authenticated: true}, app.CodeNoProposal, app.StepBuildTunnel, false, []string{"--esp", "pfs"}},
		{"no address", &ike.RefusedError{Step: ike.StepGetSettings, What: ike.RefusedSettings, Authenticated: true, Detail: "no address"}, app.CodeSettingsRefused, app.StepGetSettings, true, []string{"settings", "no address"}},
		{"authentication", &ike.RefusedError{Step: ike.StepSignIn, What: ike.RefusedConnection, Notify: isakmp.NotifyAuthenticationFailed, Authenticated: true}, app.CodeSignInRefused, app.StepSignIn, false, []string{"AUTHENTICATION_FAILED", "--local-id"}},
		{"exchange", &ike.RefusedError{Step: ike.StepAgreeSecurity, What: ike.RefusedConnection, Notify: isakmp.NotifyInvalidExchangeType}, app.CodeNoProposal, app.StepAgreeSecurity, true, []string{"--exchange", "probably"}},
		{"sign-in", &ike.RefusedError{Step: ike.StepSignIn, What: ike.RefusedConnection}, app.CodeSignInRefused, app.StepSignIn, false, []string{"login and password"}},
		{"quick mode", &ike.RefusedError{Step: ike.StepBuildTunnel, What: ike.RefusedConnection}, app.CodeSettingsRefused, app.StepBuildTunnel, true, []string{"log"}},
		{"tunnel", &ike.RefusedError{Step: ike.StepBuildTunnel, What: ike.RefusedTunnel, Authenticated: true, Detail: "it deleted the ESP SA"}, app.CodeSettingsRefused, app.StepBuildTunnel, false, []string{"did not keep it: it deleted the ESP SA", "nat_t", "log"}},
		{"anything", &ike.RefusedError{Step: ike.StepAgreeSecurity, What: ike.RefusedConnection}, app.CodeProtocol, app.StepAgreeSecurity, true, []string{"refused the connection"}},

		{"config", &ike.ConfigError{Field: "pfs", Err: errors.New("unknown group")}, app.CodeUsage, here, false, []string{"pfs: unknown group"}},
		{"weak config", &ike.ConfigError{Field: "pfs", Err: errors.New("modp1024 is weak"), Needs: ike.WeakMODP1024}, app.CodeUsage, here, false, []string{"pfs: modp1024 is weak", "--allow-weak modp1024"}},
		{"protocol", &ike.ProtocolError{Step: ike.StepSignIn, Detail: "two SA payloads"}, app.CodeProtocol, app.StepSignIn, true, []string{"two SA payloads"}},

		{"no answer", &ike.NoAnswerError{Step: ike.StepFindGateway, Gateway: "192.0.2.1"}, app.CodeNoAnswer, app.StepFindGateway, true, []string{"192.0.2.1 does not answer", "500 and 4500"}},
		{"hint", &ike.NoAnswerError{Step: ike.StepAgreeSecurity, Gateway: "192.0.2.1", Hint: "INVALID_COOKIE"}, app.CodeNoAnswer, app.StepAgreeSecurity, true, []string{"stopped answering, probably: INVALID_COOKIE", "large"}},
		{"name lookup", &ike.NoAnswerError{Step: ike.StepFindGateway, Gateway: "vpn.example.com", Err: &net.DNSError{Name: "vpn.example.com"}}, app.CodeNoAnswer, app.StepFindGateway, true, []string{"name vpn.example.com could not be found"}},
		{"unreachable", &ike.NoAnswerError{Step: ike.StepFindGateway, Gateway: "192.0.2.1", Err: errors.New("network is unreachable")}, app.CodeNoAnswer, app.StepFindGateway, true, []string{"network is unreachable"}},
		{"dead", &ike.NoAnswerError{Step: ike.Step(app.StepTest), Gateway: "192.0.2.1"}, app.CodeNoAnswer, app.StepTest, true, []string{"stopped answering", "network connection"}},
		{"dead without a step", &ike.NoAnswerError{Gateway: "192.0.2.1"}, app.CodeNoAnswer, here, true, []string{"does not answer"}},
		{"address", &ike.AddressChangedError{Old: "10.0.0.1", New: "10.0.0.2"}, app.CodeSettingsRefused, here, true, []string{"10.0.0.1", "10.0.0.2"}},
		{"closed by gateway", &ike.ClosedByGatewayError{}, app.CodeNoAnswer, here, true, []string{"ended the connection"}},
		{"raw socket", &ike.SocketError{Err: os.NewSyscallError("socket", syscall.EPERM)}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{"plain ESP", "CAP_NET_RAW", "managed profile", "AmbientCapabilities", "nat_t"}},
		{"raw socket of the host", &ike.SocketError{Err: &hostError{err: fmt.Errorf("%w (CAP_NET_RAW): %w", platform.ErrNoRawSocket, syscall.EPERM), passing: true}}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{"plain ESP", "CAP_NET_RAW", "nat_t"}},
		{"no raw sockets at all", &ike.SocketError{Err: &hostError{err: platform.ErrUnsupported}}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{"plain ESP", "operating system", "nat_t"}},
		{"port taken", &ike.SocketError{Port: 4500, Err: &hostError{err: os.NewSyscallError("bind", syscall.EADDRINUSE), passing: true}}, app.CodeNetworkConfig, app.StepBuildTunnel, true, []string{"UDP port 4500", "in use", "strongSwan", "IKEEXT", "local_port = 0"}},
		{"port without rights", &ike.SocketError{Port: 500, Err: os.NewSyscallError("bind", syscall.EACCES)}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{"UDP port 500", "CAP_NET_BIND_SERVICE", "managed profile", "AmbientCapabilities", "local_port = 0"}},
		{"mark without rights", &ike.SocketError{Port: 500, Err: &hostError{err: fmt.Errorf("%w: %w", platform.ErrNoRights, syscall.EPERM)}}, app.CodeNetworkConfig, app.StepBuildTunnel, false, []string{hints.rights}},
		{"packet filter", &ike.NoAnswerError{Step: ike.StepFindGateway, Gateway: "192.0.2.1", Err: os.NewSyscallError("sendto", syscall.EPERM)}, app.CodeNoAnswer, app.StepFindGateway, true, []string{"not permitted"}},
		{"closed", net.ErrClosed, app.CodeNoAnswer, here, true, []string{"closed"}},
		{"bug", errors.New("slice bounds"), app.CodeInternal, here, false, []string{"slice bounds", "report"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := explain(tc.err, here)
			if f.Code != tc.code || f.Exit != tc.code.Exit() || f.Step != tc.step {
				t.Errorf("%s (%d) at %q, want %s at %q", f.Code, f.Exit, f.Step, tc.code, tc.step)
			}
			if got := worthRetrying(tc.err); got != tc.again {
				t.Errorf("worth retrying: %v", got)
			}
			for _, want := range tc.says {
				if !strings.Contains(f.Error(), want) {
					t.Errorf("%q does not say %q", f.Error(), want)
				}
			}
			if f.Message == "" || f.Hint == "" || strings.Contains(f.Error(), "\n") {
				t.Errorf("not one line that says what to do: %q", f.Error())
			}
		})
	}
}

// A dead gateway is told as one, whoever gives up first: the engine, or the timeout of
// the same length.
func TestSilentGatewayAtTheTimeout(t *testing.T) {
	for _, patience := range []time.Duration{defaultTimeout - 1, defaultTimeout, defaultTimeout + 1} {
		inWorld(t, func(t *testing.T, w *world) {
			w.script = func(ctx context.Context, _ int, _ *ike.Config) (Session, error) {
				select {
				case <-time.After(patience):
					return nil, &ike.NoAnswerError{Step: ike.StepFindGateway, Gateway: "192.0.2.1:500"}
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			}
			id := w.connect(request())
			time.Sleep(defaultTimeout + 1)
			synctest.Wait()
			f := w.wantFailure(id, app.CodeNoAnswer)
			if f.Step != app.StepFindGateway || !strings.Contains(f.Message, "does not answer") ||
				!strings.Contains(f.Hint, "UDP ports 500 and 4500") || strings.Contains(f.Error(), "log") {
				t.Errorf("after %v: %+v", patience, f)
			}
		})
	}
}

// The timeout says what the gateway had not done yet.
func TestTimeoutNamesItsStep(t *testing.T) {
	for _, step := range app.Steps()[1:5] {
		inWorld(t, func(t *testing.T, w *world) {
			w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
				cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.Step(step)})
				return hang(ctx, n, cfg)
			}
			id := w.connect(request())
			time.Sleep(defaultTimeout)
			synctest.Wait()
			f := w.wantFailure(id, app.CodeNoAnswer)
			if f.Step != step || !strings.Contains(f.Message, "the gateway vpn.example.com "+timeouts[step]) || strings.Contains(f.Error(), "log") {
				t.Errorf("at %s: %+v", step, f)
			}
		})
	}
}

// A gateway that does not believe a secret or a certificate often says nothing.
func TestExplainSilence(t *testing.T) {
	silent := func(step app.Step) error {
		return &ike.NoAnswerError{Step: ike.Step(step), Gateway: "192.0.2.1"}
	}
	for _, tt := range []struct {
		auth string
		err  error
		code app.Code
		says string
	}{
		{"xauth-psk", silent(app.StepCheckCertificate), app.CodeNoAnswer, "secret may be wrong"},
		{"psk", errTimeout, app.CodeNoAnswer, "secret may be wrong"},
		{"psk", silent(app.StepFindGateway), app.CodeNoAnswer, "UDP ports"},
		{"xauth-psk", silent(app.StepSignIn), app.CodeNoAnswer, "firewall or hotspot"},
		{"rsa", silent(app.StepCheckCertificate), app.CodeNoAnswer, "not accept the certificate"},
		{"rsa", silent(app.StepGetSettings), app.CodeNoAnswer, "not accept the certificate"},
		{"xauth-rsa", silent(app.StepSignIn), app.CodeNoAnswer, "not accept the certificate"},
		{"rsa", silent(app.StepBuildTunnel), app.CodeNoAnswer, "firewall or hotspot"},
		{"hybrid", silent(app.StepCheckCertificate), app.CodeNoAnswer, "firewall or hotspot"},
		{"psk", &ike.TrustError{Step: ike.StepCheckCertificate, Reason: ike.TrustSecret}, app.CodeUntrusted, "check the group's secret"},
		{"xauth-rsa", &ike.ClosedByGatewayError{}, app.CodeSignInRefused, "its CA"},
		{"hybrid", &ike.ClosedByGatewayError{}, app.CodeNoAnswer, "connect again"},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
				step := ike.StepCheckCertificate
				if errors.As(tt.err, new(*ike.ClosedByGatewayError)) {
					step = ike.StepSignIn
				}
				cfg.Event(ike.Event{Kind: ike.EventStep, Step: step})
				return nil, tt.err
			}
			c := w.get(w.connect(requestWith(t, tt.auth)))
			if c.Failure == nil || c.Failure.Code != tt.code || c.Failure.Exit != tt.code.Exit() || !strings.Contains(c.Failure.Hint, tt.says) {
				t.Errorf("%s, %v: %+v", tt.auth, tt.err, c.Failure)
			}
		})
	}
}

// A refusal before anything of the user has left is not one of the sign-in, unless
// this side has proved itself already: with a secret or a certificate.
func TestExplainRefusalBeforeSignIn(t *testing.T) {
	refused := func(step ike.Step, notify isakmp.NotifyType) error {
		return &ike.RefusedError{Step: step, What: ike.RefusedConnection, Notify: notify}
	}
	const auth = isakmp.NotifyAuthenticationFailed
	for _, tt := range []struct {
		auth string
		err  error
		code app.Code
		says string
	}{
		{"", refused(ike.StepAgreeSecurity, auth), app.CodeNoProposal, "--auth, --group-id"},
		{"hybrid", refused(ike.StepFindGateway, auth), app.CodeNoProposal, "--exchange"},
		{"hybrid", refused(ike.StepCheckCertificate, isakmp.NotifyInvalidIDInfo), app.CodeNoProposal, "--group-id"},
		{"hybrid", refused(ike.StepAgreeSecurity, 0), app.CodeNoProposal, "--exchange"},
		{"hybrid", refused(ike.StepSignIn, auth), app.CodeSignInRefused, "check login"},
		{"psk", refused(ike.StepCheckCertificate, auth), app.CodeSignInRefused, "secret"},
		{"xauth-psk", refused(ike.StepAgreeSecurity, auth), app.CodeSignInRefused, "secret"},
		{"rsa", refused(ike.StepCheckCertificate, auth), app.CodeSignInRefused, "certificate"},
		{"xauth-rsa", refused(ike.StepCheckCertificate, auth), app.CodeSignInRefused, "certificate"},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, tt.err }
			f := w.wantFailure(w.connect(requestWith(t, tt.auth)), tt.code)
			if !strings.Contains(f.Hint, tt.says) {
				t.Errorf("%s, %v: %+v", tt.auth, tt.err, f)
			}
		})
	}
}

// The fingerprint of a certificate that is refused stands in the failure once, whether
// or not the engine has told it.
func TestExplainTellsTheFingerprintOnce(t *testing.T) {
	for _, reason := range []ike.TrustReason{ike.TrustUnknown, ike.TrustIssuer, ike.TrustPin} {
		e := unknownGateway(t)
		e.Reason = reason
		for _, detail := range []string{"another one than before", fmt.Sprintf("another one than before (SHA-256 %x)", e.SHA256())} {
			e.Detail = detail
			if f := explain(e, app.StepCheckCertificate); strings.Count(f.Message, fmt.Sprintf("%x", e.SHA256())) != 1 {
				t.Errorf("%s: %q", reason, f.Message)
			}
		}
	}
}

// A gateway's words cannot break the one line of an error.
func TestExplainStaysOneLine(t *testing.T) {
	f := explain(&ike.CredentialsError{Message: "a\nwayfarer: all is well"}, app.StepSignIn)
	if strings.Contains(f.Error(), "\n") {
		t.Errorf("two lines: %q", f.Error())
	}
}

// What helps on one system is not what another's user reads.
func TestHintsFor(t *testing.T) {
	of := func(goos string) string {
		h := hintsFor(goos)
		if h.rights == "" || h.device == "" {
			t.Errorf("%s: %+v", goos, h)
		}
		return strings.Join([]string{h.rights, h.device, fmt.Sprintf(h.namesTaken, "a program"), fmt.Sprintf(h.otherServers, "192.0.2.1", "somebody")}, "\n")
	}
	for goos, words := range map[string][]string{"linux": {"modprobe tun", "CAP_NET_ADMIN", "/etc/resolv.conf"}, "windows": {"wintun.dll", "administrator"}, "darwin": {"as root"}} {
		for _, word := range words {
			for _, other := range []string{"linux", "windows", "darwin"} {
				if strings.Contains(of(other), word) != (other == goos || word == "as root" && other == "linux") {
					t.Errorf("%q on %s:\n%s", word, other, of(other))
				}
			}
		}
		if text := of(goos); strings.Contains(text, "%!") || !strings.Contains(text, "a program") || !strings.Contains(text, "192.0.2.1") {
			t.Errorf("%s:\n%s", goos, text)
		}
	}
}

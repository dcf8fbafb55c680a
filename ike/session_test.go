package ike

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var allSteps = []Step{StepFindGateway, StepAgreeSecurity, StepCheckCertificate, StepSignIn, StepGetSettings, StepBuildTunnel}

func TestConnect(t *testing.T) {
	for _, exchange := range []Exchange{ExchangeMain, ExchangeAggressive} {
		t.Run(string(exchange), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.client.Exchange = exchange
				w.client.IKE = nil
				w.start()
				s := w.dial()
				if d := time.Since(w.began); d != 0 {
					t.Errorf("connecting took %v on a network without delay", d)
				}
				received := receive(s)
				w.exchangePackets(s, received, "hello")

				a := s.Assignment()
				if want := []netip.Prefix{netip.PrefixFrom(firstVIP, 32)}; !slices.Equal(a.Addresses, want) {
					t.Errorf("addresses %v, want %v", a.Addresses, want)
				}
				if a.DefaultDomain != "corp.example.com" || len(a.SplitInclude) != 1 || len(a.DNS) != 1 {
					t.Errorf("assignment %+v", a)
				}
				checkFreshStats(w.t, s.Stats(), exchange)
				if got := w.steps(); !slices.Equal(got, allSteps) {
					t.Errorf("steps %v, want %v", got, allSteps)
				}
				if err := s.Close(); err != nil || !errors.Is(s.Err(), net.ErrClosed) {
					t.Errorf("Close: %v, Err: %v", err, s.Err())
				}
				synctest.Wait()
				if c := w.gw.Clients(); len(c) != 0 {
					t.Errorf("the gateway keeps %+v after the Deletes", c)
				}
				if strings.Contains(w.logText(), testPassword) {
					t.Error("the log shows the password")
				}
			})
		})
	}
}

func checkFreshStats(t *testing.T, st Stats, exchange Exchange) {
	t.Helper()
	if st.Exchange != exchange || st.Auth != "hybrid-rsa" || st.Suite != "aes256-sha256-modp2048" || st.NATT != "rfc3947" || !st.DPD || !st.Fragmentation {
		t.Errorf("stats %+v", st)
	}
	if st.Gateway != netip.AddrPortFrom(gatewayAddr, portNATT) || st.Local.Addr() != clientAddr {
		t.Errorf("gateway at %v, we at %v", st.Gateway, st.Local)
	}
	if st.NAT != NATForced || st.Identity != "gw.example.com" || st.CertificateSHA256 == [32]byte{} {
		t.Errorf("NAT %v, identity %q, certificate %x", st.NAT, st.Identity, st.CertificateSHA256)
	}
	now := time.Now()
	if !st.Established.Equal(now) || !st.Expires.Equal(now.Add(phase1Lifetime)) || !st.LastHeard.Equal(now) || st.Rekeys != 0 {
		t.Errorf("established %v, expires %v, heard %v, rekeys %d", st.Established, st.Expires, st.LastHeard, st.Rekeys)
	}
	if len(st.Children) != 1 {
		t.Fatalf("ESP SAs %+v", st.Children)
	}
	c := st.Children[0]
	if c.PacketsIn != 1 || c.PacketsOut != 1 || c.BytesIn != 36 || c.BytesOut != 37 || c.Replayed != 0 || c.BadICV != 0 || c.Rekeys != 0 {
		t.Errorf("ESP SA %+v", c)
	}
	if c.Suite != "aes256gcm16" || c.Local != netip.PrefixFrom(firstVIP, 32) || c.Remote != netip.MustParsePrefix("0.0.0.0/0") ||
		!c.Expires.Equal(now.Add(espLifetime)) {
		t.Errorf("ESP SA %+v", c)
	}
}

func TestNoGateway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.client.Exchange = ExchangeMain
		var err error
		d := elapsed(func() { _, err = w.tryDial() })
		if silent := wantError[*NoAnswerError](t, err); silent.Step != StepFindGateway {
			t.Errorf("step %v", silent.Step)
		}
		if d != time.Minute {
			t.Errorf("gave up after %v", d)
		}
	})
}

package daemon

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
)

// fullSession has a value everywhere.
func fullSession() *fakeSession {
	s := newSession()
	now := time.Now()
	s.assignment = ike.Assignment{
		Addresses:     nets("192.168.201.20/32"),
		DNS:           hosts("192.168.1.1 192.168.1.2"),
		WINS:          hosts("192.168.1.1"),
		DefaultDomain: "local",
		SplitInclude:  nets("192.168.1.0/24"),
		SplitExclude:  nets("192.168.50.0/24"),
		Banner:        "Welcome\x1b[31m\nBe nice",
	}
	s.stats = ike.Stats{
		Gateway: netip.MustParseAddrPort("192.0.2.1:4500"), Identity: "CN=rhum", CertificateSHA256: [32]byte{0xab},
		Exchange: ike.ExchangeMain, Auth: "hybrid-rsa", Suite: "aes256-sha256-modp2048", NATT: "rfc3947", NAT: ike.NATLocal,
		Fragmentation: true, DPD: true, Established: now, Expires: now.Add(8 * time.Hour), Rekeys: 1, LastHeard: now,
		Children: []ike.ChildStats{{
			SPIIn: 1, SPIOut: 0xc0ffee, Suite: "aes256gcm16", Local: nets("192.168.201.20/32")[0], Remote: nets("0.0.0.0/0")[0],
			BytesIn: 1, BytesOut: 2, PacketsIn: 3, PacketsOut: 4, Replayed: 5, BadICV: 6, Established: now, Expires: now.Add(time.Hour), Rekeys: 7,
		}},
	}
	return s
}

// TestStatusJSON compares with the contract's form, byte for byte.
func TestStatusJSON(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = fixed(fullSession())
		w.connect(request())
		compareJSON(t, "testdata/connected.json", w.Status())

		w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
			cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.StepSignIn})
			if _, err := cfg.Prompt(ctx, ike.Prompt{Kind: ike.PromptOTP, Text: "Token?", Secret: true}); err != nil {
				return nil, err
			}
			return nil, &ike.CredentialsError{Step: ike.StepSignIn}
		}
		req := named("")
		req.Ask, req.Profile.Login = true, "grace"
		asking := w.connect(req)
		w.script = func(context.Context, int, *ike.Config) (Session, error) {
			return nil, &ike.CredentialsError{Step: ike.StepSignIn}
		}
		failed := w.connect(named("plant"))
		compareJSON(t, "testdata/asking.json", w.get(asking))
		compareJSON(t, "testdata/failed.json", w.get(failed))
	})
}

func compareJSON(t *testing.T, file string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; got:\n%s", err, got)
	}
	if string(got) != strings.TrimSpace(string(want)) {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

// Each state shows what it has, and nothing that it has not.
func TestStatusOfStates(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := fullSession()
		w.script = fixed(session)
		id := w.connect(request())
		if c := w.get(id); c.Step != "" || c.Prompt != nil || c.Failure != nil {
			t.Errorf("connected, with %+v", c)
		}
		since := w.get(id).Since
		time.Sleep(time.Second)
		if got := w.get(id).Since; !got.Equal(*since) {
			t.Errorf("since moved from %v to %v", since, got)
		}
		w.script = hang
		session.end(&ike.ClosedByGatewayError{})
		synctest.Wait()
		c := w.wantState(id, app.StateReconnecting)
		if c.IKE != nil || c.ESP != nil || c.Step != "" || c.Failure != nil || !c.Since.After(*since) {
			t.Errorf("reconnecting, with %+v", c)
		}
	})
}

// Compression is a standing warning while it is in use, and only then.
func TestWarnsOfCompression(t *testing.T) {
	for _, compressed := range []bool{true, false} {
		inWorld(t, func(t *testing.T, w *world) {
			session := fullSession()
			session.stats.Children[0].IPComp = compressed
			w.script = fixed(session)
			c := w.get(w.connect(request()))
			i := slices.IndexFunc(c.Warnings, func(w app.Warning) bool { return w.Code == "compression" })
			if (i >= 0) != compressed || compressed && c.Warnings[i].Severity != app.SeverityWarning {
				t.Errorf("compressed: %v, warnings: %+v", compressed, c.Warnings)
			}
		})
	}
}

// Of several gateways, status names the first until one answers, then that.
func TestStatusNamesTheGatewayThatAnswered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = fixed(session)
		req := request()
		req.Profile.Gateway = "a.example:4711, b.example"
		id := w.connect(req)
		if c := w.wantState(id, app.StateConnected); c.Gateway.Host != "a.example" {
			t.Errorf("host %q of an engine that does not tell", c.Gateway.Host)
		}
		w.Disconnect(t.Context(), id)
		session = newSession()
		session.stats.Host = "b.example"
		w.script = fixed(session)
		if c := w.wantState(w.connect(req), app.StateConnected); c.Gateway.Host != "b.example" {
			t.Errorf("host %q", c.Gateway.Host)
		}
	})
}

// Who sends everything through a tunnel without IPv6 is told why IPv6 does not work;
// who does not has nothing to do with it.
func TestWarnsOfBlockedIPv6(t *testing.T) {
	for _, tt := range []struct {
		include string // of the gateway; empty: everything
		blocked bool
		want    bool
	}{
		{"", true, true},
		{"", false, false},
		{"10.10.0.0/24", true, false},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			w.host.report = platform.Report{IPv6Blocked: tt.blocked}
			session := newSession()
			session.assignment.SplitInclude = nil
			if tt.include != "" {
				session.assignment.SplitInclude = nets(tt.include)
			}
			w.script = fixed(session)
			c := w.wantState(w.connect(request()), app.StateConnected)
			got := slices.ContainsFunc(c.Warnings, func(w app.Warning) bool {
				return w.Code == "ipv6-blocked" && w.Severity == app.SeverityInfo
			})
			if got != tt.want {
				t.Errorf("%+v: warnings %+v, routes %v", tt, c.Warnings, c.Routes)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		session.stats.Suite = "3des-sha1-modp1024"
		session.stats.Children[0].Suite = "aes128-md5"
		session.assignment.DefaultDomain = "not a domain"
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			for range 2 {
				cfg.Event(ike.Event{Kind: ike.EventWarning, Code: "gateway-settings", Text: "DNS server 127.0.0.1\x1b"})
			}
			cfg.Event(ike.Event{Kind: ike.EventWarning, Code: "network-refused", Text: "the gateway refuses 10.3.0.0/16"})
			cfg.Event(ike.Event{Kind: ike.EventWarning, Code: "sha256-96", Text: "the ESP suite aes256-sha256_96 is needed"})
			cfg.Event(ike.Event{Kind: ike.EventWarning, Code: "from-the-future", Text: "beware 100%s"})
			return session, nil
		}
		id := w.connect(request())
		var got []string
		for _, warning := range w.get(id).Warnings {
			got = append(got, string(warning.Severity)+" "+warning.Code+": "+warning.Text)
		}
		want := []string{
			"info gateway-settings: a setting of the gateway makes no sense and is ignored: DNS server 127.0.0.1",
			"warning network-refused: the gateway refuses 10.3.0.0/16: it cannot be reached",
			"warning sha256-96: the ESP suite aes256-sha256_96 is needed (--esp)",
			"warning from-the-future: beware 100%s",
			`info gateway-settings: the gateway gave a domain that is none: "not a domain"`,
			"warning weak-crypto: this connection uses algorithms that are no longer safe: 3des,md5,modp1024",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("warnings:\n%s", strings.Join(got, "\n"))
		}
	})
}

// A group's secret in aggressive mode is remarked upon for as long as it is used so.
func TestWarningOfAggressiveSecrets(t *testing.T) {
	for _, tt := range []struct {
		auth     string
		exchange ike.Exchange
		want     bool
	}{
		{"xauth-psk", ike.ExchangeAggressive, true},
		{"psk", ike.ExchangeAggressive, true},
		{"xauth-psk", ike.ExchangeMain, false},
		{"hybrid-rsa", ike.ExchangeAggressive, false},
		{"ecdsa-256", ike.ExchangeAggressive, false},
	} {
		c := app.Connection{Gateway: &app.Gateway{}}
		showStats(&c, ike.Stats{Auth: tt.auth, Exchange: tt.exchange})
		if got := len(c.Warnings) == 1 && c.Warnings[0].Code == "psk-aggressive" && c.Warnings[0].Severity == app.SeverityWarning; got != tt.want {
			t.Errorf("%s, %s: %+v", tt.auth, tt.exchange, c.Warnings)
		}
		if c.IKE.Auth != tt.auth {
			t.Errorf("auth %q", c.IKE.Auth)
		}
	}
}

// The engine's own warning of weak algorithms is not doubled, and warnings are
// bounded.
func TestWarningsOfTheEngine(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		session.stats.Suite = "3des-sha1-modp1024"
		w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
			cfg.Event(ike.Event{Kind: ike.EventWarning, Code: "weak-crypto", Text: "3des"})
			for i := range 100 {
				cfg.Event(ike.Event{Kind: ike.EventWarning, Code: "gateway-settings", Text: strings.Repeat("x", i)})
			}
			return session, nil
		}
		id := w.connect(request())
		list := w.get(id).Warnings
		weak := 0
		for _, warning := range list {
			if warning.Code == "weak-crypto" {
				weak++
			}
		}
		if weak != 1 || len(list) != maxWarnings {
			t.Errorf("%d warnings, %d of weak algorithms", len(list), weak)
		}
	})
}

package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
	"wayfarer/tun"
)

func TestHostChangesWhileConnected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
		w.host.happen(platform.EventNetwork) // nobody is connected: nothing to do
		if w.host.count() != 0 {
			t.Errorf("the host got %+v", w.host.last())
		}
		id := w.connect(request())
		for _, tt := range []struct {
			kind       platform.EventKind
			asks, sets int
		}{
			{platform.EventNetwork, 1, 1},
			{platform.EventDefaultRoute, 1, 1},
			{platform.EventNames, 0, 1},
			{platform.EventTaken, 0, 1},
			{platform.EventSleep, 0, 0},
			{platform.EventWake, 1, 1},
		} {
			asked, sets := session.askedFor(), w.host.count()
			w.host.happen(tt.kind)
			if session.askedFor()-asked != tt.asks || w.host.count()-sets != tt.sets {
				t.Errorf("%s: the gateway was asked %d times, the host set %d times", tt.kind, session.askedFor()-asked, w.host.count()-sets)
			}
			if cfg := w.host.last(); len(cfg.Tunnels) != 1 {
				t.Errorf("%s: the host has %+v", tt.kind, cfg)
			}
		}
		w.host.fail(errors.New("resolv.conf: read-only file system"))
		w.host.happen(platform.EventNetwork)
		wantWarning(t, w.wantState(id, app.StateConnected), app.WarningOutdated, "read-only file system", "connect again")
		w.host.fail(nil)
		w.host.happen(platform.EventNetwork)
		if c := w.get(id); len(c.Warnings) > 0 {
			t.Errorf("when it is right again: %+v", c.Warnings)
		}
	})
}

// A change ends the wait for the next attempt, which has grown long by then.
func TestHostChangeEndsTheWait(t *testing.T) {
	for _, kind := range []platform.EventKind{platform.EventNetwork, platform.EventDefaultRoute, platform.EventWake} {
		inWorld(t, func(t *testing.T, w *world) {
			first := newSession()
			works := new(atomic.Bool)
			w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
				switch {
				case n == 0:
					return first, nil
				case works.Load():
					return newSession(), nil
				}
				return nil, &ike.NoAnswerError{}
			}
			id := w.connect(request())
			first.end(&ike.NoAnswerError{})
			time.Sleep(30 * time.Minute)
			synctest.Wait()
			w.wantState(id, app.StateReconnecting)
			works.Store(true)
			before := time.Now()
			w.host.happen(kind)
			w.wantState(id, app.StateConnected)
			if took := time.Since(before); took != 0 {
				t.Errorf("%s: connected after %v", kind, took)
			}
		})
	}
}

// Without a network nothing is tried until there is one, or patience is over.
func TestWaitsForANetwork(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := newSession()
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			if n == 0 {
				return first, nil
			}
			if !w.host.Online() {
				return nil, &ike.NoAnswerError{}
			}
			return newSession(), nil
		}
		id := w.connect(request())
		w.host.setOffline(true)
		w.host.happen(platform.EventNetwork)
		first.end(&ike.NoAnswerError{})
		time.Sleep(offlinePatience - time.Second)
		synctest.Wait()
		if w.wantState(id, app.StateReconnecting); w.dialled() != 1 {
			t.Errorf("dialled %d times without a network", w.dialled())
		}
		time.Sleep(minBackoff + time.Second)
		synctest.Wait()
		if w.dialled() != 2 {
			t.Errorf("dialled %d times when patience was over", w.dialled())
		}
		w.host.happen(platform.EventNetwork) // something else has changed
		if w.dialled() != 2 {
			t.Errorf("dialled %d times without a network", w.dialled())
		}
		w.host.setOffline(false)
		w.host.happen(platform.EventDefaultRoute)
		w.wantState(id, app.StateConnected)
	})
}

// A first attempt without a network fails at once, and says so; one that finds a gateway
// nevertheless, on this very computer, goes on.
func TestConnectWithoutANetwork(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.host.setOffline(true)
		w.script = hang
		began := time.Now()
		id := w.connect(request())
		time.Sleep(offlineGrace)
		synctest.Wait()
		f := w.wantFailure(id, app.CodeNoAnswer)
		if since := w.get(id).Since.Sub(began); since != offlineGrace || f.Step != app.StepFindGateway || !strings.Contains(f.Message, "this computer has no network") {
			t.Errorf("after %v: %v", since, f)
		}
		w.script = func(ctx context.Context, _ int, cfg *ike.Config) (Session, error) {
			cfg.Event(ike.Event{Kind: ike.EventStep, Step: ike.StepAgreeSecurity})
			time.Sleep(10 * time.Second)
			return newSession(), ctx.Err()
		}
		id = w.connect(request())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.host.setOffline(true)
		w.script = func(ctx context.Context, _ int, _ *ike.Config) (Session, error) {
			time.Sleep(2 * offlineGrace) // the network comes meanwhile
			return newSession(), ctx.Err()
		}
		id := w.connect(request())
		time.Sleep(offlineGrace - time.Second)
		w.host.setOffline(false)
		time.Sleep(time.Minute)
		w.wantState(id, app.StateConnected)
	})
}

// A reconnect that has not come to the sign-in begins anew: its packets are lost. Later
// it goes on, for its sake and that of a one-time password, and the session is told.
func TestHostChangeDuringAnAttempt(t *testing.T) {
	for _, step := range []ike.Step{ike.StepFindGateway, ike.StepAgreeSecurity, ike.StepSignIn, ike.StepBuildTunnel} {
		t.Run(string(step), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				first, second := newSession(), newSession()
				goOn := make(chan struct{})
				w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
					switch n {
					case 0:
						return first, nil
					case 1:
						cfg.Event(ike.Event{Kind: ike.EventStep, Step: step})
						select {
						case <-goOn:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}
					return second, nil
				}
				id := w.connect(request())
				first.end(&ike.NoAnswerError{})
				time.Sleep(minBackoff)
				synctest.Wait()
				w.wantState(id, app.StateReconnecting)
				w.host.happen(platform.EventDefaultRoute)
				if beforeSignIn(app.Step(step)) {
					w.wantState(id, app.StateConnected)
					if w.dialled() != 3 {
						t.Errorf("dialled %d times", w.dialled())
					}
					return
				}
				w.wantState(id, app.StateReconnecting)
				close(goOn)
				synctest.Wait()
				w.wantState(id, app.StateConnected)
				if w.dialled() != 2 || second.askedFor() != 1 {
					t.Errorf("dialled %d times; the new session was told %d times", w.dialled(), second.askedFor())
				}
			})
		})
	}
}

// While it is tried again, users see why it has failed.
func TestLastAttemptIsTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first, works := newSession(), new(atomic.Bool)
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			switch {
			case n == 0:
				return first, nil
			case works.Load():
				return newSession(), nil
			}
			return nil, &ike.NoAnswerError{Step: ike.StepFindGateway, Gateway: "192.0.2.7"}
		}
		id := w.connect(request())
		first.end(&ike.ClosedByGatewayError{})
		synctest.Wait()
		wantWarning(t, w.get(id), app.WarningLastAttempt, "the gateway ended the connection")
		time.Sleep(minBackoff)
		synctest.Wait()
		wantWarning(t, w.get(id), app.WarningLastAttempt, "192.0.2.7 does not answer")
		works.Store(true)
		time.Sleep(maxBackoff)
		synctest.Wait()
		if c := w.wantState(id, app.StateConnected); len(c.Warnings) != 0 {
			t.Errorf("warnings %+v", c.Warnings)
		}
	})
}

func wantWarning(t *testing.T, c app.Connection, code string, says ...string) {
	t.Helper()
	i := slices.IndexFunc(c.Warnings, func(w app.Warning) bool { return w.Code == code })
	if i < 0 {
		t.Errorf("no warning %s in %+v", code, c.Warnings)
		return
	}
	for _, s := range says {
		if !strings.Contains(c.Warnings[i].Text, s) {
			t.Errorf("warning %q does not say %q", c.Warnings[i].Text, s)
		}
	}
}

// Connected has a recent packet behind it: a gateway that is silent is asked, and what
// stays silent is not called connected.
func TestSilenceIsNotConnected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
		id := w.connect(request())
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		c := w.wantState(id, app.StateConnected)
		if asked := session.askedFor(); asked < 1400 || asked > 1440 || time.Since(*c.IKE.LastHeard) > silentAfter {
			t.Errorf("asked %d times, heard %v ago", asked, time.Since(*c.IKE.LastHeard))
		}
		session.mu.Lock()
		session.mute = true
		session.mu.Unlock()
		time.Sleep(silentAfter + silentLook)
		synctest.Wait()
		w.wantState(id, app.StateReconnecting)
		session.mu.Lock()
		session.stats.LastHeard = time.Now()
		session.mu.Unlock()
		time.Sleep(silentLook)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		if w.dialled() != 1 {
			t.Errorf("dialled %d times: the engine decides when a session is over", w.dialled())
		}
	})
}

func TestResolve(t *testing.T) {
	outside, system, before := addrs("192.0.2.1"), addrs("192.0.2.2"), addrs("192.0.2.3")
	none := errors.New("no such host")
	for _, tt := range []struct {
		name            string
		known           bool
		outside, system error
		want            []netip.Addr // nil: an error
	}{
		{"past the tunnels", false, nil, nil, outside},
		{"anew", true, nil, nil, outside},
		{"as the host does", false, none, nil, system},
		{"the last ones", true, none, nil, before},
		{"nowhere", false, none, none, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.host.outside = func(string) ([]netip.Addr, error) { return outside, tt.outside }
				w.lookup = func(context.Context, string) ([]netip.Addr, error) { return system, tt.system }
				tunnel := &tunnel{daemon: w.Daemon, log: w.log, resolved: map[string][]netip.Addr{}}
				if tt.known {
					tunnel.resolved["vpn.example.com"] = before
				}
				got, err := tunnel.resolve(t.Context(), "vpn.example.com")
				if (err == nil) != (tt.want != nil) || err == nil && !slices.Equal(got, tt.want) {
					t.Errorf("%v, %v, want %v", got, err, tt.want)
				}
				if err == nil && !slices.Equal(tunnel.resolved["vpn.example.com"], tt.want) && !tt.known {
					t.Errorf("remembered %v", tunnel.resolved)
				}
			})
		})
	}
}

// A gateway that names other backup servers in each session, with as many addresses as
// an answer holds, does not make the service grow.
func TestOldNamesAreForgotten(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.host.outside = func(string) ([]netip.Addr, error) {
			return slices.Repeat([]netip.Addr{netip.MustParseAddr("192.0.2.1")}, 4000), nil
		}
		var session *fakeSession
		w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
			for _, host := range app.Hosts(cfg.Gateway) {
				if _, err := cfg.Resolve(ctx, host); err != nil {
					t.Error(err)
				}
			}
			session = newSession()
			session.assignment.BackupServers = []string{fmt.Sprintf("backup%d.example.com", n)}
			return session, nil
		}
		id := w.connect(request())
		for range 20 {
			session.end(&ike.NoAnswerError{})
			time.Sleep(maxBackoff)
			synctest.Wait()
			w.wantState(id, app.StateConnected)
		}
		resolved := w.tunnels[0].resolved
		if len(resolved) != 2 || resolved["vpn.example.com"] == nil || resolved["backup19.example.com"] == nil {
			t.Errorf("%d names are kept: %v", len(resolved), slices.Sorted(maps.Keys(resolved)))
		}
		for host, addrs := range resolved {
			if len(addrs) > maxAddresses {
				t.Errorf("%s: %d addresses", host, len(addrs))
			}
		}
	})
}

func TestHostWarnings(t *testing.T) {
	full := []string{"0.0.0.0/0"}
	split := []string{"192.168.1.0/24"}
	wg := platform.Conflict{Interface: "wg0", Owner: "wireguard", Claim: "0.0.0.0/0"}
	for _, tt := range []struct {
		name      string
		routes    []string
		domains   []string // split DNS
		report    platform.Report
		conflicts []platform.Conflict
		code      string // empty: none
		severity  app.Severity
		says      []string
	}{
		{name: "nothing", routes: full},
		{name: "IPv6", routes: full, report: platform.Report{IPv6Blocked: true}, code: app.WarningIPv6Blocked, severity: app.SeverityInfo},
		{name: "IPv6, for another tunnel", routes: split, report: platform.Report{IPv6Blocked: true}},
		{
			name: "no firewall", routes: split, report: platform.Report{Unguarded: "the kernel has no nftables"},
			code: app.WarningUnguarded, severity: app.SeverityWarning, says: []string{"the kernel has no nftables"},
		},
		{
			name: "a route for one address", routes: full, report: platform.Report{Outside: addrs("203.0.113.5", "2001:db8::5")},
			code: app.WarningOutside, severity: app.SeverityWarning, says: []string{"routes for 203.0.113.5, which", "--block-outside"},
		},
		{name: "a route for one address, of another tunnel", routes: split, report: platform.Report{Outside: addrs("203.0.113.5")}},
		{
			name: "home network", routes: split,
			report: platform.Report{Overlaps: []platform.Overlap{{Kind: platform.OverlapNetwork, Local: nets("192.168.1.0/24")[0], Interface: "wlan0", Tunnel: "wayfarer0", Route: nets("192.168.0.0/16")[0]}}},
			code:   app.WarningOverlap, severity: app.SeverityWarning,
			says: []string{"the local network 192.168.1.0/24 on wlan0", "192.168.0.0/16", "reached through the tunnel"},
		},
		{
			name: "router", routes: split,
			report: platform.Report{Overlaps: []platform.Overlap{{Kind: platform.OverlapRouter, Local: nets("192.168.1.1/32")[0], Interface: "wlan0", Tunnel: "wayfarer0", Route: nets("192.168.1.0/24")[0], Kept: true}}},
			code:   app.WarningOverlap, severity: app.SeverityInfo, says: []string{"the local router 192.168.1.1 on wlan0", "it stays reachable"},
		},
		{
			name: "DNS server", routes: split,
			report: platform.Report{Overlaps: []platform.Overlap{{Kind: platform.OverlapDNS, Local: nets("192.168.1.1/32")[0], Tunnel: "wayfarer0", Route: nets("192.168.1.0/24")[0]}}},
			code:   app.WarningOverlap, severity: app.SeverityWarning, says: []string{"the local DNS server 192.168.1.1 has", "cannot be reached"},
		},
		{name: "another tunnel's overlap", routes: split, report: platform.Report{Overlaps: []platform.Overlap{{Tunnel: "wayfarer1"}}}},
		{name: "another VPN beside", routes: full, conflicts: []platform.Conflict{wg}, code: app.WarningConflict, severity: app.SeverityInfo, says: []string{"wg0 (wireguard)", "0.0.0.0/0", "this tunnel comes first"}},
		{name: "another VPN beside a split tunnel", routes: split, conflicts: []platform.Conflict{wg}},
		{
			name: "names", routes: split, conflicts: []platform.Conflict{{Interface: "tun0", Owner: "tun", Claim: "DNS"}},
			code: app.WarningConflict, severity: app.SeverityWarning, says: []string{"tun0 (tun) is asked for all names"},
		},
		{
			name: "names taken", routes: full, report: platform.Report{DNS: "NetworkManager", NamesTaken: "NetworkManager"},
			code: app.WarningDNSTaken, severity: app.SeverityWarning, says: []string{fmt.Sprintf(hints.namesTaken, "NetworkManager")},
		},
		{
			name: "names taken by policy", routes: full, report: platform.Report{DNS: "NRPT", NamesTaken: platform.GroupPolicy},
			code: app.WarningDNSTaken, severity: app.SeverityWarning, says: []string{"group policy has rules of its own"},
		},
		{
			name: "other servers", routes: full, report: platform.Report{DNS: "openresolv", OtherServers: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.9")}},
			code: app.WarningDNSLeak, severity: app.SeverityWarning, says: []string{"127.0.0.1, 192.0.2.9", "openresolv"},
		},
		{
			name: "names elsewhere", routes: full, report: platform.Report{NamesElsewhere: []platform.NameClaim{{Interface: "wlan0", Domain: "corp.example", Tunnel: "wayfarer0"}}},
			code: app.WarningDNSLeak, severity: app.SeverityWarning, says: []string{"the network on wlan0 calls corp.example its own"},
		},
		{name: "another tunnel's names elsewhere", routes: full, report: platform.Report{NamesElsewhere: []platform.NameClaim{{Interface: "wlan0", Domain: "corp.example", Tunnel: "wayfarer1"}}}},
		{
			name: "all names", routes: split, domains: []string{"corp.example"}, report: platform.Report{DNS: "file", Unsplit: true},
			code: app.WarningDNSUnsplit, severity: app.SeverityInfo, says: []string{"(file)", "asked for all"},
		},
		{name: "all names, as wished", routes: split, report: platform.Report{DNS: "file", Unsplit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.host.report, w.host.conflicts = tt.report, tt.conflicts
				w.script = func(context.Context, int, *ike.Config) (Session, error) {
					s := newSession()
					s.assignment.SplitInclude = nets(strings.Join(tt.routes, " "))
					s.assignment.SplitDNS = tt.domains
					return s, nil
				}
				c := w.wantState(w.connect(request()), app.StateConnected)
				switch {
				case tt.code == "" && len(c.Warnings) > 0:
					t.Errorf("warnings %+v", c.Warnings)
				case tt.code != "":
					wantWarning(t, c, tt.code, tt.says...)
					if len(c.Warnings) != 1 || c.Warnings[0].Severity != tt.severity {
						t.Errorf("warnings %+v", c.Warnings)
					}
				}
			})
		})
	}
}

// A full tunnel past which another VPN leads the packets is none.
func TestAnotherVPNWins(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		session := newSession()
		session.assignment.SplitInclude = nets("0.0.0.0/0")
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return session, nil }
		w.host.conflicts = []platform.Conflict{{Interface: "tailscale0", Owner: "tun", Claim: "0.0.0.0/0", Wins: true}}
		id := w.connect(request())
		f := w.wantFailure(id, app.CodeNetworkConfig)
		if !strings.Contains(f.Message, "tailscale0 (tun)") || !strings.Contains(f.Hint, "end the other VPN") {
			t.Errorf("%+v", f)
		}
		w.checkNothingLeft()
		// A split tunnel has its packets all the same.
		session = newSession()
		id = w.connect(request())
		w.wantState(id, app.StateConnected)
	})
	// One that comes later is told.
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(context.Context, int, *ike.Config) (Session, error) {
			s := newSession()
			s.assignment.SplitInclude = nets("0.0.0.0/0")
			return s, nil
		}
		id := w.connect(request())
		w.host.mu.Lock()
		w.host.conflicts = []platform.Conflict{{Interface: "wg0", Owner: "wireguard", Claim: "0.0.0.0/1", Wins: true}}
		w.host.mu.Unlock()
		w.host.happen(platform.EventNetwork)
		wantWarning(t, w.wantState(id, app.StateConnected), app.WarningConflict, "wg0", "before this tunnel")
	})
	// And one in whose way the gateway is not found.
	inWorld(t, func(t *testing.T, w *world) {
		w.host.conflicts = []platform.Conflict{{Interface: "eth0", Claim: "DNS"}, {Interface: "wg0", Owner: "wireguard", Claim: "0.0.0.0/0"}}
		w.script = func(context.Context, int, *ike.Config) (Session, error) {
			return nil, &ike.NoAnswerError{Step: ike.StepFindGateway}
		}
		f := w.wantFailure(w.connect(request()), app.CodeNoAnswer)
		if !strings.Contains(f.Hint, "wg0 (wireguard), has 0.0.0.0/0") {
			t.Errorf("%+v", f)
		}
	})
}

// Whatever of the host is in the way ends with exit code 7, and says what to do.
func TestHostFailures(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		says []string
	}{
		{"no TUN", fmt.Errorf("open: %w", tun.ErrNoDevice), []string{hints.device}},
		{"no right to a TUN", fmt.Errorf("open: %w", tun.ErrNoRights), []string{hints.rights}},
		{"no rights", &platform.Error{Part: platform.PartRoute, Err: platform.ErrNoRights}, []string{"route: no right", hints.rights}},
		{
			"resolv.conf", &platform.Error{Part: platform.PartDNS, Err: &platform.FileError{Path: "/etc/resolv.conf", Err: errors.New("read-only file system")}},
			[]string{"/etc/resolv.conf", "read-only"},
		},
		{"another VPN", &conflictError{platform.Conflict{Interface: "wg0", Owner: "wireguard", Claim: "::/0"}}, []string{"wg0 (wireguard)", "::/0", "end the other VPN"}},
		{"anything", &platform.Error{Part: platform.PartFirewall, Err: errors.New("there is a firewall table inet wayfarer that is somebody else's")}, []string{"firewall", "somebody else's"}},
	} {
		f := explain(&hostError{err: tt.err}, app.StepBuildTunnel)
		if f.Code != app.CodeNetworkConfig || f.Exit != 7 {
			t.Errorf("%s: %+v", tt.name, f)
		}
		for _, s := range tt.says {
			if !strings.Contains(f.Error(), s) {
				t.Errorf("%s: %q does not say %q", tt.name, f.Error(), s)
			}
		}
	}
}

func addrs(texts ...string) []netip.Addr {
	list := make([]netip.Addr, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParseAddr(text)
	}
	return list
}

// TestOutdatedOnce: what cannot be put back is tried each time, and told once while the
// reason is the same.
func TestOutdatedOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.wantState(w.connect(request()), app.StateConnected)
		var log bytes.Buffer
		w.log = slog.New(slog.NewTextHandler(&log, nil))
		fail := func(err error) {
			w.host.mu.Lock()
			w.host.err = err
			w.host.mu.Unlock()
		}
		for _, reason := range []string{"no engine", "no transaction"} {
			fail(errors.New(reason))
			for range 5 {
				w.host.happen(platform.EventTaken)
				synctest.Wait()
			}
			if n := strings.Count(log.String(), reason); n != 1 {
				t.Errorf("%s is told %d times", reason, n)
			}
		}
		if n := strings.Count(log.String(), "event=taken"); n != 1 {
			t.Errorf("that something was taken is told %d times", n)
		}
		fail(nil)
		w.host.happen(platform.EventTaken)
		synctest.Wait()
		if w.isOutdated() {
			t.Error("what was put back is outdated")
		}
	})
}

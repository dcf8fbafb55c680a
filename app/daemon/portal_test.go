package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/ike"
	"wayfarer/platform"
)

// redirects answers as a portal does.
func redirects(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestProbe(t *testing.T) {
	page := probe{"http://probe.example/success.txt", http.StatusOK, []byte("success")}
	silent := probe{"http://probe.example/generate_204", http.StatusNoContent, nil}
	for _, tt := range []struct {
		name    string
		probe   probe
		answer  http.HandlerFunc
		captive bool
		host    string
		fails   bool
	}{
		{name: "free", probe: page, answer: answers(200, "success\n")},
		{name: "free, no content", probe: silent, answer: answers(204, "")},
		{name: "redirect", probe: page, answer: redirects("https://login.hotel.example/?mac=00:11"), captive: true, host: "login.hotel.example"},
		{name: "redirect to an address", probe: silent, answer: redirects("http://10.1.1.1:8080/x"), captive: true, host: "10.1.1.1"},
		{name: "redirect to itself", probe: page, answer: redirects("/login"), captive: true, host: "probe.example"},
		{name: "redirect to no host", probe: page, answer: redirects("http://a$b/"), captive: true, host: "probe.example"},
		{name: "redirect with a zone", probe: page, answer: redirects("http://[fe80::1%25eth0]/"), captive: true, host: "probe.example"},
		{name: "its own page", probe: page, answer: answers(200, "<html>Welcome to the hotel"), captive: true, host: "probe.example"},
		{name: "its own page, for no content", probe: silent, answer: answers(200, "<html>"), captive: true, host: "probe.example"},
		{name: "sign in first", probe: page, answer: answers(511, ""), captive: true, host: "probe.example"},
		{name: "endless", probe: page, answer: answers(200, strings.Repeat("x", 1<<20)), captive: true, host: "probe.example"},
		{name: "gone", probe: page, answer: answers(404, ""), fails: true},
		{name: "broken", probe: page, answer: answers(502, "success"), fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			visits := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				visits++
				if r.Host != "probe.example" || r.UserAgent() != "" || len(r.Cookies()) > 0 {
					t.Errorf("asked %s as %q", r.Host, r.UserAgent())
				}
				tt.answer(w, r)
			}))
			defer server.Close()
			dial := func(ctx context.Context, network, address string) (net.Conn, error) {
				if address != "probe.example:80" {
					t.Errorf("dials %s", address)
				}
				return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
			}
			host, captive, err := tt.probe.ask(t.Context(), dial)
			if captive != tt.captive || host != tt.host || (err != nil) != tt.fails {
				t.Errorf("%q, %v, %v", host, captive, err)
			}
			if visits != 1 {
				t.Errorf("%d visits", visits)
			}
		})
	}
}

// The first probe that gets an answer decides; the portal is found where the local
// network says it is, and with the probe's host, to which users go.
func TestLookForPortal(t *testing.T) {
	server := httptest.NewServer(redirects("http://portal.example/x"))
	defer server.Close()
	real := probes
	defer func() { probes = real }()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	probes = []probe{
		{"http://nowhere.example/", 204, nil},
		{"http://" + net.JoinHostPort("probe.example", strconv.Itoa(port)) + "/", 204, nil},
	}
	host := &fakeNetwork{outside: func(name string) ([]netip.Addr, error) {
		switch name {
		case "probe.example":
			return addrs("127.0.0.1"), nil
		case "portal.example":
			return addrs("10.1.1.1", "10.1.1.2"), nil
		}
		return nil, errors.New("no such host")
	}}
	d := New(Options{Network: host})
	defer d.Close(t.Context())
	found := d.lookForPortal(t.Context())
	if found == nil || found.host != "portal.example" || found.url != probes[1].url || !slices.Equal(found.addrs, addrs("10.1.1.1", "10.1.1.2", "127.0.0.1")) {
		t.Errorf("%+v", found)
	}
}

var hotel = &portal{url: "http://probe.example/", host: "login.hotel.example", addrs: addrs("10.1.1.1", "192.0.2.80")}

// A portal is what a failure names, and is looked for once in each network.
func TestPortalBeforeConnecting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		looks := 0
		var found *portal
		w.look = func(context.Context) *portal { looks++; return found }
		var err error = &ike.NoAnswerError{Step: ike.StepFindGateway, Gateway: "vpn.example.com"}
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, err }
		for range 3 {
			if f := w.wantFailure(w.connect(request()), app.CodeNoAnswer); strings.Contains(f.Hint, "sign in") {
				t.Errorf("%+v", f)
			}
		}
		if looks != 1 {
			t.Errorf("looked %d times", looks)
		}
		found = hotel
		w.host.happen(platform.EventNetwork)
		f := w.wantFailure(w.connect(blocking()), app.CodeNoAnswer)
		if !strings.Contains(f.Hint, "sign in first: open http://probe.example/") || !strings.Contains(f.Hint, "login.hotel.example") {
			t.Errorf("%+v", f)
		}
		err = &ike.CredentialsError{Step: ike.StepSignIn}
		w.host.happen(platform.EventNetwork)
		w.wantFailure(w.connect(request()), app.CodeSignInRefused)
		if looks != 2 {
			t.Errorf("looked %d times, also where the gateway answers", looks)
		}
	})
}

// While a connection is lost, users can reach the portal and nothing else for a while,
// once in each network.
func TestPortalOpening(t *testing.T) {
	for _, block := range []bool{true, false} {
		inWorld(t, func(t *testing.T, w *world) {
			w.look = func(context.Context) *portal { return hotel }
			first, works := newSession(), new(atomic.Bool)
			w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
				switch {
				case n == 0:
					return first, nil
				case works.Load():
					return newSession(), nil
				}
				return nil, &ike.NoAnswerError{Step: ike.StepFindGateway}
			}
			req := request()
			req.Profile.BlockOutside = block
			id := w.connect(req)
			first.end(&ike.NoAnswerError{})
			time.Sleep(minBackoff)
			synctest.Wait()
			open := func(when string, want bool) {
				t.Helper()
				cfg := w.host.last()
				// Beside the portal nothing gets out where the tunnel was, block or not.
				if cfg.BlockOutside != (block || want) || want && cfg.AllowLocal {
					t.Errorf("%s: block %v, local network %v", when, cfg.BlockOutside, cfg.AllowLocal)
				}
				if got := slices.Equal(cfg.Portal, hotel.addrs) && len(cfg.Tunnels) == 0; got != want || !want && (cfg.Portal != nil || len(cfg.Tunnels) != 1) {
					t.Errorf("%s: the host has %+v", when, cfg)
				}
			}
			open("at first", true)
			wantWarning(t, w.get(id), app.WarningCaptivePortal, "open http://probe.example/", "only these two are reachable", "UTC", "DNS servers are asked for all names")
			w.host.fail(errors.New("the host is busy"))
			time.Sleep(portalOpen)
			synctest.Wait()
			open("when the time is over and the host refuses", true)
			w.host.fail(nil)
			time.Sleep(closeAgain)
			synctest.Wait()
			open("when the time is over", false)
			time.Sleep(time.Hour)
			synctest.Wait()
			open("later, in the same network", false)
			wantWarning(t, w.get(id), app.WarningCaptivePortal, "open http://probe.example/")
			w.host.happen(platform.EventDefaultRoute)
			open("in another network", true)
			works.Store(true)
			time.Sleep(maxBackoff)
			synctest.Wait()
			c := w.wantState(id, app.StateConnected)
			open("connected", false)
			if len(c.Warnings) > 0 {
				t.Errorf("warnings %+v", c.Warnings)
			}
			sets := w.host.count()
			time.Sleep(2 * portalOpen)
			synctest.Wait()
			if w.host.count() != sets {
				t.Error("the opening has an end although it was over")
			}
		})
	}
}

// The network changes while it is asked: the answer is the other one's.
func TestPortalOfAnotherNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := portals{looking: make(chan struct{}, 1)}
		found, _ := p.find(t.Context(), func(context.Context) *portal {
			p.forget()
			return hotel
		})
		if found != nil {
			t.Error("the network before had it")
		}
		looks := 0
		for range 5 {
			go p.find(t.Context(), func(context.Context) *portal {
				time.Sleep(time.Second)
				looks++
				return hotel
			})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if looks != 1 {
			t.Errorf("looked %d times", looks)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		p.forget()
		if found, _ := p.find(ended, func(context.Context) *portal { return nil }); found != nil {
			t.Error("found although nobody looked")
		}
		if _, looked, _ := p.known(); looked {
			t.Error("an aborted look counts")
		}
	})
}

// Nobody waits for the question for a portal, and an answer that comes when the
// connection is there again changes nothing.
func TestPortalComesTooLate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.look = func(ctx context.Context) *portal {
			time.Sleep(10 * time.Minute)
			return hotel
		}
		first, works := newSession(), new(atomic.Bool)
		w.script = func(_ context.Context, n int, _ *ike.Config) (Session, error) {
			switch {
			case n == 0:
				return first, nil
			case works.Load():
				return newSession(), nil
			}
			return nil, &ike.NoAnswerError{Step: ike.StepFindGateway}
		}
		id := w.connect(blocking())
		first.end(&ike.NoAnswerError{})
		time.Sleep(minBackoff)
		synctest.Wait()
		w.wantState(id, app.StateBlocked)
		works.Store(true)
		time.Sleep(maxBackoff)
		synctest.Wait()
		w.wantState(id, app.StateConnected)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if cfg := w.host.last(); cfg.Portal != nil || len(cfg.Tunnels) != 1 {
			t.Errorf("the host has %+v", cfg)
		}
		if c := w.wantState(id, app.StateConnected); len(c.Warnings) > 0 {
			t.Errorf("warnings %+v", c.Warnings)
		}
	})
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
)

func fixed(s Session) func(context.Context, int, *ike.Config) (Session, error) {
	return func(context.Context, int, *ike.Config) (Session, error) { return s, nil }
}

// others gives each dial an address and a network of its own.
func others(_ context.Context, n int, _ *ike.Config) (Session, error) {
	s := newSession()
	s.assignment.Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(n)}), 32)}
	s.assignment.SplitInclude = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 10, byte(n), 0}), 24)}
	s.assignment.DNS = nil
	return s, nil
}

func named(name string) *control.ConnectRequest {
	req := request()
	req.Profile.Name = name
	return req
}

func TestSeveralConnections(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = others
		var ids []string
		for i := range 3 {
			id := w.connect(named(fmt.Sprint("office", i)))
			c := w.wantState(id, app.StateConnected)
			if id != fmt.Sprint("c", i+1) || c.TUN.Name != fmt.Sprint("wayfarer", i) {
				t.Errorf("connection %d: %s on %s", i, id, c.TUN.Name)
			}
			ids = append(ids, id)
		}
		if n := len(w.host.last().Tunnels); n != 3 {
			t.Errorf("the host has %d tunnels", n)
		}
		if failure := w.Disconnect(t.Context(), ids[1]); failure != nil {
			t.Fatal(failure)
		}
		left := w.host.last().Tunnels
		if len(left) != 2 || left[0].Interface != "wayfarer0" || left[1].Interface != "wayfarer2" {
			t.Errorf("the host has %+v", left)
		}
		// The lowest free name is used again, the ID is not.
		id := w.connect(named("again"))
		if c := w.wantState(id, app.StateConnected); id != "c4" || c.TUN.Name != "wayfarer1" {
			t.Errorf("%s on %s", id, c.TUN.Name)
		}
	})
}

// Without a profile's name a connection is known by whom it reaches: a second one of
// the same owner would only clash after it had signed in.
func TestSameConnectionTwice(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = others
		id := w.connect(named(""))
		_, failure := w.Connect(t.Context(), "ada", named(""))
		if failure == nil || failure.Code != app.CodeUsage || !strings.Contains(failure.Message, "vpn.example.com is already in use as connection "+id) {
			t.Errorf("a second time: %v", failure)
		}
		if w.dialled() != 1 {
			t.Errorf("dialled %d times", w.dialled())
		}
		w.wantState(id, app.StateConnected)
		// One of the two has a name: it is the same connection.
		if _, failure := w.Connect(t.Context(), "ada", named("office")); failure == nil || failure.Code != app.CodeUsage {
			t.Errorf("with a name: %v", failure)
		}
		elsewhere := named("")
		elsewhere.Profile.Gateway = "vpn.example.org"
		w.wantState(w.connect(elsewhere), app.StateConnected)
		if _, failure := w.Connect(t.Context(), "bob", named("")); failure != nil {
			t.Errorf("another owner: %v", failure)
		}
		w.Disconnect(t.Context(), id)
		w.wantState(w.connect(named("")), app.StateConnected)
	})
}

// A second connection to a gateway must not make it forget the first.
func TestNoInitialContactBesideAnother(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = others
		first := w.connect(named("a"))
		second := w.connect(named("b"))
		w.Disconnect(t.Context(), first)
		w.Disconnect(t.Context(), second)
		w.connect(named("c"))
		for i, want := range []bool{false, true, false} {
			if got := w.dials[i].Reconnect; got != want {
				t.Errorf("dial %d: Reconnect %v, want %v", i, got, want)
			}
		}
	})
}

func TestClashingConnection(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.connect(named("office"))
		w.script = func(ctx context.Context, n int, cfg *ike.Config) (Session, error) {
			s, err := others(ctx, n, cfg)
			s.(*fakeSession).assignment.SplitInclude = []netip.Prefix{netip.MustParsePrefix("10.10.0.128/25")}
			return s, err
		}
		second := w.connect(named("plant"))
		f := w.wantFailure(second, app.CodeNetworkConfig)
		if !strings.Contains(f.Message, "office (c1)") || f.Step != app.StepBuildTunnel {
			t.Errorf("%+v", f)
		}
		w.wantState(first, app.StateConnected)
		if n := len(w.host.last().Tunnels); n != 1 {
			t.Errorf("the host has %d tunnels", n)
		}
		// With the network left out there is none.
		req := named("plant")
		req.Profile.RoutesSkip = []string{"10.10.0.0/24"}
		w.wantState(w.connect(req), app.StateConnected)
	})
}

// Without a host network there is nothing to clash about.
func TestRootlessConnectionsDoNotClash(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.network = nil
		for i := range 2 {
			w.wantState(w.connect(named(fmt.Sprint(i))), app.StateConnected)
		}
		if w.host.count() != 0 {
			t.Error("the host was changed")
		}
	})
}

func TestSecondConnectionOfAProfile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = others
		w.connect(named("office"))
		_, failure := w.Connect(t.Context(), "ada", named("office"))
		if failure == nil || failure.Code != app.CodeUsage || !strings.Contains(failure.Message, "c1") {
			t.Errorf("the same profile again: %v", failure)
		}
		if _, failure := w.Connect(t.Context(), "bob", named("office")); failure != nil {
			t.Errorf("another user's profile of that name: %v", failure)
		}
	})
}

func TestFailedConnections(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = func(context.Context, int, *ike.Config) (Session, error) { return nil, &ike.CredentialsError{} }
		for i := range maxFailed {
			w.wantFailure(w.connect(named(fmt.Sprint("p", i))), app.CodeSignInRefused)
		}
		// A new attempt takes the place of the old one of its profile and owner.
		w.connect(named("p1"))
		if n := len(w.Connections()); n != maxFailed {
			t.Errorf("%d failed connections", n)
		}
		for _, c := range w.Connections() {
			if c.ID == "c2" {
				t.Error("the old attempt is still there")
			}
		}
		// Those of others have no part in it.
		for i := range maxFailed {
			if _, failure := w.Connect(t.Context(), "bob", named(fmt.Sprint("p", i))); failure != nil {
				t.Fatal(failure)
			}
		}
		synctest.Wait()
		own := func() []app.Connection {
			return slices.DeleteFunc(w.Connections(), func(c app.Connection) bool { return c.Owner != "ada" })
		}
		// One more drops the oldest.
		w.connect(named("more"))
		list := own()
		if len(list) != maxFailed || list[0].ID != "c3" {
			t.Errorf("%d failed connections, the oldest is %s", len(list), list[0].ID)
		}
		if failure := w.Disconnect(t.Context(), "c3"); failure != nil || len(own()) != maxFailed-1 {
			t.Errorf("a failed connection does not go: %v", failure)
		}
	})
}

func TestTooManyConnections(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = hang
		for i := range maxConnections {
			owner := fmt.Sprint("user", i/maxUserConnections)
			if _, failure := w.Connect(t.Context(), owner, named(fmt.Sprint(i))); failure != nil {
				t.Fatalf("connection %d: %v", i, failure)
			}
			if i == maxUserConnections-1 {
				if _, failure := w.Connect(t.Context(), owner, named("more")); failure == nil || failure.Code != app.CodeUsage {
					t.Errorf("one more of a user: %v", failure)
				}
			}
		}
		if _, failure := w.Connect(t.Context(), "ada", named("more")); failure == nil || failure.Code != app.CodeUsage {
			t.Errorf("one more: %v", failure)
		}
	})
}

// Managed profiles are not root's own connections, nor do those keep one from being
// connected.
func TestManagedAreNotCounted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.script = hang
		w.managed = []Managed{*named("office")}
		if _, failure := w.Connect(t.Context(), ManagedOwner, &control.ConnectRequest{Profile: app.Profile{Name: "office"}}); failure != nil {
			t.Fatal(failure)
		}
		for i := range maxUserConnections {
			if _, failure := w.Connect(t.Context(), ManagedOwner, named(fmt.Sprint(i))); failure != nil {
				t.Fatalf("connection %d: %v", i, failure)
			}
		}
		if _, failure := w.Connect(t.Context(), ManagedOwner, named("more")); failure == nil || failure.Code != app.CodeUsage {
			t.Errorf("one more: %v", failure)
		}
		w.managed = append(w.managed, *named("second"))
		if _, failure := w.Connect(t.Context(), ManagedOwner, &control.ConnectRequest{Profile: app.Profile{Name: "second"}}); failure != nil {
			t.Errorf("another managed one: %v", failure)
		}
	})
}

func TestUnknownConnection(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for name, failure := range map[string]*app.Failure{
			"Disconnect": w.Disconnect(t.Context(), "c9"),
			"Answer":     w.Answer("c9", &control.Answer{PromptID: "p1"}),
		} {
			if failure == nil || failure.Code != app.CodeUsage {
				t.Errorf("%s: %v", name, failure)
			}
		}
	})
}

func TestRefusedProfileLeavesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		req := request()
		req.Profile.Gateway = ""
		if _, failure := w.Connect(t.Context(), "ada", req); failure == nil || failure.Exit != 2 {
			t.Errorf("Connect: %v", failure)
		}
		if len(w.Connections()) != 0 {
			t.Error("it is listed")
		}
	})
}

func TestWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		changes, stop := w.Watch()
		session := newSession()
		w.script = fixed(session)
		id := w.connect(request())
		<-changes // many changes, one value
		select {
		case <-changes:
			t.Error("changes are not coalesced")
		default:
		}
		session.end(&ike.NoAnswerError{})
		synctest.Wait()
		<-changes
		stop()
		w.Disconnect(t.Context(), id)
		select {
		case <-changes:
			t.Error("a stopped watch got a change")
		default:
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.script = others
		w.connect(named("a"))
		w.connect(named("b"))
		w.script = hang
		w.connect(named("c"))
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		w.checkNothingLeft()
		if len(w.Connections()) != 0 {
			t.Errorf("left: %v", w.Connections())
		}
		if _, failure := w.Connect(t.Context(), "ada", request()); failure == nil || failure.Code != app.CodeNoService {
			t.Errorf("Connect after Close: %v", failure)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.connect(request())
		w.host.fail(errors.New("netlink: no buffer space"))
		if err := w.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "no buffer space") {
			t.Errorf("Close: %v", err)
		}
	})
}

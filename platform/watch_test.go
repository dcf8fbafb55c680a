package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// scene is a watchSource in a test's hand.
type scene struct {
	hints  chan struct{}
	sleeps chan bool
	names  chan struct{}

	foreign atomic.Bool // the file of name servers
	taken   atomic.Bool // something of ours is gone

	mu    sync.Mutex
	now   surroundings
	err   error
	looks int
}

func (s *scene) source() *watchSource {
	return &watchSource{hints: s.hints, names: s.names, sleeps: s.sleeps, foreign: s.foreign.Load, look: func() (surroundings, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.looks++
		return s.now, s.err
	}}
}

// standing is something that Set has made, of which taken says whether it is gone.
func (s *scene) standing() standing {
	return standing{taken: func(func([]change) (bool, error)) bool { return s.taken.Load() }}
}

// set is how it looks from now on.
func (s *scene) set(network, defaults string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.err = surroundings{network, defaults}, err
}

func (s *scene) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func TestWatchLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &scene{hints: make(chan struct{}, 1), sleeps: make(chan bool), names: make(chan struct{}, 1), now: surroundings{"n0", "d0"}}
		events := make(chan Event)
		go watchLoop(ctx, slog.New(slog.DiscardHandler), s.source(), s.now, s.standing(), events)
		synctest.Wait()
		// got is what comes until nothing more does, with the time it took.
		got := func() string {
			start := time.Now()
			var all []string
			for {
				select {
				case e := <-events:
					all = append(all, fmt.Sprintf("%s after %v", e.Kind, time.Since(start)))
				case <-time.After(time.Hour):
					return fmt.Sprint(all)
				}
			}
		}
		hint := func() { s.hints <- struct{}{} }

		hint()
		if g := got(); g != "[]" {
			t.Errorf("nothing has changed: %s", g)
		}
		s.set("n1", "d0", nil)
		hint()
		if g := got(); g != "[network after 250ms]" {
			t.Errorf("network: %s", g)
		}
		s.set("n1", "d1", nil)
		hint()
		if g := got(); g != "[default-route after 250ms]" {
			t.Errorf("default route: %s", g)
		}
		looks := s.looked()
		s.set("n2", "d2", nil)
		for range 5 { // within the time of one look
			hint()
			time.Sleep(settleTime / 10)
		}
		s.set("n3", "d3", nil)
		if g := got(); g != "[network after 125ms default-route after 125ms]" || s.looked() != looks+1 {
			t.Errorf("several: %s, %d looks", g, s.looked()-looks)
		}
		s.set("away", "away", nil)
		hint()
		time.Sleep(settleTime / 2)
		s.set("n3", "d3", nil)
		hint()
		if g := got(); g != "[]" {
			t.Errorf("there and back again: %s", g)
		}
		s.set("n4", "d3", errors.New("dark"))
		hint()
		if g := got(); g != "[]" {
			t.Errorf("cannot look: %s", g)
		}
		s.set("n4", "d3", nil)
		hint()
		if g := got(); g != "[network after 250ms]" {
			t.Errorf("can look again: %s", g)
		}
		s.taken.Store(true)
		for range 2 { // each time, for it may have come back and be gone again
			hint()
			if g := got(); g != "[taken after 250ms]" {
				t.Errorf("something of ours is gone: %s", g)
			}
		}
		s.taken.Store(false)
		go func() {
			s.sleeps <- true
			time.Sleep(time.Minute)
			s.sleeps <- false
		}()
		if g := got(); g != "[sleep after 0s wake after 1m0s]" {
			t.Errorf("sleep: %s", g)
		}
		s.names <- struct{}{}
		if g := got(); g != "[]" {
			t.Errorf("our own name servers: %s", g)
		}
		s.foreign.Store(true)
		for range 3 { // each time what was there before may be there again
			s.names <- struct{}{}
			time.Sleep(settleTime / 10)
			s.names <- struct{}{}
			if g := got(); g != "[names after 225ms]" {
				t.Errorf("another's name servers: %s", g)
			}
		}
		// Who does not read gets the last of each.
		for range 3 {
			s.sleeps <- true
			s.sleeps <- false
		}
		if g := got(); g != "[sleep after 0s wake after 0s]" {
			t.Errorf("slow reader: %s", g)
		}
		cancel()
		if _, open := <-events; open {
			t.Error("the channel is open")
		}
	})
}

// TestWatchBlock: a leak block of whose end nobody tells is looked after, and only that.
func TestWatchBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &scene{}
		source := s.source()
		source.blockIntact = func([]change) (bool, error) { return false, nil }
		n := &Network{}
		var asked atomic.Int32
		own := standing{block: n.block, taken: func(func([]change) (bool, error)) bool {
			asked.Add(1)
			return s.taken.Load()
		}}
		events := make(chan Event)
		go watchLoop(ctx, slog.New(slog.DiscardHandler), source, s.now, own, events)
		expect := func(what string, want time.Duration, looks int32) {
			t.Helper()
			start := time.Now()
			asked.Store(0)
			got := time.Duration(0)
			select {
			case e := <-events:
				if got = time.Since(start); e.Kind != EventTaken {
					t.Errorf("%s: %v", what, e)
				}
			case <-time.After(6*blockTime - time.Second):
			}
			if synctest.Wait(); got != want || asked.Load() != looks {
				t.Errorf("%s: after %v, looked %d times", what, got, asked.Load())
			}
		}
		become := func(now bool) {
			n.mu.Lock()
			n.applied = []change{&winFilterChange{Block: now}}
			n.changedLocked()
			n.mu.Unlock()
			synctest.Wait()
		}
		synctest.Wait()
		expect("no block", 0, 0)
		become(true)
		expect("a block stands", 0, 5)
		s.taken.Store(true)
		expect("it is gone", time.Second, 1)
		s.taken.Store(false)
		become(true) // by Set
		expect("it is back", 0, 5)
		become(false)
		expect("no more", 0, 0)
		cancel()
		synctest.Wait()
	})
}

func TestWatchUnavailable(t *testing.T) {
	n := (&world{}).on(t)
	var e *Error
	if events, err := n.Watch(t.Context()); events != nil || !errors.As(err, &e) || e.Part != PartWatch {
		t.Errorf("%v, %v", events, err)
	}
}

func TestOverlapString(t *testing.T) {
	nets := []string{
		"network 192.168.1.0/24 on eth0 meets the tunnel's network 192.168.1.0/24: the tunnel has it",
		"router 192.168.1.1/32 on eth0 meets the tunnel's network 192.168.1.0/24: it stays reachable",
		"network 10.0.0.0/8 on eth0 meets the tunnel's network 10.1.0.0/16: the tunnel has that part of it",
	}
	p := prefixes("192.168.1.0/24", "192.168.1.1/32", "10.0.0.0/8", "10.1.0.0/16")
	got := []string{
		Overlap{OverlapNetwork, p[0], "eth0", "wayfarer0", p[0], false}.String(),
		Overlap{OverlapRouter, p[1], "eth0", "wayfarer0", p[0], true}.String(),
		Overlap{OverlapNetwork, p[2], "eth0", "wayfarer0", p[3], false}.String(),
	}
	if !slices.Equal(got, nets) {
		t.Errorf("%q", got)
	}
}

package platform

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// EventKind is what has happened to the host.
type EventKind string

// Kinds of event.
const (
	// EventNetwork: interfaces other than the tunnels', their addresses or the
	// networks they are attached to have changed.
	EventNetwork EventKind = "network"
	// EventDefaultRoute: the way to everything else has changed.
	EventDefaultRoute EventKind = "default-route"
	// EventNames: another program has written the file that says how names are
	// resolved. If it was a tunnel's, Set makes it so again.
	EventNames EventKind = "names"
	// EventTaken: another program has removed a rule, a route, the firewall's table or
	// filters, a rule for names, an interface's name servers or a key of the dynamic store
	// that are ours, or group policy's rules for names have come or gone. Set makes it so
	// again.
	EventTaken EventKind = "taken"
	// EventSleep: the computer is about to sleep. Not every system tells.
	EventSleep EventKind = "sleep"
	// EventWake: the computer was asleep.
	EventWake EventKind = "wake"
)

// Event is something that happened to the host, for which tunnels may need a new way.
type Event struct {
	Kind EventKind
}

// settleTime is how long changes are collected before they are looked at: an
// interface that comes up makes a dozen.
const settleTime = 250 * time.Millisecond

// watchSource is what an operating system tells.
type watchSource struct {
	hints  <-chan struct{} // something may have changed; coalesced
	names  <-chan struct{} // the file of name servers was written; coalesced; nil: unknown
	sleeps <-chan bool     // true: will sleep; false: has slept
	// silent names what nobody tells of, so that it is looked now and then.
	silent []string
	// foreign says whether that file is another program's than ours.
	foreign func() bool
	// look reads how the host is.
	look func() (surroundings, error)
	// intact says whether changes that were made are still there.
	intact func(standing []change) (bool, error)
	// blockIntact says so of leak blocks, where it may be that nothing tells when they are
	// removed; nil: it is told.
	blockIntact func(standing []change) (bool, error)
}

// blockTime is how often it is looked then whether a leak block is still there.
const blockTime = 10 * time.Second

// standing is what Set has made, as far as a watch asks about it.
type standing struct {
	// taken says whether something of it is gone.
	taken func(intact func([]change) (bool, error)) bool
	// block says whether there is a leak block, and gives a channel that is closed when
	// that may be otherwise.
	block func() (bool, <-chan struct{})
}

// surroundings are what events are about, as text that differs when they do.
type surroundings struct {
	network, defaults string
}

// Watch reports what happens to the host until ctx ends, and then closes the channel.
// A slow reader misses repetitions of what it has not read yet. The error is an *Error.
func (n *Network) Watch(ctx context.Context) (<-chan Event, error) {
	source, err := n.host.watch(ctx, n.interfaces)
	if err != nil {
		return nil, &Error{PartWatch, err}
	}
	before, err := source.look()
	if err != nil {
		return nil, &Error{PartWatch, err}
	}
	events := make(chan Event)
	go watchLoop(ctx, n.log, source, before, standing{n.taken, n.block}, events)
	return events, nil
}

// taken says whether something is gone that Set has made. A Set that is at work is
// waited for.
func (n *Network) taken(intact func([]change) (bool, error)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	is, err := intact(n.applied)
	if err != nil {
		n.log.Warn("network: cannot see what is left of the changes", "error", err)
		return false
	}
	return !is
}

// block says whether a leak block stands, until the channel is closed.
func (n *Network) block() (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return slices.ContainsFunc(n.applied, change.blocks), n.changed
}

// changedLocked tells those who wait that something else may stand.
func (n *Network) changedLocked() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

func watchLoop(ctx context.Context, log *slog.Logger, source *watchSource, last surroundings, own standing, events chan<- Event) {
	defer close(events)
	var pending []Event
	report := func(kind EventKind) {
		e := Event{kind}
		pending = append(slices.DeleteFunc(pending, func(p Event) bool { return p == e }), e)
	}
	var settled, written, again <-chan time.Time
	var otherwise <-chan struct{}
	guard := func() {
		if source.blockIntact == nil {
			return
		}
		stands := false
		if stands, otherwise = own.block(); stands {
			again = time.After(blockTime)
		} else {
			again = nil
		}
	}
	guard()
	for {
		var out chan<- Event
		var first Event
		if len(pending) > 0 {
			out, first = events, pending[0]
		}
		select {
		case <-ctx.Done():
			return
		case out <- first:
			pending = pending[1:]
		case <-source.hints:
			if settled == nil {
				settled = time.After(settleTime)
			}
		case <-settled:
			settled = nil
			if own.taken(source.intact) {
				report(EventTaken)
			}
			now, err := source.look()
			if err != nil {
				log.Warn("network: cannot see the host", "error", err)
				continue
			}
			if now.network != last.network {
				report(EventNetwork)
			}
			if now.defaults != last.defaults {
				report(EventDefaultRoute)
			}
			last = now
		case <-source.names:
			if written == nil {
				written = time.After(settleTime)
			}
		case <-written:
			if written = nil; source.foreign() {
				report(EventNames)
			}
		case <-otherwise:
			guard()
		case <-again:
			if own.taken(source.blockIntact) {
				report(EventTaken)
			}
			guard()
		case asleep := <-source.sleeps:
			if asleep {
				report(EventSleep)
			} else {
				report(EventWake)
			}
		}
	}
}

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
	// EventTaken: another program has removed a rule, a route or the firewall's table that
	// is ours. Set makes it so again.
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
	// foreign says whether that file is another program's than ours.
	foreign func() bool
	// look reads how the host is.
	look func() (surroundings, error)
	// intact says whether changes that were made are still there.
	intact func(standing []change) (bool, error)
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
	go watchLoop(ctx, n.log, source, before, func() bool { return n.taken(source) }, events)
	return events, nil
}

// taken says whether something is gone that Set has made. A Set that is at work is
// waited for.
func (n *Network) taken(source *watchSource) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	intact, err := source.intact(n.applied)
	if err != nil {
		n.log.Warn("network: cannot see what is left of the changes", "error", err)
		return false
	}
	return !intact
}

func watchLoop(ctx context.Context, log *slog.Logger, source *watchSource, last surroundings, taken func() bool, events chan<- Event) {
	defer close(events)
	var pending []Event
	report := func(kind EventKind) {
		e := Event{kind}
		pending = append(slices.DeleteFunc(pending, func(p Event) bool { return p == e }), e)
	}
	var settled, written <-chan time.Time
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
			if taken() {
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
		case asleep := <-source.sleeps:
			if asleep {
				report(EventSleep)
			} else {
				report(EventWake)
			}
		}
	}
}

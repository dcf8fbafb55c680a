package daemon

import "sync"

// watchers are those who wait for changes. The zero value has none.
type watchers struct {
	mu       sync.Mutex
	channels map[chan struct{}]struct{}
}

// watch returns a channel that gets a value, coalesced, after each notify, and a
// function that ends the watch.
func (w *watchers) watch() (changes <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.channels == nil {
		w.channels = make(map[chan struct{}]struct{})
	}
	w.channels[c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.channels, c)
	}
}

func (w *watchers) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.channels {
		select {
		case c <- struct{}{}:
		default: // a value already waits
		}
	}
}

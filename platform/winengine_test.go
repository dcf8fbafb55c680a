package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// fakeFilters is what the Windows Filtering Platform has of our provider.
type fakeFilters struct {
	provider, sublayer bool
	filters            []winFilterRef
	next               uint64 // number of a filter
}

func (f *fakeFilters) names() []string {
	var names []string
	for _, ref := range f.filters {
		names = append(names, ref.name)
	}
	return names
}

func (f *fakeFilters) String() string {
	return fmt.Sprintf("provider %v sublayer %v\n%s", f.provider, f.sublayer, strings.Join(f.names(), "\n"))
}

// fakeEngine is a session. Without a transaction each call is one.
type fakeEngine struct {
	w    *fakeWindows
	open bool
	own  fakeFilters // as the transaction has them
}

// What the engine answers (fwpmu.h).
var (
	errFWPMissing = fmt.Errorf("%w: FWP_E_..._NOT_FOUND", fs.ErrNotExist)
	errFWPThere   = fmt.Errorf("%w: FWP_E_ALREADY_EXISTS", fs.ErrExist)
	errFWPInUse   = errors.New("FWP_E_IN_USE")
	errFWPTxn     = errors.New("FWP_E_TXN_IN_PROGRESS")
	errFWPNoTxn   = errors.New("FWP_E_NO_TXN_IN_PROGRESS")
	errFWPClosed  = errors.New("the session is closed")
)

// engine opens a session.
func (w *fakeWindows) engine() (winEngine, error) {
	if err := w.fail["open the engine"]; err != nil {
		return winEngine{}, err
	}
	e := &fakeEngine{w: w, open: true}
	is := func(there *bool, missing ...*bool) func() error { // adds one
		return func() error {
			if *there {
				return errFWPThere
			}
			if slices.ContainsFunc(missing, func(m *bool) bool { return !*m }) {
				return errFWPMissing
			}
			*there = true
			return nil
		}
	}
	no := func(there *bool, used func() bool) func() error { // removes one
		return func() error {
			if !*there {
				return errFWPMissing
			}
			if used() {
				return errFWPInUse
			}
			*there = false
			return nil
		}
	}
	f := &e.own
	hasFilters := func() bool { return len(f.filters) > 0 }
	return winEngine{
		begin: e.begin, commit: e.commit, abort: e.abort, close: e.close,
		filters: func() ([]winFilterRef, error) {
			if w.txn == e {
				return slices.Clone(e.own.filters), w.fail["list filters"]
			}
			return slices.Clone(w.wfp.filters), w.fail["list filters"]
		},
		addProvider:    e.change("add the provider", is(&f.provider)),
		removeProvider: e.change("remove the provider", no(&f.provider, func() bool { return f.sublayer || hasFilters() })),
		addSublayer:    e.change("add the sublayer", is(&f.sublayer, &f.provider)),
		removeSublayer: e.change("remove the sublayer", no(&f.sublayer, hasFilters)),
		addFilter: func(filter winFilter) error {
			return e.change("add filter "+filter.String(), func() error {
				if !f.provider || !f.sublayer {
					return errFWPMissing
				}
				f.next++
				f.filters = append(f.filters, winFilterRef{f.next, filter.String()})
				return nil
			})()
		},
		removeFilter: func(id uint64) error {
			return e.change(fmt.Sprintf("remove filter %d", id), func() error {
				i := slices.IndexFunc(f.filters, func(ref winFilterRef) bool { return ref.id == id })
				if i < 0 {
					return errFWPMissing
				}
				f.filters = slices.Delete(f.filters, i, i+1)
				return nil
			})()
		},
	}, nil
}

// change is a call that changes what the transaction has, or at once all there is.
func (e *fakeEngine) change(name string, do func() error) func() error {
	return func() error {
		if err := e.w.step("%s", name); err != nil {
			return err
		}
		switch {
		case !e.open:
			return errFWPClosed
		case e.w.txn == e:
			return do()
		case e.w.txn != nil:
			return errFWPTxn
		}
		if err := e.begin(); err != nil {
			return err
		}
		if err := do(); err != nil {
			return errors.Join(err, e.abort())
		}
		return e.commit()
	}
}

func (e *fakeEngine) begin() error {
	if e.w.txn != nil {
		return errFWPTxn
	}
	e.w.txn, e.own = e, e.w.wfp
	e.own.filters = slices.Clone(e.own.filters)
	return nil
}

func (e *fakeEngine) commit() error {
	if e.w.txn != e {
		return errFWPNoTxn
	}
	if err := e.w.change("set %d filters", len(e.own.filters)); err != nil {
		return err
	}
	e.w.wfp, e.w.txn = e.own, nil
	return nil
}

func (e *fakeEngine) abort() error {
	if e.w.txn != e {
		return errFWPNoTxn
	}
	e.w.txn = nil
	return nil
}

// close ends the session, and with it a transaction.
func (e *fakeEngine) close() error {
	if !e.open {
		return errFWPClosed
	}
	if e.open = false; e.w.txn == e {
		e.w.txn = nil
	}
	return nil
}

// TestWindowsFiltersAtOnce: whichever moment it is, the engine has all of the old filters
// or all of the new ones.
func TestWindowsFiltersAtOnce(t *testing.T) {
	w := newFakeWindows()
	n := w.on(t, t.TempDir())
	var seen []string
	look := func() {
		if is := w.wfp.String(); !slices.Contains(seen, is) {
			seen = append(seen, is)
		}
	}
	w.before = look
	for i, cfg := range []Config{
		{BlockOutside: true},
		{Tunnels: []Tunnel{winFull()}, BlockOutside: true},
		{Tunnels: []Tunnel{winFull()}, BlockOutside: true, AllowLocal: true},
		{Tunnels: []Tunnel{winFull()}},
		{},
	} {
		if err := n.Set(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if look(); len(seen) != min(i+2, 5) { // the last is as the first
			t.Errorf("wish %d: %d states so far:\n%s", i, len(seen), strings.Join(seen, "\n\n"))
		}
	}
	if w.wfp.provider || w.wfp.sublayer || w.txn != nil {
		t.Errorf("left: %v", &w.wfp)
	}
}

package platform

import (
	"errors"
	"fmt"
)

// winEngine is an open session with the Windows Filtering Platform, and what it has of our
// provider. What a transaction changes counts from when it is committed. One that never is,
// also because the process ends, has changed nothing.
type winEngine struct {
	begin, commit, abort func() error
	// filters lists ours, in any order.
	filters func() ([]winFilterRef, error)
	// A sublayer belongs to a provider, and filters to both: what something belongs to is
	// there before it, and is not removed before it.
	addProvider, removeProvider func() error
	addSublayer, removeSublayer func() error
	addFilter                   func(winFilter) error
	removeFilter                func(id uint64) error
	close                       func() error
}

// winFilterRef is a filter that the engine has.
type winFilterRef struct {
	id   uint64 // the engine's
	name string // our text
}

// with opens the engine for f.
func (s *winSystem) with(f func(*winEngine) error) error {
	engine, err := s.engine()
	if err != nil {
		return err
	}
	return errors.Join(f(&engine), engine.close())
}

// filters are the texts of our filters, in any order.
func (s *winSystem) filters() (texts []string, err error) {
	err = s.with(func(e *winEngine) error {
		all, err := e.filters()
		for _, f := range all {
			texts = append(texts, f.name)
		}
		return err
	})
	return texts, err
}

// setFilters replaces all of our filters at once. Without any, nothing of ours stays.
func (s *winSystem) setFilters(all []winFilter) error {
	return s.with(func(e *winEngine) error {
		if err := e.begin(); err != nil {
			return err
		}
		err := e.clear()
		if err == nil && len(all) > 0 {
			err = e.add(all)
		}
		if err != nil {
			return errors.Join(err, e.abort())
		}
		return e.commit()
	})
}

// clear removes all that is ours.
func (e *winEngine) clear() error {
	all, err := e.filters()
	if err != nil {
		return err
	}
	for _, f := range all {
		if err := unlessAbsent(e.removeFilter(f.id)); err != nil {
			return err
		}
	}
	if err := unlessAbsent(e.removeSublayer()); err != nil {
		return err
	}
	return unlessAbsent(e.removeProvider())
}

// add adds provider, sublayer and filters.
func (e *winEngine) add(all []winFilter) error {
	if err := e.addProvider(); err != nil {
		return err
	}
	if err := e.addSublayer(); err != nil {
		return err
	}
	for _, f := range all {
		if err := e.addFilter(f); err != nil {
			return fmt.Errorf("filter %q: %w", f, err)
		}
	}
	return nil
}

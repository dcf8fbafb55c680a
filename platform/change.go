package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// change is one thing on the host that is different while a wish stands. It is plain
// data, which the journal holds as JSON: what it is about, how it shall be, and how it
// was before. A change read from the journal may never have been made, or made only
// in part: undoing it then does no harm.
type change interface {
	fmt.Stringer // the wished state, as text

	// part is what fails when the change fails.
	part() Part
	// kind names the type, for decoding; the exported fields are the data.
	kind() string
	// survives says whether the change is still there after a restart of the computer.
	survives() bool
	// blocks says whether it is a leak block, which may outlive the process.
	blocks() bool
	// id names the thing, whatever its state. Two changes with the same id are
	// about the same thing: the newer replaces the older.
	id() string
	// inherit takes from an older change of the same id how the thing was before.
	inherit(older change)
	// apply makes the thing as wished, and does nothing if it is.
	apply(ctx context.Context) error
	// undo makes the thing as it was. It does nothing if the thing is gone, or
	// if somebody else has changed it meanwhile.
	undo(ctx context.Context) error
}

// plain is what most changes are: undone by a restart of the computer, and no block.
type plain struct{}

func (plain) survives() bool { return false }
func (plain) blocks() bool   { return false }

// converge leads the host from the changes that stand to those that are wanted and
// returns the ones that stand then. On an error of the way there these are the ones
// from before; what cannot be undone stays in the list, for the next time.
//
// In the journal is, at any time, all that may stand.
func converge(ctx context.Context, log *slog.Logger, journal *journal, standing, wanted []change) ([]change, error) {
	for _, c := range wanted {
		if older := find(standing, c.id()); older != nil {
			c.inherit(older)
		}
	}
	if err := journal.keep(slices.Concat(standing, wanted)); err != nil {
		return standing, &Error{PartJournal, err}
	}
	left, err := advance(ctx, log, standing, wanted)
	if err := journal.keep(left); err != nil {
		log.Warn("network: the journal lists more than there is", "error", err)
	}
	return left, err
}

// advance is converge without the journal.
func advance(ctx context.Context, log *slog.Logger, standing, wanted []change) ([]change, error) {
	for i, c := range wanted {
		older := find(standing, c.id())
		if older == nil || older.String() != c.String() {
			log.Debug("network: apply", "change", c.String())
		}
		if err := c.apply(ctx); err != nil {
			left, undoErr := rollBack(ctx, log, standing, wanted[:i+1])
			return left, &Error{c.part(), errors.Join(fmt.Errorf("%v: %w", c, err), undoErr)}
		}
	}
	undoCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	var failed []error
	var left []change
	for _, c := range slices.Backward(standing) {
		if find(wanted, c.id()) != nil {
			continue
		}
		if err := undo(undoCtx, log, c); err != nil {
			failed = append(failed, &Error{c.part(), err})
			left = append(left, c)
		}
	}
	slices.Reverse(left)
	return slices.Concat(left, wanted), first(failed)
}

// rollBack undoes the changes that were tried and makes the standing ones stand
// again, as far as they were replaced.
func rollBack(ctx context.Context, log *slog.Logger, standing, tried []change) ([]change, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	var failed []error
	var left []change
	for _, c := range slices.Backward(tried) {
		if find(standing, c.id()) != nil {
			continue
		}
		if err := undo(ctx, log, c); err != nil {
			failed = append(failed, err)
			left = append(left, c)
		}
	}
	for _, c := range standing {
		if find(tried, c.id()) == nil {
			continue
		}
		if err := c.apply(ctx); err != nil {
			failed = append(failed, fmt.Errorf("put back %v: %w", c, err))
		}
	}
	slices.Reverse(left)
	return slices.Concat(standing, left), errors.Join(failed...)
}

func undo(ctx context.Context, log *slog.Logger, c change) error {
	log.Debug("network: undo", "change", c.String())
	if err := c.undo(ctx); err != nil {
		log.Warn("network: cannot undo", "change", c.String(), "error", err)
		return fmt.Errorf("undo %v: %w", c, err)
	}
	return nil
}

func find(changes []change, id string) change {
	for _, c := range changes {
		if c.id() == id {
			return c
		}
	}
	return nil
}

// joinParts is first without what is no error.
func joinParts(errs ...error) error {
	return first(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}

// first makes one *Error of several: the part of the first, the texts of all.
func first(failed []error) error {
	var e *Error
	if len(failed) == 0 || !errors.As(failed[0], &e) {
		return errors.Join(failed...)
	}
	failed[0] = e.Err
	return &Error{e.Part, errors.Join(failed...)}
}

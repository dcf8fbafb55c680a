package platform

import (
	"context"
	"fmt"
)

// fakeBus records what is said to systemd-resolved.
type fakeBus struct {
	silent bool  // nobody answers
	fail   error // of every call
	calls  []string
}

func (b *fakeBus) answers(context.Context) bool { return !b.silent }

func (b *fakeBus) call(_ context.Context, method string, args ...any) error {
	b.calls = append(b.calls, fmt.Sprint(append([]any{method}, args...)...))
	return b.fail
}

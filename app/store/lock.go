package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	// lockTime bounds how long a change waits for that of another program, which may
	// itself wait for a person who unlocks the keyring.
	lockTime = 10 * time.Second
	lockPoll = 20 * time.Millisecond
)

// ErrBusy means that another program is changing the profiles, and does not end.
var ErrBusy = errors.New("another program is changing the profiles; try again")

// lock makes this the only one, of all programs, that changes profiles. The operating
// system takes the lock back when a program ends, however it does.
func (s *Store) lock() (unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for profiles: %w", err)
	}
	s.mu.Lock()
	file := flock.New(filepath.Join(s.dir, "lock"), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(context.Background(), lockTime)
	defer cancel()
	if _, err := file.TryLockContext(ctx, lockPoll); err != nil {
		s.mu.Unlock()
		if ctx.Err() != nil {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock the profiles: %w", err)
	}
	return func() {
		_ = file.Close() // nothing was written
		s.mu.Unlock()
	}, nil
}

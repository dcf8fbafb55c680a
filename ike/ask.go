package ike

import (
	"context"
	"errors"
	"sync"
	"time"
)

// halfOpenLife is how long a gateway is trusted to wait for a sign-in since phase 1:
// strongSwan drops an SA that is half-open for 30 s, and tells nobody what it was.
const halfOpenLife = 25 * time.Second

// ErrNobodyToAsk says that the gateway asked something and Config.Prompt is nil.
var ErrNobodyToAsk = errors.New("the gateway asks a question and nobody is there to answer")

// errTooLate: the answer came when the gateway had probably dropped the SA. It was not
// sent, and is there for a fresh one.
var errTooLate = errors.New("the user's answer came too late for this SA")

// unsentAnswer waits for its question to be asked again.
type unsentAnswer struct {
	question Prompt
	text     Secret
}

// ask asks the user, unless his answer to the very question has not been sent yet.
func (sa *isakmpSA) ask(ctx context.Context, p Prompt) (Secret, error) {
	if text := sa.s.takeUnsent(p); text != nil {
		return text, nil
	}
	if sa.s.cfg.Prompt == nil {
		sa.declined = true
		return nil, ErrNobodyToAsk
	}
	sa.s.thinking.begin()
	answer, err := sa.s.cfg.Prompt(ctx, p)
	sa.s.thinking.end()
	sa.declined = err != nil && ctx.Err() == nil
	if err == nil && !sa.signingIn && sa.xauthReplies == 0 && time.Since(sa.established) > halfOpenLife {
		sa.log.Info("the answer came late; signing in afresh")
		sa.s.keepUnsent(&unsentAnswer{p, answer.Text})
		return nil, errTooLate
	}
	return answer.Text, err
}

// takeUnsent gives the answer that waits for a question, once. One to another
// question is of no use any more.
func (s *Session) takeUnsent(p Prompt) Secret {
	s.mu.Lock()
	u := s.unsent
	s.unsent = nil
	s.mu.Unlock()
	switch {
	case u == nil:
		return nil
	case u.question != p:
		u.text.Zero()
		return nil
	}
	return u.text
}

// keepUnsent replaces the answer that waits; nil drops it.
func (s *Session) keepUnsent(u *unsentAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsent != nil {
		s.unsent.text.Zero()
	}
	s.unsent = u
}

// Words remembers under which words of its gateway a password was given. Gateways ask
// for passwords and for one-time passwords in the same field, and only the words tell
// which. The zero value knows none; several goroutines may use it at once.
type Words struct {
	mu sync.Mutex
	of map[string]string // by the gateway's host
}

// differ reports whether the password was given under other words before. A gateway
// that says nothing asks for what it always asks for.
func (w *Words) differ(host, words string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	known, given := w.of[host]
	return given && words != "" && words != known
}

// keep remembers the words of a gateway. One that says nothing asks for what it always
// asks for.
func (w *Words) keep(host, words string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, given := w.of[host]; given && words == "" {
		return
	}
	if w.of == nil {
		w.of = make(map[string]string)
	}
	w.of[host] = words
}

// knownPassword is a copy of the password, nil if there is none. If it was given under
// other words before, it is changed: those of now may mean another.
func (s *Session) knownPassword(words string) (known Secret, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password.Clone(), s.cfg.Words.differ(s.host, words)
}

// keepPassword keeps a copy of the password that is given under the gateway's words.
func (s *Session) keepPassword(p Secret, words string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Words.keep(s.host, words)
	s.password.Zero()
	s.password = p.Clone()
}

func (s *Session) forgetPassword() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password.Zero()
	s.password = nil
}

// thinking measures how long the user has been asked, so that what bounds the
// gateway's time does not bound the user's.
type thinking struct {
	mu    sync.Mutex
	asked int       // questions that wait
	since time.Time // the first of them was asked
	total time.Duration
}

func (t *thinking) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked++; t.asked == 1 {
		t.since = time.Now()
	}
}

func (t *thinking) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked--; t.asked == 0 {
		t.total += time.Since(t.since)
	}
}

// time is how long the user has thought in all; it grows while a question waits.
func (t *thinking) time() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked > 0 {
		return t.total + time.Since(t.since)
	}
	return t.total
}

// within is ctx until the gateway has taken its time.
func (t *thinking) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	began, before := time.Now(), t.time()
	go func() {
		for {
			left := limit + t.time() - before - time.Since(began)
			if left <= 0 {
				cancel(context.DeadlineExceeded)
				return
			}
			select {
			case <-time.After(left):
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

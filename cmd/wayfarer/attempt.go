package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
)

const (
	// timeoutGrace is how much longer than the service this side waits, which
	// matters only when the service fails to end an attempt.
	timeoutGrace = 5 * time.Second
	// cancelTime bounds the clean-up after Ctrl+C.
	cancelTime = 15 * time.Second
)

// attempt follows one connection until it stands or has failed; with stay also
// afterwards.
type attempt struct {
	*env
	svc   service
	id    string
	login string // of the profile, if it has one
	step  stepPrinter

	// trusted means that the person trusted a gateway in this attempt.
	trusted bool
	// retyped means that the gateway asked for a password again: the first one was
	// wrong, or not all that it wanted.
	retyped bool

	question *question // open, or nil
	answered string    // the prompt that this side has answered last

	// The time-out stands still while a prompt waits.
	timer   *time.Timer
	left    time.Duration
	started time.Time // zero: it stands still
}

// question is a prompt that is being put to the person.
type question struct {
	prompt *app.Prompt
	giveUp context.CancelFunc
	answer chan *control.Answer // one; nil: none was given
}

// establish connects and follows what happens until the connection stands: it shows
// the steps and asks what the gateway asks. When it returns an error, no attempt is
// left running. It zeroises the request.
func (e *env) establish(ctx context.Context, svc service, req *control.ConnectRequest, timeout time.Duration) (*attempt, *app.Connection, error) {
	a := &attempt{env: e, svc: svc, login: req.Profile.Login, step: stepPrinter{out: io.Discard}}
	if e.progress {
		a.step.out = e.err
	}
	id, err := svc.Connect(ctx, req)
	req.Zero()
	if err != nil {
		return a, nil, err
	}
	a.id = id
	a.left = timeout + timeoutGrace
	conn, err := a.follow(ctx)
	return a, conn, err
}

// news is what the service tells of the connection.
type news struct {
	conn *app.Connection // nil: there is none any more
	err  error
}

// updates are those of the connection until ctx ends.
func (a *attempt) updates(ctx context.Context) <-chan news {
	out := make(chan news)
	go func() {
		for status, err := range a.svc.Watch(ctx) {
			n := news{err: err}
			if err == nil {
				n.conn = find(status, a.id)
			}
			select {
			case out <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func find(status *app.Status, id string) *app.Connection {
	for i := range status.Connections {
		if status.Connections[i].ID == id {
			return &status.Connections[i]
		}
	}
	return nil
}

func (a *attempt) follow(ctx context.Context) (*app.Connection, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	updates := a.updates(watching)
	a.timer = time.NewTimer(a.left)
	defer a.timer.Stop()
	a.started = time.Now()
	defer a.dropQuestion()
	for {
		select {
		case <-ctx.Done():
			return nil, a.cancel(ctx, cancelled())
		case <-a.timer.C:
			return nil, a.cancel(ctx, app.NewFailure(app.CodeNoAnswer, a.step.now, "the connection did not come up in time",
				"check the gateway's name and the network, or give more time with --timeout"))
		case n := <-updates:
			if n.err != nil {
				return nil, n.err
			}
			if done, err := a.update(ctx, n.conn); done {
				return n.conn, err
			}
		case answer := <-a.answers():
			if err := a.send(ctx, answer); err != nil {
				return nil, a.cancel(ctx, err)
			}
		}
	}
}

// stay follows a connection that stands until ctx ends, with nil, or the connection
// has, with its failure. It asks what the gateway asks, as when the sign-in is renewed,
// and tells of each change of state.
func (a *attempt) stay(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	updates := a.updates(watching)
	defer a.dropQuestion()
	state := app.StateConnected
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-updates:
			switch {
			case n.err != nil:
				return n.err
			case n.conn == nil:
				return app.NewFailure(app.CodeCancelled, "", "the connection was ended", "")
			case n.conn.State == app.StateFailed:
				return asError(n.conn.Failure)
			}
			a.dropOld(n.conn)
			if n.conn.State != state {
				state = n.conn.State
				fmt.Fprintf(a.err, "%s: %s\n", plainLine(nameOf(n.conn)), stateNames[state])
			}
			a.putNew(ctx, n.conn)
		case answer := <-a.answers():
			if err := a.send(ctx, answer); err != nil {
				return err
			}
		}
	}
}

// answers gets the answer to the open question; nil: there is none.
func (a *attempt) answers() <-chan *control.Answer {
	if a.question == nil {
		return nil
	}
	return a.question.answer
}

// update looks at a new state of the connection; done ends the attempt.
func (a *attempt) update(ctx context.Context, conn *app.Connection) (done bool, err error) {
	if conn == nil || conn.State == app.StateDisconnected {
		return true, app.NewFailure(app.CodeCancelled, "", "the connection was ended from elsewhere", "")
	}
	a.dropOld(conn)
	a.hold(conn.State == app.StateActionNeeded)
	a.step.show(conn)
	switch {
	case conn.State == app.StateConnected:
		return true, nil
	case conn.Failure != nil: // failed, or blocked and lost for good
		return true, conn.Failure
	case conn.State == app.StateFailed:
		return true, app.NewFailure(app.CodeInternal, conn.Step, "the connection failed", "see the service's log")
	}
	a.putNew(ctx, conn)
	return false, nil
}

// hold lets the time-out stand still, or go on.
func (a *attempt) hold(still bool) {
	switch {
	case still && !a.started.IsZero():
		a.timer.Stop()
		a.left -= time.Since(a.started)
		a.started = time.Time{}
	case !still && a.started.IsZero():
		a.timer.Reset(a.left)
		a.started = time.Now()
	}
}

// putNew puts the connection's prompt to the person, if it is a new one, in a goroutine
// that ends with the question.
func (a *attempt) putNew(ctx context.Context, conn *app.Connection) {
	if conn.Prompt == nil || a.ask == nil || a.question != nil || conn.Prompt.ID == a.answered {
		return
	}
	a.step.interrupt()
	asking, giveUp := context.WithCancel(ctx)
	q := &question{prompt: conn.Prompt, giveUp: giveUp, answer: make(chan *control.Answer, 1)}
	a.question, a.answered = q, q.prompt.ID
	go func() {
		defer giveUp()
		answer, err := a.askPrompt(asking, conn, a.login)
		switch {
		case errors.Is(err, io.EOF): // the person wants no more
			answer = refuse(conn.Prompt)
		case err != nil:
			answer = nil
		}
		q.answer <- answer
	}()
}

// dropOld takes an open question back that the connection does not ask any more: it was
// answered elsewhere, or the gateway did not wait.
func (a *attempt) dropOld(conn *app.Connection) {
	if a.question != nil && (conn.Prompt == nil || conn.Prompt.ID != a.question.prompt.ID) {
		a.dropQuestion()
	}
}

// dropQuestion takes an open question back.
func (a *attempt) dropQuestion() {
	if a.question == nil {
		return
	}
	a.question.giveUp()
	if answer := <-a.question.answer; answer != nil {
		clear(answer.Text)
	}
	a.question = nil
}

// send hands the person's answer to the open question to the service. An answer that
// comes too late is no error: the next update tells what became of the connection.
func (a *attempt) send(ctx context.Context, answer *control.Answer) error {
	prompt := a.question.prompt
	a.question = nil
	if answer == nil {
		return nil
	}
	defer clear(answer.Text)
	err := a.svc.Answer(ctx, a.id, answer)
	var failure *app.Failure
	if errors.As(err, &failure) && failure.Code == app.CodeUsage {
		return nil
	}
	if err != nil {
		return err
	}
	switch prompt.Kind {
	case app.PromptTrust:
		a.trusted = answer.Accept
	case app.PromptPassword:
		a.retyped = true
	}
	return nil
}

// cancel ends the attempt for the given reason, which it returns.
func (a *attempt) cancel(ctx context.Context, reason error) error {
	a.dropQuestion()
	a.step.interrupt()
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer done()
	// If the service cannot do it, the reason is still what matters most.
	_ = a.svc.Disconnect(ctx, a.id)
	return reason
}

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

// attempt follows one connection until it stands or has failed.
type attempt struct {
	*env
	svc  service
	id   string
	step stepPrinter

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
	a := &attempt{env: e, svc: svc, step: stepPrinter{out: io.Discard}}
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
		var answers <-chan *control.Answer
		if a.question != nil {
			answers = a.question.answer
		}
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
		case answer := <-answers:
			prompt := a.question.prompt
			a.question = nil
			if err := a.send(ctx, prompt, answer); err != nil {
				return nil, a.cancel(ctx, err)
			}
		}
	}
}

// update looks at a new state of the connection; done ends the attempt.
func (a *attempt) update(ctx context.Context, conn *app.Connection) (done bool, err error) {
	if conn == nil || conn.State == app.StateDisconnected {
		return true, app.NewFailure(app.CodeCancelled, "", "the connection was ended from elsewhere", "")
	}
	if a.question != nil && (conn.Prompt == nil || conn.Prompt.ID != a.question.prompt.ID) {
		a.dropQuestion() // answered elsewhere, or the gateway did not wait
	}
	a.hold(conn.State == app.StateActionNeeded)
	a.step.show(conn)
	switch {
	case conn.State == app.StateConnected:
		return true, nil
	case conn.Failure != nil: // failed, or blocked and lost for good
		return true, conn.Failure
	case conn.State == app.StateFailed:
		return true, app.NewFailure(app.CodeInternal, conn.Step, "the connection failed", "see the service's log")
	case conn.Prompt != nil && a.ask != nil && a.question == nil && conn.Prompt.ID != a.answered:
		a.put(ctx, conn)
	}
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

// put puts the connection's prompt to the person, in a goroutine that ends with the
// question.
func (a *attempt) put(ctx context.Context, conn *app.Connection) {
	a.step.interrupt()
	asking, giveUp := context.WithCancel(ctx)
	q := &question{prompt: conn.Prompt, giveUp: giveUp, answer: make(chan *control.Answer, 1)}
	a.question, a.answered = q, q.prompt.ID
	go func() {
		defer giveUp()
		answer, err := a.askPrompt(asking, conn)
		switch {
		case errors.Is(err, io.EOF): // the person wants no more
			answer = refuse(conn.Prompt)
		case errors.Is(err, errNoTerminal):
			fmt.Fprintf(a.err, "The gateway asks for more: answer with `wayfarer answer %s` in another terminal.\n", a.id)
			answer = nil
		case err != nil:
			answer = nil
		}
		q.answer <- answer
	}()
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

// send hands the person's answer to the service. An answer that comes too late is
// no error: the next update tells what became of the connection.
func (a *attempt) send(ctx context.Context, prompt *app.Prompt, answer *control.Answer) error {
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

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// asker asks a person. Both methods end early with ctx; the person's end of input
// is io.EOF.
type asker interface {
	// line asks for something that may be seen.
	line(ctx context.Context, prompt string) (string, error)
	// secret asks for something that must not be seen. The caller zeroises it.
	secret(ctx context.Context, prompt string) ([]byte, error)
}

// terminal is the asker of a process that has one.
type terminal struct {
	in    *os.File
	out   io.Writer
	lines *bufio.Reader
	// givenUp is the read of a question that was given up, which cannot be taken back:
	// the person's next line is its.
	givenUp <-chan typed
}

// typed is a line of the person's, or why there is none.
type typed struct {
	line []byte
	err  error
}

func newTerminal(in *os.File, out io.Writer) *terminal {
	return &terminal{in: in, out: out, lines: bufio.NewReader(in)}
}

func (t *terminal) line(ctx context.Context, prompt string) (string, error) {
	if err := t.ready(ctx); err != nil {
		return "", err
	}
	answer, err := t.read(ctx, prompt, func() ([]byte, error) { return t.lines.ReadBytes('\n') })
	if err != nil {
		fmt.Fprintln(t.out) // nobody pressed Enter
	}
	return strings.TrimRight(string(answer), "\r\n"), err
}

func (t *terminal) secret(ctx context.Context, prompt string) ([]byte, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	fd := int(t.in.Fd())
	shown, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	answer, err := t.read(ctx, prompt, func() ([]byte, error) { return term.ReadPassword(fd) })
	if t.givenUp != nil {
		_ = term.Restore(fd, shown) // best effort: show typing again
	}
	fmt.Fprintln(t.out) // the person's Enter was not shown
	return answer, err
}

// read runs a read that blocks until the person answers, but gives up with ctx.
func (t *terminal) read(ctx context.Context, prompt string, blocking func() ([]byte, error)) ([]byte, error) {
	fmt.Fprint(t.out, prompt)
	done := make(chan typed, 1)
	go func() {
		line, err := blocking()
		done <- typed{line, err}
	}()
	select {
	case answer := <-done:
		return answer.line, answer.err
	case <-ctx.Done():
		t.givenUp = done
		return nil, ctx.Err()
	}
}

// ready lets the read of a question that was given up end: what the person has begun to
// type for it is no answer to the next one.
func (t *terminal) ready(ctx context.Context) error {
	if t.givenUp == nil {
		return nil
	}
	fmt.Fprint(t.out, "There is a new question. Press Enter to see it. ")
	select {
	case old := <-t.givenUp:
		t.givenUp = nil
		clear(old.line)
		return old.err
	case <-ctx.Done():
		fmt.Fprintln(t.out)
		return ctx.Err()
	}
}

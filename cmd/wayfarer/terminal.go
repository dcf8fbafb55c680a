package main

import (
	"bufio"
	"context"
	"errors"
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

// errNoTerminal: a question was given up, and its read still waits for a line.
var errNoTerminal = errors.New("the terminal still waits for the answer to an earlier question")

// terminal is the asker of a process that has one.
type terminal struct {
	in    *os.File
	out   io.Writer
	lines *bufio.Reader
	stuck bool // a read was given up; it cannot be taken back
}

func newTerminal(in *os.File, out io.Writer) *terminal {
	return &terminal{in: in, out: out, lines: bufio.NewReader(in)}
}

func (t *terminal) line(ctx context.Context, prompt string) (string, error) {
	if t.stuck {
		return "", errNoTerminal
	}
	answer, err := t.read(ctx, prompt, func() ([]byte, error) { return t.lines.ReadBytes('\n') })
	if err != nil {
		fmt.Fprintln(t.out) // nobody pressed Enter
	}
	return strings.TrimRight(string(answer), "\r\n"), err
}

func (t *terminal) secret(ctx context.Context, prompt string) ([]byte, error) {
	if t.stuck {
		return nil, errNoTerminal
	}
	fd := int(t.in.Fd())
	shown, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	answer, err := t.read(ctx, prompt, func() ([]byte, error) { return term.ReadPassword(fd) })
	if t.stuck {
		_ = term.Restore(fd, shown) // best effort: show typing again
	}
	fmt.Fprintln(t.out) // the person's Enter was not shown
	return answer, err
}

// read runs a read that blocks until the person answers, but gives up with ctx.
func (t *terminal) read(ctx context.Context, prompt string, blocking func() ([]byte, error)) ([]byte, error) {
	fmt.Fprint(t.out, prompt)
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := blocking()
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		t.stuck = true
		return nil, ctx.Err()
	}
}

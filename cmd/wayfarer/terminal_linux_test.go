package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pty opens a pseudo-terminal: what the program sees, and the person's end.
func pty(t *testing.T) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		person.Close()
		program.Close()
	})
	return program, person
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// answering types an answer as soon as its prompt appears.
type answering struct {
	t      *testing.T
	person *os.File
	prompt string
	answer func()
	then   *answering // what comes after it; nil: the same again
	seen   bytes.Buffer
}

func (a *answering) Write(p []byte) (int, error) {
	a.seen.Write(p)
	if strings.HasSuffix(a.seen.String(), a.prompt) {
		go a.answer()
		if a.then != nil {
			a.prompt, a.answer, a.then = a.then.prompt, a.then.answer, a.then.then
		}
	}
	return len(p), nil
}

func TestTerminal(t *testing.T) {
	program, person := pty(t)
	if !term.IsTerminal(int(program.Fd())) {
		t.Fatal("a pseudo-terminal is no terminal")
	}
	out := &answering{t: t, person: person, prompt: "Name: ", answer: func() { io.WriteString(person, "ada lovelace\n") }}
	terminal := newTerminal(program, out)
	if got, err := terminal.line(t.Context(), "Name: "); got != "ada lovelace" || err != nil {
		t.Errorf("line: %q, %v", got, err)
	}
	echo, err := bufio.NewReader(person).ReadString('\n')
	if err != nil || !strings.Contains(echo, "ada") {
		t.Errorf("what may be seen is not: %q, %v", echo, err)
	}

	hidden := make(chan bool, 1)
	out.prompt = "Password: "
	out.answer = func() {
		// The prompt may stand there before typing is hidden.
		for echoes(t, program) {
		}
		hidden <- true
		io.WriteString(person, " pass\twörd \n")
	}
	got, err := terminal.secret(t.Context(), "Password: ")
	if string(got) != " pass\twörd " || err != nil {
		t.Errorf("secret: %q, %v", got, err)
	}
	<-hidden
	if !echoes(t, program) {
		t.Error("typing stays hidden")
	}
}

func TestTerminalEndOfInput(t *testing.T) {
	const ctrlD = "\x04"
	program, person := pty(t)
	out := &answering{t: t, person: person, prompt: "? ", answer: func() { io.WriteString(person, ctrlD) }}
	if _, err := newTerminal(program, out).line(t.Context(), "? "); err != io.EOF {
		t.Errorf("line: %v", err)
	}
}

// Ctrl+C while a password is typed shows typing again.
func TestTerminalGivesUp(t *testing.T) {
	program, person := pty(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &answering{t: t, person: person, prompt: "Password: ", answer: func() {
		for echoes(t, program) {
		}
		cancel()
	}}
	terminal := newTerminal(program, out)
	if _, err := terminal.secret(ctx, "Password: "); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if !echoes(t, program) {
		t.Error("typing stays hidden")
	}
	// What was typed for the old question is no answer to the next one.
	out.prompt = "Press Enter to see it. "
	out.answer = func() { io.WriteString(person, "half of a pass\n") }
	out.then = &answering{prompt: "Name: ", answer: func() { io.WriteString(person, "ada\n") }}
	if got, err := terminal.line(t.Context(), "Name: "); got != "ada" || err != nil {
		t.Errorf("the next question: %q, %v", got, err)
	}
}

// A named pipe that nobody opens for writing blocks already when it is opened.
func TestCtrlCWhileAPipeIsOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no named pipes: %v", err)
	}
	w := newWorld(t, newFakeService(playConnected))
	ctx, stop := contextWithStop(t)
	time.AfterFunc(50*time.Millisecond, stop) // or before: the result is the same
	if got := w.runContext(ctx, "connect", "--gateway", "g", "--login", "l", "--password-file", path); got != 9 {
		t.Errorf("exit %d, stderr %q", got, &w.err)
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0) // lets the one that reads end
	if err != nil {
		t.Fatal(err)
	}
	writer.Close()
}

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"wayfarer/app"
)

func TestSecretFile(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"plain", "secret", "secret"},
		{"newline", "secret\n", "secret"},
		{"newline of Windows", "secret\r\n", "secret"},
		{"only one newline", "secret\n\n", "secret\n"},
		{"newline inside", "two\nlines\n", "two\nlines"},
		{"spaces", "  my secret \t\n", "  my secret \t"},
		{"quotes", `"it's" \n $HOME` + "\n", `"it's" \n $HOME`},
		{"UTF-8", "pässwörd€\n", "pässwörd€"},
		{"no UTF-8", "p\xe4ss\x00\xff\n", "p\xe4ss\x00\xff"},
		{"longest", strings.Repeat("p", maxSecret) + "\r\n", strings.Repeat("p", maxSecret)},
		{"too long", strings.Repeat("p", maxSecret+1), ""},
		{"far too long", strings.Repeat("p", 1<<20), ""},
		{"empty", "", ""},
		{"only a newline", "\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, read := range map[string]func() ([]byte, error){
				"file": func() ([]byte, error) { return (&env{}).secretFile(t.Context(), path, "--password-file", "password") },
				"input": func() ([]byte, error) {
					return (&env{in: strings.NewReader(tt.file)}).secretFile(t.Context(), "-", "--password-file", "password")
				},
				"slow input": func() ([]byte, error) {
					return (&env{in: iotest.OneByteReader(strings.NewReader(tt.file))}).secretFile(t.Context(), "-", "--password-file", "password")
				},
			} {
				got, err := read()
				if string(got) != tt.want {
					t.Errorf("%s: got %q, %v, want %q", name, got, err, tt.want)
				}
				var f *app.Failure
				if tt.want == "" && (!errors.As(err, &f) || f.Exit != 2 || strings.Contains(f.Error(), "ppp")) {
					t.Errorf("%s: got error %v", name, err)
				}
			}
		})
	}
	_, err := (&env{in: iotest.ErrReader(errors.New("torn"))}).secretFile(t.Context(), "-", "--password-file", "password")
	var f *app.Failure
	if !errors.As(err, &f) || f.Exit != 2 || !strings.Contains(f.Message, "torn") {
		t.Errorf("got %v", err)
	}
}

// Ctrl+C ends the wait for a password that nobody writes.
func TestPasswordNeverComes(t *testing.T) {
	silent, end := io.Pipe()
	defer end.Close()
	svc := newFakeService(playConnected)
	svc.conns = []app.Connection{{ID: "c1", State: app.StateActionNeeded, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP}}}
	for _, args := range [][]string{connectOffice, {"answer"}} {
		w := newWorld(t, svc)
		ctx, stop := contextWithStop(t)
		w.env.in = &announced{silent, stop}
		if got := run(ctx, w.env, args); got != 9 || !strings.HasSuffix(w.err.String(), "cancelled\n") {
			t.Errorf("%s: exit %d, stderr %q", args, got, &w.err)
		}
	}
	if len(svc.requests)+len(svc.answers) > 0 {
		t.Error("the service was asked all the same")
	}
}

// announced tells when it is read.
type announced struct {
	io.Reader
	tell func()
}

func (a *announced) Read(b []byte) (int, error) {
	a.tell()
	return a.Reader.Read(b)
}

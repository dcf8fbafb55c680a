package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"wayfarer/app"
)

// maxSecret bounds a password or answer; gateways take far less.
const maxSecret = 4096

// secretFile reads a secret (what) from a file that a flag names, or with "-" from
// standard input. One newline at its end is dropped; nothing else is changed. The
// caller zeroises it.
func (e *env) secretFile(ctx context.Context, path, flag, what string) ([]byte, error) {
	if path == "-" {
		return e.inputSecret(ctx, what)
	}
	return unlessCancelled(ctx, func() ([]byte, error) {
		file, err := os.Open(path)
		if err != nil {
			return nil, usage("the "+what+" file cannot be read: "+reason(err), "check "+flag)
		}
		defer file.Close()
		return readSecret(file, path, what)
	})
}

// inputSecret reads all of standard input as a secret (what). The caller zeroises it.
func (e *env) inputSecret(ctx context.Context, what string) ([]byte, error) {
	return unlessCancelled(ctx, func() ([]byte, error) { return readSecret(e.in, "standard input", what) })
}

// unlessCancelled gives up waiting for a secret with ctx: a pipe may never have one. The
// read stays behind and overwrites what it gets all the same.
func unlessCancelled(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		secret []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		secret, err := read()
		done <- result{secret, err}
	}()
	select {
	case r := <-done:
		return r.secret, r.err
	case <-ctx.Done():
		go func() { clear((<-done).secret) }()
		return nil, cancelled()
	}
}

// readSecret reads all of in as a secret.
func readSecret(in io.Reader, name, what string) ([]byte, error) {
	// One buffer, so that no copy of a growing one stays behind.
	buf := make([]byte, maxSecret+len("\r\n")+1)
	n, err := io.ReadFull(in, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		clear(buf)
		return nil, usage(name+" cannot be read: "+reason(err), "")
	}
	secret := buf[:n]
	if cut, ok := bytes.CutSuffix(secret, []byte("\n")); ok {
		secret = bytes.TrimSuffix(cut, []byte("\r"))
	}
	switch {
	case len(secret) > maxSecret:
		clear(buf)
		return nil, usage(fmt.Sprintf("%s is longer than %d bytes", name, maxSecret), "give a file with nothing but the "+what)
	case len(secret) == 0:
		return nil, usage(name+" holds no "+what, "")
	}
	return secret, nil
}

func cancelled() *app.Failure {
	return app.NewFailure(app.CodeCancelled, "", "cancelled", "")
}

// reason is an error of the operating system without the operation's name: "FILE:
// no such file or directory".
func reason(err error) string {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Path + ": " + pathError.Err.Error()
	}
	return err.Error()
}

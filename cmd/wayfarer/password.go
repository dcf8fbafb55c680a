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

// passwordFile reads a password from a file, or with "-" from standard input. One
// newline at its end is dropped; nothing else is changed. The caller zeroises it.
func (e *env) passwordFile(path string) ([]byte, error) {
	in, name := e.in, "standard input"
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, usage("the password file cannot be read: "+reason(err), "check --password-file")
		}
		defer file.Close()
		in, name = file, path
	}
	return readSecret(in, name)
}

// readSecret reads all of in as a secret.
func readSecret(in io.Reader, name string) ([]byte, error) {
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
		return nil, usage(fmt.Sprintf("%s is longer than %d bytes", name, maxSecret), "give a file with nothing but the password")
	case len(secret) == 0:
		return nil, usage(name+" holds no password", "")
	}
	return secret, nil
}

// askPassword asks the person for the password of a profile.
func (e *env) askPassword(ctx context.Context, p *app.Profile) ([]byte, error) {
	if e.ask == nil {
		return nil, app.NewFailure(app.CodeCancelled, app.StepSignIn, "a password is needed and there is no terminal to ask on",
			"use --password-file")
	}
	password, err := e.ask.secret(ctx, fmt.Sprintf("Password for %s at %s: ", plainLine(p.Login), plainLine(p.Gateway)))
	if err != nil {
		return nil, cancelled()
	}
	if len(password) == 0 {
		return nil, app.NewFailure(app.CodeCancelled, app.StepSignIn, "no password was given", "")
	}
	return password, nil
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

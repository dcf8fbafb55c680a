//go:build cgo && (x11 || wayland || !linux)

package main

import (
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestHandOver: a second start tells the first what it was started with, wherever that
// stands.
func TestHandOver(t *testing.T) {
	args, err := parse([]string{"--connect", "head office", "--hidden", "-x.pcf"}, io.Discard)
	if err == nil {
		t.Errorf("a flag that there is not: %+v", args)
	}
	if args, err = parse([]string{"--connect", "head office", "--", "-x.pcf", "/tmp/y.toml"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	again, err := parse(args.list(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := filepath.Abs("-x.pcf")
	if err != nil {
		t.Fatal(err)
	}
	other, err := filepath.Abs("/tmp/y.toml") // on Windows, with a drive
	if err != nil {
		t.Fatal(err)
	}
	if again.connect != "head office" || !slices.Equal(again.files, []string{whole, other}) {
		t.Errorf("handed over %+v", again)
	}
}

// TestDemoSays: what the gateway's process says about it is what the form is filled with.
func TestDemoSays(t *testing.T) {
	const said = "Starting a gateway on this computer\n  Address      127.0.0.1:1 (UDP)\n  Certificate  CN=gateway.demo.test\n\n" +
		"Serving the local API without any rights\n  Socket    /tmp/x\n  Gateway   127.0.0.1:1\n  Login     ada\n  Password  lovelace\n\nIn another terminal:\n"
	d := &demoProcess{}
	if !d.read(strings.NewReader(said)) || d.Gateway != "127.0.0.1:1" || d.Login != "ada" || d.Password != "lovelace" {
		t.Errorf("read %+v", d.Demo)
	}
	if (&demoProcess{}).read(strings.NewReader(said[:len(said)-50])) {
		t.Error("half of it is enough")
	}
}

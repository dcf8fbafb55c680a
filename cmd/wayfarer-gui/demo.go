//go:build cgo && (x11 || wayland || !linux)

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"wayfarer/app/control"
	"wayfarer/app/gui"
	"wayfarer/platform"
)

// Times of the demonstration.
const (
	demoStart = 20 * time.Second // for the gateway to be there
	demoEnd   = 5 * time.Second  // for it to disconnect and go
)

// demoHeld is the variable by which `wayfarer demo --serve` ends with its input: however
// this program ends, the system closes the other end of that.
const demoHeld = "WAYFARER_DEMO_HELD=1"

// demoProcess is `wayfarer demo --serve`: a gateway, and a service without rights, in a
// process of its own.
type demoProcess struct {
	gui.Demo
	socket string
	cmd    *exec.Cmd
	input  io.Closer // it runs until this is closed
	ended  chan error
}

// startDemo starts the sibling program, and waits until it is ready.
func startDemo() (*demoProcess, error) {
	program, err := platform.Sibling("wayfarer")
	if err != nil {
		return nil, err
	}
	d := &demoProcess{cmd: exec.Command(program, "demo", "--serve"), ended: make(chan error, 1)}
	d.cmd.SysProcAttr = withoutConsole()
	d.cmd.Env = append(os.Environ(), demoHeld, control.SocketVariable+"=") // it takes one of its own, and away again
	var complaints bytes.Buffer
	d.cmd.Stderr = &complaints
	out, err := d.start()
	if err != nil {
		return nil, fmt.Errorf("the demonstration does not start: %w", err)
	}
	ready := make(chan bool, 1)
	go func() {
		ready <- d.read(out)
		io.Copy(io.Discard, out)
		d.ended <- d.cmd.Wait()
	}()
	select {
	case ok := <-ready:
		if ok {
			return d, nil
		}
	case <-time.After(demoStart):
	}
	d.stop()
	return nil, fmt.Errorf("the demonstration does not start: %s", strings.TrimSpace(complaints.String()))
}

// start starts the process, with pipes for its input and output.
func (d *demoProcess) start() (io.Reader, error) {
	input, err := d.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	d.input = input
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return out, d.cmd.Start()
}

// read takes what the program says about its gateway, up to the last that matters.
func (d *demoProcess) read(out io.Reader) bool {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		name, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch value = strings.TrimSpace(value); name {
		case "Socket":
			d.socket = value
		case "Gateway":
			d.Gateway = value
		case "Login":
			d.Login = value
		case "Password":
			d.Password = value
			return d.socket != "" && d.Gateway != "" && d.Login != ""
		}
	}
	return false
}

// stop ends the program, which takes its socket away.
func (d *demoProcess) stop() {
	d.input.Close()
	select {
	case <-d.ended:
	case <-time.After(demoEnd):
		d.cmd.Process.Kill()
		<-d.ended
	}
}

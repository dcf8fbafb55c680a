//go:build gui && linux

package gui

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// labScript is the lab of test/lab, in which this package has one of its own.
const labScript = "../lab/lab"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Setenv("LAB_NAME", cmp.Or(os.Getenv("LAB_NAME"), "wgui"))
	os.Setenv("LAB_BIN", filepath.Dir(bin("wayfarerd")))
	code := m.Run()
	if labStarted() == nil && os.Getenv("LAB_KEEP") == "" {
		lab("down")
	}
	os.Exit(code)
}

func lab(args ...string) (string, error) {
	out, err := exec.Command(labScript, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("lab %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// lab1 is lab where only success matters.
func lab1(args ...string) error {
	_, err := lab(args...)
	return err
}

var labUp = sync.OnceValue(func() error {
	if _, err := lab("prereqs"); err != nil {
		return err
	}
	_, err := lab("up")
	return err
})

var labAsked bool

// labStarted is nil if the lab stands.
func labStarted() error {
	if !labAsked {
		return os.ErrNotExist
	}
	return labUp()
}

// needLab brings the lab up, or skips the test where it cannot be.
func needLab(t *testing.T) {
	t.Helper()
	labAsked = true
	if err := labUp(); err != nil {
		t.Skip(err)
	}
}

// service is wayfarerd in the namespace of a road warrior behind NAT; the display is
// outside of it, and reaches it by its socket.
type service struct {
	*desktop
	socket string
	state  string
	cmd    *exec.Cmd
	said   output
}

// service starts one, which programs on this desktop find from then on.
func (d *desktop) service() *service {
	d.Helper()
	s := &service{desktop: d, socket: filepath.Join(d.runtime, "wayfarerd.sock"), state: d.dir()}
	d.socket = s.socket
	s.begin()
	d.Cleanup(func() {
		s.end(syscall.SIGTERM)
		if d.Failed() {
			d.Logf("wayfarerd says:\n%s", s.said.String())
		}
	})
	return s
}

func (s *service) begin() {
	s.Helper()
	s.cmd = exec.Command(labScript, "exec", "rw", bin("wayfarerd"), "--socket", s.socket, "--state-dir", s.state)
	s.cmd.Stderr = &s.said
	s.must(s.cmd.Start())
}

// end ends the service by a signal.
func (s *service) end(signal os.Signal) {
	s.cmd.Process.Signal(signal)
	s.cmd.Wait()
}

// asks waits until the service asks a question of one of these kinds.
func (s *service) asks(kinds ...string) {
	s.Helper()
	s.until("a question of kind "+strings.Join(kinds, " or "), func() bool {
		out, err := s.status()
		return err == nil && slices.ContainsFunc(kinds, func(k string) bool { return strings.Contains(string(out), `"kind":"`+k+`"`) })
	})
}

// status is the service's, in JSON.
func (s *service) status() ([]byte, error) {
	return exec.Command(bin("wayfarer"), "--socket", s.socket, "status", "--json").Output()
}

// inside runs a program beside the service.
func (s *service) inside(args ...string) (string, error) {
	return lab(append([]string{"exec", "rw"}, args...)...)
}

// traffic has packets come from the company for a while, now more, now less, for the graph
// to show.
func (s *service) traffic() {
	s.Helper()
	for _, rate := range []string{"1M", "3M", "6M", "4M", "7M", "5M", "2M"} {
		if out, err := s.inside("iperf3", "-c", "10.10.0.2", "-R", "-b", rate, "-t", "3"); err != nil {
			s.Errorf("iperf3: %v: %s", err, out)
		}
	}
}

// connections counts the service's.
func (s *service) connections() int {
	s.Helper()
	out, err := s.status()
	s.must(err)
	var status struct {
		Connections []json.RawMessage `json:"connections"`
	}
	s.must(json.Unmarshal(out, &status))
	return len(status.Connections)
}

// reachable says whether the company's network can be reached.
func (s *service) reachable() bool {
	_, err := s.inside("ping", "-c", "1", "-W", "1", "10.10.0.2")
	return err == nil
}

// What the office's gateway goes by in the lab.
const (
	officeHost  = "gw.lab.test"
	officeLogin = "alice"
	officePass  = "wonderland"
)

// notifiedOf waits for a notification that starts like that.
func (d *desktop) notifiedOf(title string) {
	d.Helper()
	d.until("the notification "+title, func() bool {
		return slices.ContainsFunc(d.notified(), func(n string) bool { return strings.HasPrefix(n, title) })
	})
}

// A working day: the first connection by typing, with a wrong password before the right
// one, then by the tray, while gateway and service come and go; the next day the profile
// is still there.
func TestOffice(t *testing.T) {
	needLab(t)
	d := newDesktop(t)
	d.tray()
	d.keyring()
	s := d.service()
	p, tray := d.shows()
	d.shot("office-01-first-run")

	t.Log("first run, with a wrong password")
	d.fills(officeHost, officeLogin, "wrong")
	d.shot("office-02-typed")
	d.press("Return")
	tray.starts(officeHost + ": Waiting for you")
	d.shot("office-03-trust")
	d.trusts()
	tray.starts(officeHost + ": Could not connect")
	d.shot("office-04-wrong-password")

	t.Log("the right one")
	d.clicks(0.5, -70) // Try again
	tray.starts(officeHost + ": Waiting for you")
	d.shot("office-05-again")
	d.types(officePass)
	d.press("Return")
	tray.is(green)
	d.keeps(officeHost)
	d.fits(700)
	s.traffic()
	d.shot("office-06-connected")
	d.fits(600)
	if !s.reachable() {
		t.Error("the office cannot be reached")
	}

	t.Log("by the tray, without the window")
	d.closes()
	d.hidden()
	d.notified()
	tray.click("Disconnect " + officeHost)
	tray.is(grey)
	if s.reachable() {
		t.Error("the office can still be reached")
	}
	tray.click("Connect " + officeHost)
	tray.is(green) // what was typed after the wrong password is remembered
	d.notifiedOf("Connected to " + officeHost)

	t.Log("the gateway is killed, and back")
	d.must(lab1("gw", "kill"))
	d.notifiedOf("Connection to " + officeHost + " lost")
	tray.is(blue)
	tray.tap()
	d.shown()
	d.shot("office-07-reconnecting")
	d.must(lab1("gw", "start"))
	tray.is(green)
	d.shot("office-08-back")

	t.Log("the service is killed, and back")
	s.end(syscall.SIGKILL)
	tray.is(amber)
	d.shot("office-09-no-service")
	s.begin()
	tray.is(grey)
	d.shot("office-10-service-back")

	t.Log("the next day")
	tray.click("Quit")
	p.ends()
	p = d.start("--hidden")
	tray = p.icon()
	tray.click("Connect " + officeHost)
	tray.is(green)
	tray.click("Quit (stays connected)")
	p.ends()
	if !s.reachable() {
		t.Error("the connection did not stay")
	}
	p = d.start("--hidden")
	tray = p.icon()
	tray.is(green)
}

// A gateway that asks for a password and then for a one-time code, which is asked for
// each time, though everything else is remembered.
func TestOneTimeCode(t *testing.T) {
	needLab(t)
	const gateway, code = "198.51.100.36", "271828" // the lab's profile passcode
	d := newDesktop(t)
	d.tray()
	d.keyring()
	s := d.service()
	_, tray := d.shows()
	d.fills(gateway, officeLogin, officePass)
	d.press("Return")
	tray.starts(gateway + ": Waiting for you")
	d.shot("code-1-trust")
	d.trusts()
	s.asks("otp", "challenge")
	d.shot("code-2-asked")
	d.types(code)
	d.press("Return")
	tray.is(green)
	d.shot("code-3-connected")
	tray.click("Disconnect " + gateway)
	tray.is(grey)
	d.closes()
	d.hidden()
	d.notified()
	tray.click("Connect " + gateway)
	d.notifiedOf(gateway + " waits for your answer")
	s.asks("otp", "challenge")
	tray.tap()
	d.shown()
	d.types(code)
	d.press("Return")
	tray.is(green)
}

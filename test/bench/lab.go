//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// labServer is inside of the company's network.
var labServer = netip.MustParseAddr("10.10.0.2")

// lab is the lab of test/lab, with a real gateway, as seen from a client behind a NAT.
type lab struct {
	script         string
	state          string
	client, server *room
	profile        map[string]string // what "lab profile hybrid" says
}

// labProfile is the one that all measurements use.
const labProfile = "hybrid"

// startLab makes a lab of its own, unless there is one.
func (w *world) startLab() (*lab, error) {
	if w.lab != nil {
		return w.lab, nil
	}
	name := cmp.Or(os.Getenv("LAB_NAME"), labName)
	l := &lab{
		script: filepath.Join(w.source, "test/lab/lab"), state: cmp.Or(os.Getenv("LAB_STATE"), "/tmp/vpnlab-"+name),
		profile: make(map[string]string),
	}
	for key, value := range map[string]string{"LAB_NAME": name, "LAB_BIN": w.bin} {
		if err := os.Setenv(key, value); err != nil {
			return nil, err
		}
	}
	if err := l.up(name); err != nil {
		return nil, errors.Join(err, l.close())
	}
	w.lab = l
	return l, nil
}

func (l *lab) up(name string) (err error) {
	if err := command(l.script, "up"); err != nil {
		return err
	}
	if l.client, err = l.room(name, "rw"); err != nil {
		return err
	}
	if l.server, err = l.room(name, "srv"); err != nil {
		return err
	}
	out, err := output(exec.Command(l.script, "profile", labProfile))
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		l.profile[key] = value
	}
	return err
}

// room enters one of the lab's namespaces.
func (l *lab) room(name, namespace string) (*room, error) {
	r := &room{namespace: name + "-" + namespace, dir: filepath.Join(l.state, "ns", namespace)}
	cmd, err := startReady(exec.Command(l.script, "exec", namespace, "sh", "-c", "echo ready && exec sleep infinity"))
	if err != nil {
		return nil, err
	}
	r.enter(cmd)
	return r, nil
}

// close removes the lab.
func (l *lab) close() error { return command(l.script, "down") }

// gateway are the processes of the gateway.
func (l *lab) gateway() ([]int, error) {
	pid, err := l.pid("gw/charon")
	return []int{pid}, err
}

// pid reads where the lab notes the process of a daemon.
func (l *lab) pid(name string) (int, error) {
	data, err := os.ReadFile(filepath.Join(l.state, "ns", name+".pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

func (l *lab) newLink(stop func()) (*link, error) {
	far, err := l.gateway()
	return &link{client: l.client, server: l.server, target: labServer, far: far, stop: stop}, err
}

// startLabWayfarer is our client against the lab's strongSwan.
func startLabWayfarer(w *world) (*link, error) {
	lab, err := w.startLab()
	if err != nil {
		return nil, err
	}
	s, err := w.startService(lab.client)
	if err != nil {
		return nil, err
	}
	l, err := lab.newLink(s.stop)
	if err != nil {
		return nil, l.orStop(err)
	}
	if err = s.connect(lab.profile["PASSWORD"], lab.flags()...); err == nil {
		err = s.awaitPath()
	}
	l.near, l.service = s.family(), s
	return l, l.orStop(err)
}

// flags are those of our client for the profile.
func (l *lab) flags() []string {
	return append(strings.Fields(l.profile["WAYFARER"]), "--login", l.profile["USER"])
}

// startLabClient is a reference client against the lab's strongSwan.
func startLabClient(client string, args ...string) func(*world) (*link, error) {
	return func(w *world) (*link, error) {
		lab, err := w.startLab()
		if err != nil {
			return nil, err
		}
		l, err := lab.newLink(func() {
			if err := command(lab.script, "disconnect"); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
		if err != nil {
			return nil, err
		}
		if err := command(append([]string{lab.script, "connect", "-c", client}, args...)...); err != nil {
			return nil, l.orStop(err)
		}
		pid, err := lab.pid("rw/client")
		l.near = []int{pid}
		return l, l.orStop(err)
	}
}

// connectWayfarer measures from the start of "wayfarer connect" to its end.
func (l *lab) connectWayfarer(s *service) (measured, error) {
	far, err := l.gateway()
	if err != nil {
		return measured{}, err
	}
	m := newMeter(s.family(), far)
	began := time.Now()
	err = s.connect(l.profile["PASSWORD"], l.flags()...)
	took := time.Since(began)
	used := m.read()
	if err := errors.Join(err, s.command("disconnect").Run()); err != nil {
		return measured{}, err
	}
	return measured{map[string]float64{valueSeconds: took.Seconds()}, used.foreign}, nil
}

var established = regexp.MustCompile(`CHILD_SA \S+ established`)

// charonMode is what charon-cmd calls hybrid authentication in main mode.
const charonMode = "ikev1-hybrid"

// connectCharon measures from the start of charon-cmd to the line of its log that says that
// the tunnel is there. An earlier "lab connect" has written its configuration.
func (l *lab) connectCharon() (measured, error) {
	p := l.profile
	cmd := l.client.program("env", "STRONGSWAN_CONF=/run/strongswan/strongswan.conf",
		"charon-cmd", "--host", p["GATEWAY"], "--remote-identity", p["REMOTE_ID"], "--cert", p["CA"],
		"--ike-proposal", p["IKE_PROPOSAL"], "--esp-proposal", p["ESP_PROPOSAL"],
		"--identity", p["USER"], "--xauth-username", p["USER"], "--profile", charonMode)
	cmd.Stdin = strings.NewReader(p["PASSWORD"] + "\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL} // no terminal to ask on
	log := filepath.Join(l.client.dir, "run/strongswan/client.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return measured{}, err
	}
	far, err := l.gateway()
	if err != nil {
		return measured{}, err
	}
	m := newMeter(nil, far)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return measured{}, err
	}
	pid := cmd.Process.Pid
	m.near = []int{pid}
	var text []byte
	err = eachMillisecond(connectTimeout, func() bool {
		text, _ = os.ReadFile(log) // it is not there yet
		return established.Match(text)
	})
	took := time.Since(began)
	used := m.read()
	time.Sleep(200 * time.Millisecond) // it may hang when it is ended earlier
	stop(cmd)
	if err != nil {
		return measured{}, fmt.Errorf("charon-cmd: %w\n%s", err, tail(text))
	}
	return measured{map[string]float64{valueSeconds: took.Seconds()}, used.foreign}, nil
}

// eachMillisecond looks so often whether something is so.
func eachMillisecond(d time.Duration, ok func() bool) error {
	for end := time.Now().Add(d); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("not within %v", d)
		}
	}
	return nil
}

// delay makes round trips to the gateway so much longer; 0: as they are.
func (l *lab) delay(roundTrip time.Duration) error {
	if roundTrip == 0 {
		return command(l.script, "fault", "clear")
	}
	return command(l.script, "fault", "delay", strconv.FormatInt((roundTrip/2).Milliseconds(), 10))
}

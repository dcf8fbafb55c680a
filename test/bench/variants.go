//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Names of variants in samples and tables.
const (
	vethName      = "veth"
	forwarderName = "forwarder"
	wayfarerName  = "wayfarer"
	wireguardName = "wireguard-go"
	libraryName   = "library"
	openvpnName   = "openvpn"
	charonName    = "charon-cmd"
	vpncName      = "vpnc"
)

const (
	connectTimeout = 20 * time.Second
	deviceTimeout  = 5 * time.Second
	// forwarderMTU is the one of our programs that are told one, in bytes: what the client
	// finds out for AES-GCM.
	forwarderMTU = 1438
	// wireguardMTU is wg-quick's for this path.
	wireguardMTU = 1420
	openvpnMTU   = 1400
)

// world is where everything happens.
type world struct {
	dir       string // of this run, below /tmp
	bin       string // with wayfarer and wayfarerd
	tools     string // with wireguard-go
	self      string // this program
	source    string // the repository
	near, far *room
	lab       *lab // nil until it is needed
}

// link is a connection between two ends.
type link struct {
	client, server *room
	target         netip.Addr // of the far end, inside
	near, far      []int      // the two ends' processes
	service        *service   // of the client, nil for others
	stop           func()
}

// variant is a way to connect the two ends.
type variant struct {
	name  string
	needs string // a program without which there is no such variant; "": none
	start func(*world) (*link, error)
	// measure, if set, takes the place of the part's.
	measure measureFunc
}

// available says whether the variant's program is installed.
func (v variant) available() bool {
	if v.needs == "" {
		return true
	}
	_, err := exec.LookPath(v.needs)
	return err == nil
}

// measuring is the variant with other measurements than the part's.
func (v variant) measuring(f measureFunc) variant {
	v.measure = f
	return v
}

// measures are the variant's in a part.
func (v variant) measures(part subset) measureFunc {
	if v.measure != nil {
		return v.measure
	}
	return part.measure
}

var (
	veth       = variant{name: vethName, start: startVeth}
	forwarder  = variant{name: forwarderName, start: startForwarder}
	wireguard  = variant{name: wireguardName, needs: "wg", start: startWireguard}
	openvpn    = variant{name: openvpnName, needs: "openvpn", start: startOpenVPN}
	fastClient = variant{name: wayfarerName, start: gcmClient.start}
)

// benchClient is our client with a far end of our own.
type benchClient struct {
	suite  string
	io     string // of the far end
	groups int    // networks behind the gateway, an ESP SA for each; 0: one
	shared bool   // one ESP SA for all of them
	rekey  time.Duration
}

var gcmClient = benchClient{suite: "aes128gcm16", io: "whole"}

func (w *world) newLink(stop ...func()) *link {
	l := &link{client: w.near, server: w.far, target: farInside}
	l.stop = func() {
		for _, f := range stop {
			f()
		}
	}
	return l
}

func startVeth(w *world) (*link, error) {
	l := w.newLink()
	l.target = farOutside
	return l, nil
}

// device waits for a TUN device and gives it an address and routes.
func (r *room) device(name string, mtu int, address netip.Addr, routes ...netip.Prefix) error {
	err := within(deviceTimeout, "there is "+name, func() bool { return r.do("ip", "link", "show", name) == nil })
	if err != nil {
		return err
	}
	commands := fmt.Sprintf("ip addr add %v/32 dev %s\nip link set %s mtu %d up\n", address, name, name, mtu)
	for _, route := range routes {
		commands += fmt.Sprintf("ip route add %v dev %s\n", route, name)
	}
	return r.script(commands)
}

// endpoint starts a program of ours in a room.
func (w *world) endpoint(r *room, args ...string) (*exec.Cmd, error) {
	cmd := r.program(append([]string{w.self, "endpoint"}, args...)...)
	log, err := os.Create(filepath.Join(r.dir, "endpoint.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	return startReady(cmd)
}

// pair starts the same program of ours at both ends; far may differ in how it moves
// packets.
func (w *world) pair(crypt, nearIO, farIO string) (*link, error) {
	at := func(a netip.Addr) string { return netip.AddrPortFrom(a, outsidePort).String() }
	far, err := w.endpoint(w.far, "-crypt", crypt, "-io", farIO, "-peer", at(nearOutside))
	if err != nil {
		return nil, err
	}
	near, err := w.endpoint(w.near, "-crypt", crypt, "-io", nearIO, "-peer", at(farOutside), "-initiate")
	if err != nil {
		stop(far)
		return nil, err
	}
	l := w.newLink(func() { stop(near) }, func() { stop(far) })
	l.near, l.far = family(near.Process.Pid), family(far.Process.Pid)
	return l, l.orStop(errors.Join(
		w.far.device("bench0", forwarderMTU, farInside, poolNetwork),
		w.near.device("bench0", forwarderMTU, nearInside, farNetwork)))
}

// orStop stops the link if there is an error.
func (l *link) orStop(err error) error {
	if err != nil {
		l.stop()
	}
	return err
}

func startForwarder(w *world) (*link, error) { return w.pair("none", "whole", "whole") }

// networks are those behind the gateway, and the far end's address in each.
func (c benchClient) networks() (list []netip.Prefix, inside []netip.Addr) {
	if c.groups == 0 {
		return []netip.Prefix{farNetwork}, []netip.Addr{farInside}
	}
	for i := range c.groups {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, byte(i), 0}), 24))
		inside = append(inside, netip.AddrFrom4([4]byte{10, 78, byte(i), 1}))
	}
	return list, inside
}

func (c benchClient) start(w *world) (*link, error) {
	networks, inside := c.networks()
	var names []string
	for _, n := range networks {
		names = append(names, n.String())
	}
	ca := filepath.Join(w.dir, "ca.pem")
	far, err := w.endpoint(w.far, "-io", c.io, "-ca", ca, "-esp", c.suite, "-networks", strings.Join(names, ","), "-lifetime", c.rekey.String())
	if err != nil {
		return nil, err
	}
	if err := w.far.device("bench0", forwarderMTU, inside[0], poolNetwork); err != nil {
		stop(far)
		return nil, err
	}
	for _, address := range inside[1:] {
		if err := w.far.do("ip", "addr", "add", address.String()+"/32", "dev", "bench0"); err != nil {
			stop(far)
			return nil, err
		}
	}
	s, err := w.startService(w.near)
	if err != nil {
		stop(far)
		return nil, err
	}
	l := w.newLink(s.stop, func() { stop(far) })
	l.far, l.service = family(far.Process.Pid), s
	args := []string{
		"--gateway", netip.AddrPortFrom(farOutside, outsidePort).String(), "--login", benchLogin, "--ca", ca,
		"--esp", c.suite, "--allow-weak", "3des,md5",
	}
	if c.groups > 0 && !c.shared {
		args = append(args, "--set", "selectors=per-network")
	}
	if err = s.connect(benchPassword, args...); err == nil {
		err = s.awaitPath()
	}
	l.near = s.family()
	return l, l.orStop(err)
}

// service is the client's, in a room.
type service struct {
	w       *world
	room    *room
	cmd     *exec.Cmd
	logFile string
}

const serviceSocket = "/run/wayfarer/wayfarerd.sock"

// startService starts wayfarerd, which tells its log of each garbage collection.
func (w *world) startService(r *room) (*service, error) {
	folder := filepath.Join(r.dir, "run/wayfarer")
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o755)); err != nil {
		return nil, err
	}
	s := &service{w: w, room: r, logFile: filepath.Join(r.dir, "wayfarerd.log")}
	cmd := r.program(filepath.Join(w.bin, "wayfarerd"), "--socket", serviceSocket, "--state-dir", "/run/wayfarer/state")
	cmd.Env = append(os.Environ(), "GODEBUG=gctrace=1")
	var err error
	if s.cmd, err = start(cmd, s.logFile); err != nil {
		return nil, err
	}
	err = within(deviceTimeout, "wayfarerd listens", func() bool { return s.command("status").Run() == nil })
	if err != nil {
		s.stop()
	}
	return s, err
}

// command is one of the client's command line.
func (s *service) command(args ...string) *exec.Cmd {
	return s.room.program(append([]string{filepath.Join(s.w.bin, "wayfarer")}, args...)...)
}

// connect connects; the password is written to its standard input.
func (s *service) connect(password string, args ...string) error {
	cmd := s.command(append([]string{"connect", "--password-file", "-", "--timeout", connectTimeout.String()}, args...)...)
	cmd.Stdin = strings.NewReader(password + "\n")
	_, err := output(cmd)
	return err
}

// awaitPath waits until the service has found out how large datagrams can be, for TCP
// connections keep the size with which they begin.
func (s *service) awaitPath() error {
	return within(deviceTimeout, "the path's MTU is found out", func() bool {
		log, err := os.ReadFile(s.logFile)
		return err == nil && bytes.Contains(log, []byte("the path carries datagrams"))
	})
}

func (s *service) stop() {
	_ = s.command("disconnect").Run() // the service does it when it ends, too
	stop(s.cmd)
}

// family are the service's processes: the root process and the service proper.
func (s *service) family() []int { return family(s.cmd.Process.Pid) }

func startWireguard(w *world) (*link, error) {
	const device = "bench1"
	ends := []struct {
		room            *room
		inside, peer    netip.Addr
		route           netip.Prefix
		private, public string
		cmd             *exec.Cmd
	}{
		{room: w.far, inside: farInside, peer: nearOutside, route: poolNetwork},
		{room: w.near, inside: nearInside, peer: farOutside, route: farNetwork},
	}
	for i := range ends {
		e := &ends[i]
		private, err := output(exec.Command("wg", "genkey"))
		if err != nil {
			return nil, err
		}
		e.private = filepath.Join(w.dir, fmt.Sprintf("wg%d.key", i))
		derive := exec.Command("wg", "pubkey")
		derive.Stdin = strings.NewReader(string(private))
		public, err := output(derive)
		if err := errors.Join(err, os.WriteFile(e.private, private, 0o600)); err != nil {
			return nil, err
		}
		e.public = strings.TrimSpace(string(public))
	}
	l := w.newLink(func() {
		for _, e := range ends {
			if e.cmd != nil {
				stop(e.cmd)
			}
		}
	})
	for i := range ends {
		e := &ends[i]
		cmd := e.room.program(filepath.Join(w.tools, "wireguard-go"), "-f", device)
		cmd.Env = append(os.Environ(), "LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1")
		var err error
		if e.cmd, err = start(cmd, filepath.Join(e.room.dir, "wireguard.log")); err != nil {
			return nil, l.orStop(err)
		}
		socket := filepath.Join(e.room.dir, "run/wireguard", device+".sock")
		err = within(deviceTimeout, "wireguard-go listens", func() bool {
			_, err := os.Stat(socket)
			return err == nil
		})
		if err != nil {
			return nil, l.orStop(err)
		}
	}
	for i := range ends {
		e, other := &ends[i], &ends[1-i]
		err := e.room.do("wg", "set", device, "listen-port", "51820", "private-key", e.private,
			"peer", other.public, "allowed-ips", "0.0.0.0/0", "endpoint", netip.AddrPortFrom(e.peer, 51820).String())
		if err = errors.Join(err, e.room.device(device, wireguardMTU, e.inside, e.route)); err != nil {
			return nil, l.orStop(err)
		}
	}
	l.far, l.near = family(ends[0].cmd.Process.Pid), family(ends[1].cmd.Process.Pid)
	return l, nil
}

func startOpenVPN(w *world) (*link, error) {
	const device = "bench2"
	fingerprints := [2]string{}
	file := func(i int, kind string) string { return filepath.Join(w.dir, fmt.Sprintf("ovpn%d.%s", i, kind)) }
	for i := range fingerprints {
		if _, err := os.Stat(file(i, "crt")); err != nil {
			err := command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
				"-days", "30", "-subj", fmt.Sprintf("/CN=end%d", i), "-keyout", file(i, "key"), "-out", file(i, "crt"))
			if err != nil {
				return nil, err
			}
		}
		out, err := output(exec.Command("openssl", "x509", "-in", file(i, "crt"), "-noout", "-fingerprint", "-sha256"))
		if err != nil {
			return nil, err
		}
		_, fingerprint, _ := strings.Cut(strings.TrimSpace(string(out)), "=")
		fingerprints[i] = fingerprint
	}
	begin := func(r *room, i int, own ...string) (*exec.Cmd, error) {
		args := append([]string{
			"openvpn", "--dev", device, "--dev-type", "tun", "--proto", "udp", "--cert", file(i, "crt"), "--key", file(i, "key"),
			"--peer-fingerprint", fingerprints[1-i], "--data-ciphers", "AES-128-GCM", "--disable-dco", "--tun-mtu", fmt.Sprint(openvpnMTU),
			"--mssfix", "0", "--sndbuf", "4194304", "--rcvbuf", "4194304", "--txqueuelen", "1000", "--fast-io",
		}, own...)
		return start(r.program(args...), filepath.Join(r.dir, "openvpn.log"))
	}
	far, err := begin(w.far, 0, "--tls-server", "--dh", "none", "--local", farOutside.String())
	if err != nil {
		return nil, err
	}
	near, err := begin(w.near, 1, "--tls-client", "--remote", farOutside.String(), "--nobind")
	if err != nil {
		stop(far)
		return nil, err
	}
	l := w.newLink(func() { stop(near) }, func() { stop(far) })
	l.near, l.far = family(near.Process.Pid), family(far.Process.Pid)
	return l, l.orStop(errors.Join(
		w.far.device(device, openvpnMTU, farInside, poolNetwork),
		w.near.device(device, openvpnMTU, nearInside, farNetwork)))
}

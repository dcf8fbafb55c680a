package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// resolvconfPrograms are where resolvconf(8) is.
var resolvconfPrograms = []string{"/usr/sbin/resolvconf", "/sbin/resolvconf", "/usr/bin/resolvconf"}

// resolvconfRecords are where Debian's and openresolv's keep what they were told.
var resolvconfRecords = map[dnsMode]string{
	dnsResolvconf: "/run/resolvconf/interface",
	dnsOpenresolv: "/run/resolvconf/interfaces",
}

// resolvconfTime bounds the program and the hooks that it runs.
const resolvconfTime = 10 * time.Second

// resolvconf finds the program, if it is not systemd-resolved's imitation.
func (h *linuxHost) resolvconf() string {
	for _, path := range resolvconfPrograms {
		target, err := filepath.EvalSymlinks(filepath.Join(h.root, path))
		if err == nil && filepath.Base(target) != "resolvectl" {
			return path
		}
	}
	return ""
}

// resolvconfStyle tells the two programs apart: only openresolv knows --version.
func (h *linuxHost) resolvconfStyle(ctx context.Context, program string) dnsMode {
	out, err := h.runResolvconf(ctx, program, nil, "--version")
	if err == nil && strings.Contains(out, "openresolv") {
		return dnsOpenresolv
	}
	return dnsResolvconf
}

// runResolvconf runs the program, without a shell and with an environment of ours. It
// has no other interface than its command line.
func (h *linuxHost) runResolvconf(ctx context.Context, program string, input []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolvconfTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(h.root, program), args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(input)
	cmd.WaitDelay = time.Second // hooks may keep the pipes
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, bytes.TrimSpace(out[:min(len(out), 200)]))
	}
	return string(out), nil
}

// resolvconfChange is a tunnel's record in resolvconf.
type resolvconfChange struct {
	plain   // the records are below /run
	h       *linuxHost
	Program string
	Style   dnsMode
	Name    string // of the record
	Servers []netip.Addr
	Search  []string
	All     bool // names
}

// planResolvconf has a record for each tunnel. Debian's resolvconf puts records of the
// name tun* before those of other interfaces.
func (h *linuxHost) planResolvconf(tunnels []Tunnel, style dnsMode) []change {
	var changes []change
	for _, t := range tunnels {
		name := t.Interface + ".wayfarer"
		if style == dnsResolvconf {
			name = "tun-" + name
		}
		changes = append(changes, &resolvconfChange{
			h: h, Program: h.resolvconf(), Style: style, Name: name,
			Servers: t.DNS, Search: t.SearchDomains, All: len(t.MatchDomains) == 0,
		})
	}
	return changes
}

func (c *resolvconfChange) String() string {
	return fmt.Sprintf("%s record %s all names %v:\n%s", c.Style, c.Name, c.All, c.content())
}

func (c *resolvconfChange) id() string     { return "resolvconf " + c.Name }
func (c *resolvconfChange) kind() string   { return "resolvconf" }
func (c *resolvconfChange) part() Part     { return PartDNS }
func (c *resolvconfChange) inherit(change) {}
func (c *resolvconfChange) onFiles()       {} // it names the program to run

func (c *resolvconfChange) content() []byte {
	return resolvConf([]Tunnel{{DNS: c.Servers, SearchDomains: c.Search}}, nil)
}

// record is the file in which the program keeps the record.
func (c *resolvconfChange) record() string {
	return filepath.Join(c.h.root, resolvconfRecords[c.Style], c.Name)
}

func (c *resolvconfChange) apply(ctx context.Context) error {
	is, err := os.ReadFile(c.record())
	if err == nil && bytes.Equal(is, c.content()) {
		return nil
	}
	args := []string{"-a", c.Name}
	if c.Style == dnsOpenresolv {
		args = append(args, "-m", "0") // before all others
		if c.All {
			args = append(args, "-x") // and instead of them
		}
	}
	_, err = c.h.runResolvconf(ctx, c.Program, c.content(), args...)
	return err
}

func (c *resolvconfChange) undo(ctx context.Context) error {
	if _, err := os.Stat(c.record()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := c.h.runResolvconf(ctx, c.Program, nil, "-d", c.Name)
	return err
}

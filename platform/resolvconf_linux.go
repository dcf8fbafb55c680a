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

// openresolvRecords is where openresolv keeps what it was told.
const openresolvRecords = "/run/resolvconf/interfaces"

// maxRecords bounds how many of them are read.
const maxRecords = 64

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

// resolvconfRecord is the name of our record in openresolv.
const resolvconfRecord = "wayfarer"

// resolvconfChange is our record in openresolv, of all tunnels: an exclusive record (-x)
// is the only one that counts, so that the host's own servers are not asked for a
// company's names as soon as the company's own do not answer.
type resolvconfChange struct {
	plain   // the records are below /run
	h       *linuxHost
	Program string
	Servers []netip.Addr
	Search  []string
}

func (h *linuxHost) planResolvconf(tunnels []Tunnel) change {
	servers, search := merged(tunnels)
	return &resolvconfChange{h: h, Program: h.resolvconf(), Servers: servers, Search: search}
}

func (c *resolvconfChange) String() string {
	return fmt.Sprintf("openresolv record:\n%s", c.content())
}

func (c *resolvconfChange) id() string     { return "resolvconf" }
func (c *resolvconfChange) kind() string   { return "resolvconf" }
func (c *resolvconfChange) part() Part     { return PartDNS }
func (c *resolvconfChange) inherit(change) {}
func (c *resolvconfChange) onFiles()       {} // it names the program to run

func (c *resolvconfChange) content() []byte { return resolvLines(c.Servers, c.Search) }

// record is the file in which the program keeps the record.
func (c *resolvconfChange) record() string {
	return filepath.Join(c.h.root, openresolvRecords, resolvconfRecord)
}

func (c *resolvconfChange) apply(ctx context.Context) error {
	is, err := readBounded(c.record())
	if err == nil && bytes.Equal(is, c.content()) {
		return nil
	}
	_, err = c.h.runResolvconf(ctx, c.Program, c.content(), "-a", resolvconfRecord, "-m", "0", "-x")
	return err
}

func (c *resolvconfChange) undo(ctx context.Context) error {
	if _, err := os.Stat(c.record()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := c.h.runResolvconf(ctx, c.Program, nil, "-d", resolvconfRecord)
	return err
}

// recordedServers are those of the records of others in openresolv, which do not count
// while ours is there.
func (h *linuxHost) recordedServers() []netip.Addr {
	dir := filepath.Join(h.root, openresolvRecords)
	entries, err := os.ReadDir(dir)
	if err != nil {
		h.log.Warn("network: the records of openresolv", "error", err)
	}
	var servers []netip.Addr
	for _, entry := range entries[:min(len(entries), maxRecords)] {
		if entry.Name() == resolvconfRecord {
			continue
		}
		content, err := readBounded(filepath.Join(dir, entry.Name()))
		if err != nil {
			h.log.Debug("network: a record of openresolv", "error", err)
		}
		servers = appendNew(servers, serversIn(content)...)
	}
	return servers
}

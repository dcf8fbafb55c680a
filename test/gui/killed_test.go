//go:build gui && linux

package gui

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// However the window's program ends, the demonstration's process and its folder go, too.
func TestDemoLeavesNothing(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			d := newDesktop(t)
			p := d.start("--demo")
			d.shown()
			folder := p.demoFolder()
			if _, err := os.Stat(folder); err != nil {
				t.Fatalf("the demonstration's folder: %v", err)
			}
			d.must(p.cmd.Process.Signal(sig))
			p.ended <- <-p.ended
			d.until("the folder to go", func() bool {
				_, err := os.Stat(folder)
				return os.IsNotExist(err)
			})
			d.until("the process to go", func() bool { return p.demoFolder() == "" })
		})
	}
}

// demoFolder is the one of the demonstration's process; empty: there is no process.
func (p *program) demoFolder() string {
	p.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	p.must(err)
	for _, command := range commands {
		line, _ := os.ReadFile(command)
		if !strings.HasSuffix(string(line), "wayfarer\x00demo\x00--serve\x00") {
			continue
		}
		dir := filepath.Dir(command)
		id := strings.TrimSpace(filepath.Base(dir))
		if group, err := syscall.Getpgid(number(id)); err != nil || group != p.cmd.Process.Pid {
			continue // another one's
		}
		sockets, err := os.ReadFile("/proc/net/unix")
		p.must(err)
		files, _ := filepath.Glob(filepath.Join(dir, "fd", "*"))
		for _, file := range files {
			target, _ := os.Readlink(file)
			inode, ok := strings.CutPrefix(target, "socket:[")
			if !ok {
				continue
			}
			for line := range strings.Lines(string(sockets)) {
				fields := strings.Fields(line)
				if len(fields) == 8 && fields[6] == strings.TrimSuffix(inode, "]") && strings.HasSuffix(fields[7], "/wayfarer.sock") {
					return filepath.Dir(fields[7])
				}
			}
		}
		return "unknown"
	}
	return ""
}

// number is that of a folder of /proc; 0: it has none.
func number(name string) int {
	n, err := strconv.Atoi(name)
	if err != nil {
		return 0
	}
	return n
}

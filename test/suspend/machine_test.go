//go:build suspend && linux

package suspend

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// answerTime bounds what the machine takes to start, or for a step. Emulated, it starts in
	// ten seconds, and on a busy computer in more than a minute.
	answerTime = 4 * time.Minute
	// firstKernel is where prereqs puts a kernel.
	firstKernel = "../../build/suspend/vmlinuz"
)

// idleTable is what iasl makes of
//
//	DefinitionBlock ("", "SSDT", 2, "WAYFRR", "SLEEP", 1) {
//	    External (\_SB.CPUS.C000, DeviceObj)
//	    Scope (\_SB.CPUS.C000) {
//	        Name (_CST, Package () {
//	            2,
//	            Package () { ResourceTemplate () { Register (FFixedHW, 0, 0, 0x0, 0) }, 1, 1, 1000 },
//	            Package () { ResourceTemplate () { Register (SystemIO, 8, 0, 0x80, 1) }, 2, 50000, 100 }
//	        })
//	    }
//	}
//
// The second state is entered by reading a port, which does nothing here. It is said to take
// so long to leave that Linux chooses it for s2idle alone.
const idleTable = "" +
	"535344549200000002e6574159465252534c45455000000001000000494e544c25092020a01400155c2f035f53425f43" +
	"5055534330303006001048055c2f035f53425f4350555343303030085f435354124104030a02121c0411140a11820c00" +
	"7f0000000000000000000000790001010be803121e0411140a11820c0001080001800000000000000079000a020b50c3" +
	"0a64"

// machine is a virtual machine whose only program is this test's.
type machine struct {
	t       *testing.T
	input   io.Writer
	lines   chan string
	seen    []string // of lines
	control string   // the debugger's socket
}

// start starts one. It ends with the test.
func start(t *testing.T) *machine {
	t.Helper()
	kernel := os.Getenv("SUSPEND_KERNEL")
	if kernel == "" {
		kernel = firstKernel
	}
	dir := t.TempDir()
	m := &machine{t: t, lines: make(chan string), control: filepath.Join(dir, "gdb")}
	table, err := hex.DecodeString(idleTable)
	m.must(err)
	m.must(os.WriteFile(filepath.Join(dir, "table"), table, 0o600))
	self, err := os.Executable()
	m.must(err)
	program, err := os.ReadFile(self)
	m.must(err)
	m.must(os.WriteFile(filepath.Join(dir, "initrd"), archive(program), 0o600))
	// Emulated everywhere: a hypervisor's clocks are others. The machine's own clock is the
	// computer's, and goes on while its processor is held.
	cmd := exec.Command("qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-m", "512", "-nodefaults", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-rtc", "clock=host", "-gdb", "unix:"+m.control+",server=on,wait=off",
		"-acpitable", "file="+filepath.Join(dir, "table"), "-kernel", kernel, "-initrd", filepath.Join(dir, "initrd"),
		"-append", "console=ttyS0 quiet no_console_suspend panic=-1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.input, err = cmd.StdinPipe()
	m.must(err)
	output, err := cmd.StdoutPipe()
	m.must(err)
	cmd.Stderr = cmd.Stdout
	m.must(cmd.Start())
	ended := make(chan struct{})
	t.Cleanup(func() {
		close(ended)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("console:\n%s", strings.Join(m.seen, "\n"))
		}
	})
	go func() {
		defer close(m.lines)
		for console := bufio.NewScanner(output); console.Scan(); {
			select {
			case m.lines <- strings.TrimSpace(console.Text()):
			case <-ended:
				return
			}
		}
	}()
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) send(line string) {
	m.t.Helper()
	_, err := io.WriteString(m.input, line+"\n")
	m.must(err)
}

// await gives what the guest says of something.
func (m *machine) await(what string) string {
	m.t.Helper()
	timeout := time.After(answerTime)
	for {
		select {
		case line, open := <-m.lines:
			if !open {
				m.t.Fatalf("%s: the machine has ended", what)
			}
			m.seen = append(m.seen, line)
			rest, is := strings.CutPrefix(line, said)
			is = is && strings.Contains(rest, " = ")
			if name, answer, _ := strings.Cut(rest, " = "); is && name == what {
				return answer
			} else if is && name == "error" {
				m.t.Fatalf("%s: %s", what, answer)
			}
		case <-timeout:
			m.t.Fatalf("%s: no answer", what)
		}
	}
}

// holdAt stops the processor once, for sleepTime, as soon as it comes to address, and wakes
// the machine by a key on its console then; the channel gets how that went. The debugger's
// protocol is GDB's: while one is connected and has not said that it shall go on, the machine
// stands still.
func (m *machine) holdAt(address string) <-chan error {
	m.t.Helper()
	conn, err := net.Dial("unix", m.control)
	m.must(err)
	m.must(conn.SetDeadline(time.Now().Add(answerTime)))
	replies := bufio.NewReader(conn)
	ask := func(request, want string) error {
		if err := tell(conn, request); err != nil || want == "" {
			return err
		}
		return hear(conn, replies, want)
	}
	m.must(ask("Z1,"+address+",1", "OK"))
	m.must(ask("c", ""))
	held := make(chan error, 1)
	go func() {
		defer conn.Close()
		err := hear(conn, replies, "T05")
		if err == nil {
			err = ask("z1,"+address+",1", "OK")
		}
		if err == nil {
			time.Sleep(sleepTime) // the machine's, by the computer's clock
			_, err = io.WriteString(m.input, "\n")
		}
		if err == nil {
			err = ask("D", "OK")
		}
		held <- err
	}()
	return held
}

func tell(w io.Writer, request string) error {
	var sum byte
	for _, b := range []byte(request) {
		sum += b
	}
	_, err := fmt.Fprintf(w, "$%s#%02x", request, sum)
	return err
}

// hear reads a reply, which has to begin as wanted. That the machine stands still since the
// debugger came (T02) is none.
func hear(w io.Writer, r *bufio.Reader, want string) error {
	for {
		if _, err := r.ReadString('$'); err != nil {
			return err
		}
		reply, err := r.ReadString('#')
		if err != nil {
			return err
		}
		if _, err := r.Discard(2); err != nil { // the sum
			return err
		}
		if _, err := io.WriteString(w, "+"); err != nil {
			return err
		}
		if strings.HasPrefix(reply, want) {
			return nil
		}
		if !strings.HasPrefix(reply, "T02") {
			return fmt.Errorf("%s instead of %s", reply, want)
		}
	}
}

// archive is the machine's file system as Linux unpacks it when it starts (cpio's form newc):
// a few empty directories and the program.
func archive(program []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	number := 0
	pad := func(size int) { _, _ = z.Write(make([]byte, -size&3)) }
	add := func(name string, mode int, content []byte) {
		number++
		fmt.Fprintf(z, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		pad(110 + len(name) + 1)
		_, _ = z.Write(content)
		pad(len(content))
	}
	for _, dir := range []string{"proc", "sys", "dev", "etc", "state"} {
		add(dir, syscall.S_IFDIR|0o755, nil)
	}
	add("init", syscall.S_IFREG|0o755, program)
	add("TRAILER!!!", 0, nil)
	_ = z.Close()
	return b.Bytes()
}

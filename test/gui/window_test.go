//go:build gui && linux

package gui

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bin is where "make gui" puts the programs.
func bin(name string) string {
	dir := os.Getenv("GUI_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "build", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		panic(err)
	}
	return path
}

// program is wayfarer-gui while it runs.
type program struct {
	*desktop
	cmd   *exec.Cmd
	said  output // on standard error
	ended chan error
}

// output is what a program says, which may be read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts wayfarer-gui.
func (d *desktop) start(args ...string) *program {
	d.Helper()
	p := &program{desktop: d, cmd: exec.Command(bin("wayfarer-gui"), args...), ended: make(chan error, 1)}
	p.cmd.Env = d.env()
	p.cmd.Stderr = &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with the demonstration's process
	d.must(p.cmd.Start())
	go func() { p.ended <- p.cmd.Wait() }()
	d.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			p.cmd.Process.Signal(os.Interrupt)
			select {
			case <-p.ended:
			case <-time.After(10 * time.Second):
				p.cmd.Process.Kill()
				<-p.ended
			}
		}
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what is left of a killed one
		if text := p.said.String(); d.Failed() && text != "" {
			d.Logf("wayfarer-gui says:\n%s", text)
		}
	})
	return p
}

// ends waits until the program has ended by itself, well.
func (p *program) ends() {
	p.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			p.Errorf("wayfarer-gui ended with %v", err)
		}
		p.ended <- err
	case <-time.After(patience):
		p.Fatal("wayfarer-gui does not end")
	}
}

// shows starts the program, and waits for its window and the tray's icon.
func (d *desktop) shows(args ...string) (*program, icon) {
	d.Helper()
	p := d.start(args...)
	tray := p.icon()
	d.shown()
	tray.is(grey)
	return p, tray
}

// trusts presses Trust, where the window asks.
func (d *desktop) trusts() {
	d.Helper()
	d.clicks(0.72, -30)
}

// icon waits until the program has one in the tray.
func (p *program) icon() icon {
	p.Helper()
	select {
	case i := <-p.icons:
		return i
	case <-time.After(patience):
		p.Fatal("no icon came into the tray")
	}
	return icon{}
}

// window is the window's number; empty: it is not to be seen.
func (d *desktop) window() string {
	out, err := d.tool("xdotool", "search", "--onlyvisible", "--name", "^Wayfarer$")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(out, "\n")
	return first
}

// shown waits for the window and gives it the keyboard.
func (d *desktop) shown() {
	d.Helper()
	d.until("the window", func() bool { return d.window() != "" })
	d.mustTool("xdotool", "windowactivate", "--sync", d.window())
}

// hidden waits until the window is not to be seen.
func (d *desktop) hidden() {
	d.Helper()
	d.until("the window to go", func() bool { return d.window() == "" })
}

// types types text, where the keyboard is.
func (d *desktop) types(text string) {
	d.Helper()
	d.mustTool("xdotool", "type", "--delay", "30", text)
}

// fills fills the form for a new connection; the first field has the keyboard.
func (d *desktop) fills(gateway, login, password string) {
	d.Helper()
	d.types(gateway)
	d.press("Tab")
	d.types(login)
	d.press("Tab")
	d.types(password)
}

// press presses keys, by their names in X.
func (d *desktop) press(keys ...string) {
	d.Helper()
	for _, key := range keys {
		d.mustTool("xdotool", "key", "--delay", "50", key)
	}
}

// clicks clicks in the window: right is the part of its width from the left, down the
// pixels from its top, or, if negative, from its bottom.
func (d *desktop) clicks(right float64, down int) {
	d.Helper()
	d.shown()
	width, height := d.size()
	if down < 0 {
		down += height
	}
	d.mustTool("xdotool", "mousemove", "--window", d.window(), strconv.Itoa(int(right*float64(width))), strconv.Itoa(down),
		"sleep", "0.2", // a hand is not faster, and Fyne looks where the pointer was in the last frame
		"click", "1")
}

// fits gives the window a height in pixels.
func (d *desktop) fits(height int) {
	d.Helper()
	width, _ := d.size()
	d.mustTool("xdotool", "windowsize", "--sync", d.window(), strconv.Itoa(width), strconv.Itoa(height))
}

// size is the window's, in pixels.
func (d *desktop) size() (width, height int) {
	d.Helper()
	for line := range strings.Lines(d.mustTool("xdotool", "getwindowgeometry", "--shell", d.window())) {
		fmt.Sscanf(line, "WIDTH=%d", &width)
		fmt.Sscanf(line, "HEIGHT=%d", &height)
	}
	return width, height
}

// closes closes the window as a person does.
func (d *desktop) closes() {
	d.Helper()
	d.shown()
	d.press("alt+F4")
}

// shot writes a picture of the window, once it has come to rest, into build/screens.
func (d *desktop) shot(name string) {
	d.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "build", "screens", name+".png"))
	d.must(err)
	d.must(os.MkdirAll(filepath.Dir(path), 0o755))
	var last []byte
	for range 20 {
		d.mustTool("import", "-window", d.window(), path)
		picture, err := os.ReadFile(path)
		d.must(err)
		if bytes.Equal(picture, last) {
			return
		}
		last = picture
		time.Sleep(200 * time.Millisecond)
	}
	// Something moves, as the graph does.
}

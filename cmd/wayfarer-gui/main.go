//go:build cgo && (x11 || wayland || !linux)

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fyne.io/fyne/v2"
	fyneapp "fyne.io/fyne/v2/app"
	"fyne.io/systray"
	"github.com/go-gl/glfw/v3.4/glfw"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/gui"
	"wayfarer/app/store"
	"wayfarer/assets"
	"wayfarer/platform"
)

// appID names the program to the desktop: its preferences, its notifications, its icon.
const appID = "io.github.wayfarer"

// Exit codes, those of the command line.
const (
	exitInternal = 1
	exitUsage    = 2
)

// arguments are those of the command line.
type arguments struct {
	demo, hidden bool
	connect      string
	files        []string // profiles to import
}

func main() {
	var usage strings.Builder
	args, err := parse(os.Args[1:], &usage)
	if err != nil {
		tell(usage.String())
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		os.Exit(exitUsage)
	}
	if err := run(args); err != nil {
		tell(fmt.Sprintf("wayfarer-gui: %v\n", err))
		os.Exit(exitInternal)
	}
}

// parse reads a command line, and writes to usage what is wrong with it.
func parse(list []string, usage io.Writer) (*arguments, error) {
	args := &arguments{}
	flags := flag.NewFlagSet("wayfarer-gui", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.BoolVar(&args.demo, "demo", false, "show everything with a gateway on this computer, without any rights")
	flags.BoolVar(&args.hidden, "hidden", false, "start in the tray, without the window")
	flags.StringVar(&args.connect, "connect", "", "connect the saved profile `NAME`")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "Usage: wayfarer-gui [--demo] [--hidden] [--connect NAME] [FILE...]\n\nFILE is a profile to import.")
		flags.PrintDefaults()
	}
	err := flags.Parse(list)
	args.files = flags.Args()
	return args, err
}

func run(args *arguments) error {
	// At login the system starts it for users who have declined that, too.
	if entry, err := platform.NewAutostart(); args.hidden && err == nil && entry.Declined() {
		return nil
	}
	instance, err := claim(args)
	if errors.Is(err, platform.ErrHandedOver) {
		return nil
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wayfarer-gui: a second start will not find this one:", err)
	}
	if instance != nil {
		defer instance.Close()
	}
	icon := fyne.NewStaticResource("wayfarer.png", assets.AppPNG)
	fyneapp.SetMetadata(fyne.AppMetadata{
		ID: appID, Name: "Wayfarer", Version: app.Version(), Icon: icon,
		Migrations: map[string]bool{"fyneDo": true},
	})
	options := gui.Options{
		Now: time.Now, Version: app.Version(), Connect: args.connect, Hidden: args.hidden, Files: args.files,
		Autostart: startAtLogin(), Tray: hasBus(), TrayHost: platform.TrayHost, TrayTooltip: systray.SetTooltip, TrayTapped: systray.SetOnTapped,
		Store: profiles(args.demo),
	}
	socket := control.DefaultPath()
	if args.demo {
		demo, err := startDemo()
		if err != nil {
			return err
		}
		defer demo.stop()
		socket, options.Demo = demo.socket, &demo.Demo
	}
	var idle rest
	options.Service = &control.Client{Path: socket}
	options.Wake, options.Untouched = idle.wake, idle.untouched
	makeCache()
	options.App = fyneapp.NewWithID(appID)
	options.App.SetIcon(icon)
	g := gui.New(options)
	if instance != nil {
		instance.Serve(func(list []string) {
			if again, err := parse(list, io.Discard); err == nil {
				g.Again(again.connect, again.files)
			}
		})
	}
	options.App.Lifecycle().SetOnStarted(func() {
		flatten()
		g.Start()
	})
	quitOnSignal(options.App)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go idle.run(ctx, g.Still)
	options.App.Run()
	g.Close()
	return nil
}

// flatten has windows without depth and stencil, which nothing in them uses. Clearing and
// keeping them costs more than a tenth of each frame where software draws.
func flatten() {
	glfw.WindowHint(glfw.DepthBits, 0)
	glfw.WindowHint(glfw.StencilBits, 0)
}

// makeCache makes the folder of all programs' caches, which a new user does not have yet:
// Fyne makes its own only below one that is there, and shows notifications without an
// icon otherwise.
func makeCache() {
	dir, err := os.UserCacheDir()
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wayfarer-gui: no folder for a cache:", err)
	}
}

// quitOnSignal ends the program in order when the session does: the demonstration has a
// process of its own.
func quitOnSignal(a fyne.App) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		fyne.Do(a.Quit)
	}()
}

// hasBus says whether an icon can be registered, also with a panel that starts later.
// Without a session bus the tray's library does not survive the program's end.
func hasBus() bool {
	return !errors.Is(platform.TrayHost(context.Background()), platform.ErrNoSessionBus)
}

// claim makes this the one window of the user's session, or hands the arguments to the
// one that there is. The demonstration stands beside it.
func claim(args *arguments) (*platform.Instance, error) {
	name := "wayfarer-gui"
	if args.demo {
		name += "-demo"
	}
	list := args.list()
	return platform.ClaimInstance(context.Background(), name, list)
}

// list is the command line that says the same, with files by their whole paths: the
// other process may stand in another folder.
func (a *arguments) list() []string {
	var list []string
	if a.connect != "" {
		list = append(list, "--connect="+a.connect)
	}
	list = append(list, "--")
	for _, file := range a.files {
		if whole, err := filepath.Abs(file); err == nil {
			file = whole
		}
		list = append(list, file)
	}
	return list
}

// profiles is the user's store; the demonstration leaves nothing behind.
func profiles(demo bool) gui.Store {
	if demo {
		return &gui.Memory{}
	}
	s, err := store.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, "wayfarer-gui: profiles are forgotten when this program ends:", err)
		return &gui.Memory{Forgetful: true}
	}
	return s
}

// loginStart has the system start this program in the tray when the user logs in.
type loginStart struct{ *platform.Autostart }

// startAtLogin is nil where the system does not offer it.
func startAtLogin() gui.Switch {
	entry, err := platform.NewAutostart()
	if err != nil {
		return nil
	}
	return loginStart{entry}
}

// Set implements gui.Switch.
func (l loginStart) Set(on bool) error {
	if !on {
		return l.Disable()
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return l.Enable(program, "--hidden")
}

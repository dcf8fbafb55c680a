//go:build cgo

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"fyne.io/fyne/v2"
	fyneapp "fyne.io/fyne/v2/app"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/gui"
	"wayfarer/app/store"
	"wayfarer/assets"
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
	args, err := parse(os.Args[1:])
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		os.Exit(exitUsage)
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, "wayfarer-gui:", err)
		os.Exit(exitInternal)
	}
}

func parse(list []string) (*arguments, error) {
	args := &arguments{}
	flags := flag.NewFlagSet("wayfarer-gui", flag.ContinueOnError)
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
	fyneapp.SetMetadata(fyne.AppMetadata{
		ID: appID, Name: "Wayfarer", Version: app.Version(),
		Icon:       fyne.NewStaticResource("wayfarer.png", assets.AppPNG),
		Migrations: map[string]bool{"fyneDo": true},
	})
	options := gui.Options{Now: time.Now, Connect: args.connect, Hidden: args.hidden, Files: args.files}
	socket := control.DefaultPath()
	if args.demo {
		demo, err := startDemo()
		if err != nil {
			return err
		}
		defer demo.stop()
		socket, options.Demo = demo.socket, &demo.Demo
	}
	options.Service = &control.Client{Path: socket}
	options.Store = profiles(args.demo)
	options.App = fyneapp.NewWithID(appID)
	options.App.SetIcon(fyne.NewStaticResource("wayfarer.png", assets.AppPNG))
	g := gui.New(options)
	options.App.Lifecycle().SetOnStarted(g.Start)
	options.App.Run()
	g.Close()
	return nil
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

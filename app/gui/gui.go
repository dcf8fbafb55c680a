package gui

import (
	"context"
	"iter"
	"time"

	"fyne.io/fyne/v2"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

// Service is what the window needs of the service; *control.Client is one.
type Service interface {
	// Status asks for the whole status once.
	Status(ctx context.Context) (*app.Status, error)
	// Watch yields the whole status at once and after each change. It ends with an
	// error when the service goes away.
	Watch(ctx context.Context) iter.Seq2[*app.Status, error]
	// Managed asks for what an administrator has set up for all users.
	Managed(ctx context.Context) (*app.Managed, error)
	// Connect starts a connection and returns its ID at once.
	Connect(ctx context.Context, req *control.ConnectRequest) (string, error)
	// Disconnect ends a connection, in whichever state.
	Disconnect(ctx context.Context, id string) error
	// Answer answers a prompt of a connection.
	Answer(ctx context.Context, id string, answer *control.Answer) error
	// Logs yields the lines of the log that are of at least a level, oldest first;
	// with following it goes on with those that come.
	Logs(ctx context.Context, level string, following bool) iter.Seq2[*app.LogRecord, error]
	// RestoreNetwork undoes what is left on this computer of connections that are
	// no more.
	RestoreNetwork(ctx context.Context) error
}

// Store is the user's profiles; *store.Store is one. Every error may wrap
// store.ErrNoKeyring.
type Store interface {
	// Names lists the profiles in the user's order.
	Names() ([]string, error)
	// Load reads a profile; the caller zeroises it.
	Load(name string) (*store.Entry, error)
	// Save writes a profile under its name, over what was there.
	Save(e *store.Entry) error
	// Replace saves a profile, which may have another name, in place of the one of a name.
	Replace(name string, e *store.Entry) error
	// Remove deletes a profile with its secrets.
	Remove(name string) error
	// Rename gives a profile another name, which no other may have.
	Rename(from, to string) error
	// Reorder puts the profiles into this order.
	Reorder(names []string) error
	// Adopt saves a profile out of a file, with the files that it has brought.
	Adopt(c *store.Candidate) error
}

var (
	_ Service = (*control.Client)(nil)
	_ Store   = (*store.Store)(nil)
)

// Options are what the window is made of.
type Options struct {
	App     fyne.App
	Service Service
	Store   Store
	Now     func() time.Time
	// Connect names the profile to connect at once; empty: that of the settings.
	Connect string
	// Hidden: the window is not shown at the start.
	Hidden bool
	// Files are profiles to import.
	Files []string
	// Version is the program's.
	Version string
	// Autostart is whether the system starts the program at login; nil: it cannot.
	Autostart Switch
	// Tray: there is something to register an icon with, now or later.
	Tray bool
	// TrayHost says why no icon in the tray would be seen; nil: there is no tray.
	TrayHost func(context.Context) error
	// TrayTooltip sets what the icon says, TrayTapped what a click on it does.
	TrayTooltip func(string)
	TrayTapped  func(func())
	// Wake tells Fyne's loop, which may rest, that there is something for it to do; nil:
	// it does not rest.
	Wake func()
	// Untouched is how long neither mouse nor keyboard has done anything in the window;
	// nil: nobody knows.
	Untouched func() time.Duration
	// Demo is the gateway of the demonstration; nil: this is none.
	Demo *Demo
}

// Demo is what the form is filled with in the demonstration.
type Demo struct{ Gateway, Login, Password string }

// GUI is the program's window and tray.
type GUI struct{ c *controller }

// New makes the window; nothing is shown yet. It is called before Fyne's loop runs.
func New(opts Options) *GUI {
	opts.App.Settings().SetTheme(newLook())
	if err := useLanguage(prefs{opts.App.Preferences()}.language()); err != nil {
		fyne.LogError("Translations", err)
	}
	do := fyne.Do
	if opts.Wake != nil {
		do = func(f func()) {
			fyne.Do(f)
			opts.Wake()
		}
	}
	c := newController(opts, do)
	c.makeTray()
	return &GUI{c}
}

// Start shows the window, unless it is to be hidden, and begins to follow the service. It
// is called on Fyne's goroutine.
func (g *GUI) Start() {
	g.c.start()
	if g.c.opts.Hidden {
		g.c.startHidden()
	} else {
		g.c.raise()
	}
}

// Again is for a second start of the program: the window comes to the front, a profile is
// connected, files are imported. It may be called on any goroutine.
func (g *GUI) Again(connect string, files []string) {
	g.c.do(func() {
		g.c.raise()
		if connect != "" {
			g.c.connectNamed(connect)
		}
		g.c.importFiles(files)
	})
}

// Still says that nothing moves: the window is hidden, or shows a connection that stands,
// whose figures change about once a second. It may be called on any goroutine.
func (g *GUI) Still() bool { return g.c.still.Load() }

// Close ends what the window does, after Fyne's loop. Connections stay with the service.
func (g *GUI) Close() { g.c.close() }

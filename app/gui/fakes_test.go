package gui

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

// fakeService is a service whose status the test sets, and that writes down what it is
// asked to do.
type fakeService struct {
	mu      sync.Mutex
	status  app.Status
	gone    error // nil: it is there
	changed chan struct{}

	requests []control.ConnectRequest // copies, with their secrets
	answers  []control.Answer         // the same
	ended    []string
	placed   app.Managed
	repaired int
	watches  int
	asked    int
	refused  int   // requests
	connect  error // what Connect says
	hang     chan struct{}
}

func newFakeService() *fakeService {
	return &fakeService{status: app.Status{Version: "1.2.3"}, changed: make(chan struct{})}
}

// update changes the status and tells the watchers.
func (s *fakeService) update(f func(*app.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Connections = slices.Clone(s.status.Connections)
	f(&s.status)
	close(s.changed)
	s.changed = make(chan struct{})
}

// set makes c the only connection.
func (s *fakeService) set(c app.Connection) {
	s.update(func(st *app.Status) { st.Connections = []app.Connection{c} })
}

func (s *fakeService) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = err
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *fakeService) Status(context.Context) (*app.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	status := s.status
	return &status, s.gone
}

func (s *fakeService) timesWatched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches
}

func (s *fakeService) timesAsked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *fakeService) Watch(ctx context.Context) iter.Seq2[*app.Status, error] {
	return func(yield func(*app.Status, error) bool) {
		s.mu.Lock()
		s.watches++
		s.mu.Unlock()
		for {
			s.mu.Lock()
			status, gone, changed := s.status, s.gone, s.changed
			s.mu.Unlock()
			if gone != nil {
				yield(nil, gone)
				return
			}
			if !yield(&status, nil) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s *fakeService) Managed(context.Context) (*app.Managed, error) { return &s.placed, nil }

func (s *fakeService) Connect(_ context.Context, req *control.ConnectRequest) (string, error) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own := *req
	own.Password, own.GroupSecret = slices.Clone(req.Password), slices.Clone(req.GroupSecret)
	s.requests = append(s.requests, own)
	if s.connect != nil {
		s.refused++
		return "", s.connect
	}
	return fmt.Sprintf("c%d", len(s.requests)-s.refused), nil
}

func (s *fakeService) Disconnect(_ context.Context, id string) error {
	s.mu.Lock()
	s.ended = append(s.ended, id)
	s.mu.Unlock()
	s.update(func(st *app.Status) {
		st.Connections = slices.DeleteFunc(st.Connections, func(c app.Connection) bool { return c.ID == id })
	})
	return nil
}

func (s *fakeService) Answer(_ context.Context, _ string, a *control.Answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := *a
	own.Text = slices.Clone(a.Text)
	s.answers = append(s.answers, own)
	return nil
}

func (s *fakeService) Logs(context.Context, string, bool) iter.Seq2[*app.LogRecord, error] {
	return func(yield func(*app.LogRecord, error) bool) {}
}

func (s *fakeService) RestoreNetwork(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repaired++
	return nil
}

// world is a controller with a fake service, in virtual time.
type world struct {
	*controller
	t       *testing.T
	service *fakeService
	store   *Memory

	mu    sync.Mutex
	queue []func() // for Fyne's goroutine, which is the test's
}

// inWorld runs a test of the controller, after it has begun. prepare may change what
// there is before; nil: nothing.
func inWorld(t *testing.T, prepare func(*world, *Options), body func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, service: newFakeService(), store: &Memory{}}
		opts := Options{App: test.NewTempApp(t), Service: w.service, Store: w.store, Now: time.Now, Version: "1.2.3"}
		opts.App.Settings().SetTheme(newLook())
		if prepare != nil {
			prepare(w, &opts)
		}
		w.controller = newController(opts, func(f func()) {
			w.mu.Lock()
			w.queue = append(w.queue, f)
			w.mu.Unlock()
		})
		w.makeTray()
		w.start()
		w.raise()
		defer func() {
			w.close()
			w.settleDown()
		}()
		w.settleDown()
		body(w)
	})
}

// settleDown runs what is queued until nothing more comes without time passing.
func (w *world) settleDown() {
	for {
		synctest.Wait()
		w.mu.Lock()
		queue := w.queue
		w.queue = nil
		w.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, f := range queue {
			f()
		}
	}
}

// shows is the part of the right side that is to be seen.
func (w *world) shows() string {
	switch w.home.shown {
	case w.home.form.box:
		return "form"
	case w.home.progress.content:
		return "progress"
	case w.home.prompt.box:
		return "prompt"
	case w.home.trust.box:
		return "trust"
	case w.home.failure.box:
		return "failure"
	case w.home.connected.box:
		return "connected"
	}
	return "nothing"
}

func (w *world) want(part string) {
	w.t.Helper()
	w.settleDown()
	if got := w.shows(); got != part {
		w.t.Fatalf("the window shows %s, want %s", got, part)
	}
}

// press presses a button, as a person can: it must be there.
func (w *world) press(b *button) {
	w.t.Helper()
	if b.Disabled() || !b.Visible() {
		w.t.Fatalf("the button %q cannot be pressed", b.Text)
	}
	test.Tap(b)
	w.settleDown()
}

// save puts a profile into the store, before the window reads it.
func (w *world) save(e store.Entry) {
	w.t.Helper()
	if err := w.store.Save(&e); err != nil {
		w.t.Fatal(err)
	}
}

// officeEntry is a saved profile.
func officeEntry() store.Entry {
	return store.Entry{
		Profile:  app.Profile{Name: "office", Gateway: "vpn.example.com", Login: "ada"},
		Password: []byte("lovelace"),
	}
}

// withOffice saves the profile office.
func withOffice(w *world, _ *Options) { w.save(officeEntry()) }

// connection is one of the profile office in a state.
func connection(state app.State, change func(*app.Connection)) app.Connection {
	since := time.Now()
	c := app.Connection{
		ID: "c1", State: state, Profile: "office", Owner: "ada", Since: &since,
		Gateway: &app.Gateway{Host: "vpn.example.com"},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func promptedBy(p app.Prompt) app.Connection {
	return connection(app.StateActionNeeded, func(c *app.Connection) {
		p.ID = "p1"
		c.Step, c.Prompt = app.StepSignIn, &p
	})
}

func failedWith(f *app.Failure) app.Connection {
	return connection(app.StateFailed, func(c *app.Connection) { c.Failure = f })
}

// focused is what has the keyboard.
func (w *world) focused() fyne.Focusable { return w.win.Canvas().Focused() }

// visible are an object and what is in it, as far as it can be seen.
func visible(o fyne.CanvasObject) []fyne.CanvasObject {
	if !o.Visible() {
		return nil
	}
	list, inside := []fyne.CanvasObject{o}, []fyne.CanvasObject(nil)
	switch o := o.(type) {
	case *fyne.Container:
		inside = o.Objects
	case fyne.Widget:
		inside = test.WidgetRenderer(o).Objects()
	}
	for _, o := range inside {
		list = append(list, visible(o)...)
	}
	return list
}

// texts are all labels below an object.
func texts(o fyne.CanvasObject) string {
	var b strings.Builder
	for _, o := range visible(o) {
		if l, ok := o.(*widget.Label); ok {
			b.WriteString(l.Text + "\n")
		}
	}
	return b.String()
}

func TestMain(m *testing.M) {
	os.Setenv("LANG", "en_US.UTF-8") // whoever runs the tests
	os.Setenv("LANGUAGE", "en")
	os.Exit(m.Run())
}

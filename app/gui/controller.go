package gui

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"fyne.io/fyne/v2"

	"wayfarer/app"
	"wayfarer/app/store"
)

// Times of the controller.
const (
	// Between attempts to reach the service: growing, so that a machine without one
	// is not kept busy, and short enough to seem at once when it appears.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 4 * time.Second
	// tick is how often what counts is counted, while somebody looks. Each time, the
	// whole window is drawn anew.
	tick = time.Second
	// awayTicks is the same for a window that perhaps nobody looks at: it is not in front,
	// or was not touched for quietTime. So many ticks.
	awayTicks = 3
	quietTime = 30 * time.Second
)

// controller knows service, store and views, and is the one that does things.
type controller struct {
	opts  Options
	svc   Service
	store *session
	app   fyne.App
	prefs prefs
	now   func() time.Time

	ctx context.Context // ends with the program
	end context.CancelFunc
	// counts: what the window shows changes with every packet, and is looked at after so
	// many ticks; 0: it does not.
	counts atomic.Int32
	still  atomic.Bool                // see GUI.Still
	newest atomic.Pointer[app.Status] // the model's
	do     func(func())               // runs a function on Fyne's goroutine
	job    chan func() func()         // work that blocks, in its order

	// What follows belongs to Fyne's goroutine.
	model     model
	attempts  map[string]*attempt // by key
	trusted   map[string]bool     // IDs of connections whose gateway was trusted here
	learnt    map[string]bool     // IDs of connections that have been looked at when they stood
	questions int                 // numbers those of the window's own
	started   bool                // the service has said its status once
	listed    bool                // the profiles have been read once

	*window
	shell
}

// newController makes the controller and its window, which is not shown yet. Call
// start to begin.
func newController(opts Options, do func(func())) *controller {
	ctx, end := context.WithCancel(context.Background())
	c := &controller{
		opts: opts, svc: opts.Service, store: newSession(opts.Store), app: opts.App, prefs: prefs{opts.App.Preferences()}, now: opts.Now,
		ctx: ctx, end: end, do: do, job: make(chan func() func(), 64),
		attempts: map[string]*attempt{}, trusted: map[string]bool{}, learnt: map[string]bool{},
	}
	c.model.own, c.model.begun = map[string]own{}, map[string]string{}
	c.build()
	if d := opts.Demo; d != nil {
		c.home.form.fill(d.Gateway, d.Login)
		c.home.form.password.SetText(d.Password)
	}
	return c
}

// start begins to watch the service and to read the profiles.
func (c *controller) start() {
	go c.work()
	go c.watch()
	go c.count()
	c.startShell()
	c.reload("")
	c.importFiles(c.opts.Files)
}

// close ends everything; connections stay with the service.
func (c *controller) close() {
	for key, a := range c.attempts {
		a.zero()
		delete(c.attempts, key)
	}
	c.end()
}

// watch follows the service for as long as the program runs.
func (c *controller) watch() {
	wait := firstRetry
	for c.ctx.Err() == nil {
		placed := false
		for status, err := range c.svc.Watch(c.ctx) {
			if err != nil {
				c.do(func() { c.lose(err) })
				break
			}
			wait = firstRetry
			if !placed {
				placed = true
				c.askManaged()
			}
			c.do(func() { c.show(status) })
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
		}
		wait = min(2*wait, lastRetry)
	}
}

// askManaged asks a service that has come what the administrator has set up. One that does
// not tell is too old to have anything.
func (c *controller) askManaged() {
	set, err := c.svc.Managed(c.ctx)
	if err != nil {
		set = &app.Managed{}
	}
	c.do(func() {
		c.model.place(set)
		c.composing = c.composing && !set.Policy.ForbidAdding
	})
}

// count asks for what counts, while somebody may look: the service does not tell of each
// packet by itself.
func (c *controller) count() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for since := int32(1); ; since++ {
		select {
		case <-ticker.C:
			every := c.counts.Load()
			if every > 0 && c.opts.Untouched != nil && c.opts.Untouched() >= quietTime {
				every = awayTicks
			}
			if every == 0 || since < every {
				continue
			}
			since = 0
			before := c.newest.Load()
			if status, err := c.svc.Status(c.ctx); err == nil { // else Watch tells why
				c.do(func() {
					if before != nil && c.model.status == before { // else Watch told something newer
						c.show(status)
					}
				})
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// watchCounters says whether what is to be seen counts.
func (c *controller) watchCounters(it *item) {
	every := int32(0)
	if c.visible && c.page == nil && it.state == app.StateConnected {
		every = 1
		if !c.inFront {
			every = awayTicks
		}
	}
	c.counts.Store(every)
	c.still.Store(every > 0 || !c.visible)
}

// work does what blocks, one after the other: a keyring may ask the person for its
// password meanwhile. What a job returns is done on Fyne's goroutine.
func (c *controller) work() {
	for {
		select {
		case job := <-c.job:
			if then := job(); then != nil {
				c.do(then)
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// later gives work a job.
func (c *controller) later(job func() func()) {
	select {
	case c.job <- job:
	default:
		go func() {
			select {
			case c.job <- job:
			case <-c.ctx.Done():
			}
		}()
	}
}

// show takes a new status.
func (c *controller) show(status *app.Status) {
	first := c.model.status == nil
	c.model.status, c.model.noService = status, nil
	c.newest.Store(status)
	c.settle()
	if first {
		c.selectFirst()
	}
	c.render()
	c.notify()
	if !c.started {
		c.started = true
		c.connectOnStart()
	}
}

// lose takes that the service cannot be used. Its connections are not known any more.
func (c *controller) lose(err error) {
	failure, ok := errors.AsType[*app.Failure](err)
	if !ok {
		failure = app.NewFailure(app.CodeInternal, "", err.Error(), "")
	}
	for _, a := range c.attempts {
		a.seen = a.seen || a.id != "" // or it would be waited for
	}
	c.model.status, c.model.noService = nil, failure
	clear(c.learnt) // the next service numbers its connections anew
	clear(c.trusted)
	clear(c.model.begun)
	c.newest.Store(nil)
	c.render()
	c.notify()
}

func (c *controller) find(id string) *app.Connection { return findConnection(c.model.status, id) }

// change changes what the window itself knows of a key.
func (c *controller) change(key string, f func(*own)) {
	o := c.model.own[key]
	f(&o)
	if o == (own{}) {
		delete(c.model.own, key)
	} else {
		c.model.own[key] = o
	}
	c.settle()
	c.render()
}

// selectItem shows an item on the right side.
func (c *controller) selectItem(key string) {
	c.leave(func() {
		c.model.selected = key
		c.closePage()
		c.render()
	}, nil)
}

// selectFirst selects what matters most when the window opens: a connection that
// lives, else the first profile.
func (c *controller) selectFirst() {
	if c.model.selected != "" || c.composing {
		return
	}
	items := c.model.items()
	if i := slices.IndexFunc(items, func(it item) bool { return active(it.state) }); i >= 0 {
		c.model.selected = items[i].key
	} else if len(items) > 0 {
		c.model.selected = items[0].key
	}
}

// reload reads the profiles again; select is the name of the one to select then, if
// any.
func (c *controller) reload(selectName string) {
	c.later(func() func() {
		list, err := readProfiles(c.store)
		missing := c.store.noKeyring()
		return func() {
			if err != nil {
				c.complain(err)
				return
			}
			c.loaded(list, missing, selectName)
		}
	})
}

func readProfiles(s Store) ([]saved, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	list := make([]saved, len(names))
	for i, name := range names {
		entry, err := s.Load(name)
		list[i] = saved{name: name, damaged: err}
		if err != nil {
			continue
		}
		method, _ := entry.Profile.AuthMethod()
		list[i] = saved{
			name: name, gateway: entry.Profile.Gateway, login: entry.Profile.Login,
			signsIn: method.Login, hasPassword: len(entry.Password) > 0, pinned: entry.Profile.Pin != "",
		}
		entry.Zero()
	}
	return list, nil
}

func (c *controller) loaded(list []saved, noKeyring error, selectName string) {
	c.model.profiles, c.model.noKeyring = list, noKeyring
	c.listed = true
	switch {
	case selectName != "":
		c.model.selected = profileKey(selectName)
	case c.model.status != nil:
		c.selectFirst()
	}
	c.settle()
	c.render()
}

// saved is after a profile was written.
func (c *controller) saved(err error) {
	if err != nil {
		c.complain(err)
	}
	c.reload("")
}

// connectDraft connects with what the form holds.
func (c *controller) connectDraft(d draft) {
	key := c.model.selected
	if name, ok := profileOf(key); ok && c.model.profile(key) != nil {
		c.connectProfile(name, d.password, d.remember)
		return
	}
	if p := c.model.placed(key); p != nil {
		c.connectManaged(p, d.login, d.password)
		return
	}
	a := &attempt{save: d.remember, keepPassword: d.remember}
	a.entry = &store.Entry{Profile: app.Profile{Gateway: d.gateway, Login: d.login}, Password: d.password}
	if d.remember {
		a.entry.Profile.Name = c.model.freeName(nameFor(d.gateway))
	}
	c.begin(a)
}

// connectProfile connects with a saved profile. password is for one that has none
// stored, and is kept with remember; it may be nil.
func (c *controller) connectProfile(name string, password []byte, remember bool) {
	key := profileKey(name)
	if old := c.attempts[key]; old != nil {
		old.zero()
	}
	a := &attempt{key: key, entry: &store.Entry{Profile: app.Profile{Name: name}}, keepPassword: true}
	if len(password) > 0 {
		a.entry.Password, a.save, a.keepPassword = password, remember, remember
	}
	c.attempts[key] = a
	c.change(key, func(o *own) { *o = own{starting: true} })
	c.later(func() func() {
		entry, err := c.store.Load(name)
		return func() { c.read(a, entry, err) }
	})
}

// connectManaged connects a profile of the administrator's: the service knows the rest, and
// asks for what is missing.
func (c *controller) connectManaged(p *saved, login string, password []byte) {
	a := &attempt{key: managedKey(p.name), entry: &store.Entry{Profile: app.Profile{Name: p.name}, Password: password}}
	if p.login == "" {
		a.entry.Profile.Login = login
	}
	c.begin(a)
}

// read goes on with an attempt whose profile was read.
func (c *controller) read(a *attempt, entry *store.Entry, err error) {
	switch {
	case c.attempts[a.key] != a: // cancelled
		if err == nil {
			entry.Zero()
		}
	case err != nil:
		delete(c.attempts, a.key)
		a.zero()
		c.fail(a.key, storeFailure(err))
	default:
		if len(a.entry.Password) > 0 {
			entry.ForgetPassword()
			entry.Password = a.entry.Password
		}
		a.entry = entry
		c.begin(a)
	}
}

// connectKey connects an item of the list or the tray: as before, if that has failed, or
// as it is saved. Of anything else only the form knows more.
func (c *controller) connectKey(key string) {
	name, _ := profileOf(key)
	switch it := c.model.item(key); {
	case active(it.state), it.barred:
	case c.attempts[key] != nil, it.profile == nil && it.managed == nil:
		c.tryAgain(key)
	case it.managed != nil && it.managed.signsIn && it.managed.login == "":
		c.selectItem(key) // there is a field for it
	case it.managed != nil:
		c.connectManaged(it.managed, "", nil)
	default:
		c.connectProfile(name, nil, false)
	}
}

// connectOnStart connects the profile that the program was started for, or that the
// settings name.
func (c *controller) connectOnStart() {
	name := c.opts.Connect
	if name == "" {
		name = c.prefs.connectOnStart()
	}
	if name != "" {
		c.connectNamed(name)
	}
}

// connectNamed shows a profile, and connects it unless it is.
func (c *controller) connectNamed(name string) {
	c.model.selected = c.model.keyOf(name)
	switch it := c.model.item(c.model.selected); {
	case active(it.state), it.barred:
	case it.managed != nil:
		c.connectKey(it.key)
		return
	default:
		c.connectProfile(name, nil, false)
		return
	}
	c.render()
}

// storeFailure says why a profile cannot be read or kept.
func storeFailure(err error) *app.Failure {
	hint := "save the profile anew"
	if errors.Is(err, store.ErrNoKeyring) {
		hint = "unlock or start a keyring"
	}
	return app.NewFailure(app.CodeInternal, "", err.Error(), hint)
}

// render shows the model.
func (c *controller) render() {
	c.renderWindow(&c.model)
	c.renderHome()
	c.renderTray()
}

// renderHome shows the selected item on the right side.
func (c *controller) renderHome() {
	it := c.model.item(c.model.selected)
	if c.model.noKeyring == nil {
		a := c.attempts[it.key]
		it.canKeep = a != nil && (it.profile != nil || a.save)
		// One that was refused is forgotten: the next is typed in its place.
		it.keeps = a != nil && a.save && len(a.entry.Password) == 0
	}
	c.watchCounters(&it)
	focus, changed := c.home.update(&it, c.model.noKeyring, c.now())
	if c.model.noService != nil {
		c.noService.update(c.model.noService, runtime.GOOS)
	}
	if changed && c.visible && c.model.noService == nil && c.page == nil && c.dialog == nil {
		c.moveFocus(focus)
	}
}

// moveFocus gives the keyboard to what has appeared on the right side; with nil, only
// takes it from what is gone there.
func (c *controller) moveFocus(to fyne.Focusable) {
	if _, inList := c.win.Canvas().Focused().(*sidebarRow); to == nil && inList {
		return
	}
	if to == nil {
		c.win.Canvas().Unfocus()
		return
	}
	c.win.Canvas().Focus(to)
}

package gui

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"fyne.io/fyne/v2/lang"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// attempt is what the window knows of a connection that it has begun, until the
// connection stands or is dismissed.
//
//	preparing -> begun -> settled (connected) | over | dismissed
//	          \> failed -> preparing (tried again) | dismissed
type attempt struct {
	key   string
	entry *store.Entry // with what the person typed; zeroised with the attempt
	// save: keep the entry once connected, or of one that is saved already what was
	// typed. keepPassword: if it is kept, so is its password.
	save, keepPassword bool
	id                 string // of the connection; empty: preparing
	before             string // of the connection that failed, and for which this one stands in
	seen               bool   // the service has shown it
	// pin is the fingerprint of the gateway that the person trusted, so that trying
	// again does not ask once more; empty: none.
	pin string
	// retyped is the password that the gateway asked for anew; nil: it did not, or
	// the person does not want it kept.
	retyped []byte
	asked   bool // the gateway asked for another password

	// While preparing:
	cancel context.CancelFunc
	answer chan []byte // to the question of the window's own; nil: none is open
}

// zero overwrites the attempt's secrets.
func (a *attempt) zero() {
	if a.cancel != nil {
		a.cancel()
	}
	a.entry.Zero()
	clear(a.retyped)
	a.entry.Password, a.entry.GroupSecret, a.retyped = nil, nil, nil
}

// errCancelled: the person did not want to answer.
var errCancelled = errors.New("cancelled")

// asker puts the questions of an attempt that is being prepared to the person. It runs
// on a goroutine of the attempt's.
type asker struct {
	c     *controller
	a     *attempt
	tries int // passphrases that were asked for
}

var _ store.Asker = (*asker)(nil)

// Passphrase implements store.Asker.
func (q *asker) Passphrase(ctx context.Context, file string) ([]byte, error) {
	text := file
	if q.tries > 0 {
		text = lang.L("That was not the passphrase of {{.File}}.", map[string]any{"File": file})
	}
	q.tries++
	return q.ask(ctx, &app.Prompt{Kind: app.PromptPassphrase, Text: text, Secret: true})
}

// request asks until the passphrase is the right one, or the person gives up.
func (q *asker) request(ctx context.Context, entry *store.Entry) (*control.ConnectRequest, error) {
	for {
		before := q.tries
		req, err := entry.Request(ctx, q)
		if !errors.Is(err, profiles.ErrPassphrase) || q.tries == before {
			return req, err
		}
	}
}

// GroupSecret implements store.Asker.
func (q *asker) GroupSecret(ctx context.Context, p *app.Profile) ([]byte, error) {
	return q.ask(ctx, &app.Prompt{Kind: promptGroupSecret, Text: p.Gateway, Secret: true})
}

// Password implements store.Asker: the service asks.
func (q *asker) Password(context.Context, *app.Profile) ([]byte, error) { return nil, nil }

// promptGroupSecret is a question of the window's own; the service never asks it.
const promptGroupSecret app.PromptKind = "group-secret"

func (q *asker) ask(ctx context.Context, p *app.Prompt) ([]byte, error) {
	answer := make(chan []byte, 1)
	q.c.do(func() { q.c.openQuestion(q.a, p, answer) })
	select {
	case text := <-answer:
		return text, nil
	case <-ctx.Done():
		select {
		case text := <-answer:
			clear(text)
		default:
		}
		return nil, errCancelled
	}
}

func (c *controller) openQuestion(a *attempt, p *app.Prompt, answer chan []byte) {
	if c.attempts[a.key] != a {
		return // dismissed meanwhile
	}
	c.questions++
	p.ID = fmt.Sprintf("own%d", c.questions)
	a.answer = answer
	c.change(a.key, func(o *own) { o.prompt = p })
	switch {
	case !c.visible:
		c.raise()
	case !c.inFront:
		c.tell(asks(noticeText(c.model.item(a.key).name), p.Kind))
	}
}

// begin connects with an attempt's entry; one of the same key is replaced.
func (c *controller) begin(a *attempt) {
	if old := c.attempts[a.key]; old != nil && old != a {
		old.zero()
	}
	if a.cancel != nil {
		a.cancel()
	}
	ctx, cancel := context.WithCancel(c.ctx)
	if a.id != "" {
		a.before = a.id
	}
	a.cancel, a.id, a.seen, a.answer = cancel, "", false, nil
	c.attempts[a.key] = a
	c.change(a.key, func(o *own) { *o = own{starting: true} })
	block, local, pin := c.prefs.blockOutside(), c.prefs.localNetwork(), a.pin
	entry := a.entry.Clone() // the attempt may be zeroised meanwhile
	go func() {
		req, err := (&asker{c: c, a: a}).request(ctx, entry)
		var id string
		if err == nil {
			req.Ask = true
			if req.Profile.Pin == "" {
				req.Profile.Pin = pin
			}
			req.Profile.BlockOutside = req.Profile.BlockOutside || block
			req.Profile.LocalNetwork = req.Profile.LocalNetwork || local
			id, err = c.svc.Connect(ctx, req)
			req.Zero()
		}
		c.do(func() { c.begun(a, entry, id, err) })
	}()
}

// begun takes the service's answer to an attempt, and its entry with what was answered
// before.
func (c *controller) begun(a *attempt, entry *store.Entry, id string, err error) {
	if c.attempts[a.key] != a {
		entry.Zero()
		if id != "" { // cancelled when it was too late
			go c.svc.Disconnect(c.ctx, id)
		}
		return
	}
	a.entry.Zero()
	a.entry = entry
	if err != nil {
		c.prepareFailed(a, err)
		return
	}
	a.id = id
	c.model.begun[id] = a.key
	if key := c.model.connectionKey(&app.Connection{ID: id, Profile: a.entry.Profile.Name}); key != a.key {
		c.moveAttempt(a, key)
	}
	if old := c.find(a.before); old != nil && c.model.connectionKey(old) != a.key {
		go c.svc.Disconnect(c.ctx, a.before) // nobody needs the one that failed any more
	}
	c.settle()
	c.render()
}

// moveAttempt gives an attempt the key of its connection: one without a profile has
// another each time.
func (c *controller) moveAttempt(a *attempt, key string) {
	from := a.key
	delete(c.attempts, from)
	delete(c.model.own, from)
	if old := c.attempts[key]; old != nil {
		old.zero()
	}
	a.key = key
	c.attempts[key], c.model.begun[a.id] = a, key
	if from == "" {
		c.home.form.fill("", "")
	}
	if c.find(a.id) == nil {
		c.model.own[key] = own{starting: true}
	}
	if c.model.selected == from {
		c.model.selected = key
		c.composing = false
	}
}

// prepareFailed shows why an attempt did not reach the service, or what that said.
func (c *controller) prepareFailed(a *attempt, err error) {
	if errors.Is(err, errCancelled) {
		c.dismiss(a.key)
		return
	}
	failure, ok := errors.AsType[*app.Failure](err)
	if !ok {
		failure = app.NewFailure(app.CodeUsage, "", err.Error(), "")
	}
	c.fail(a.key, failure)
}

// fail shows that an attempt failed before the service had it.
func (c *controller) fail(key string, failure *app.Failure) {
	c.change(key, func(o *own) { *o = own{failure: failure} })
	if !c.visible || !c.inFront {
		c.tell(failed(noticeText(c.model.item(key).name)))
	}
}

// tryAgain begins anew what has failed: with what was typed, else with what is saved.
func (c *controller) tryAgain(key string) {
	switch it := c.model.item(key); {
	case c.attempts[key] != nil:
		c.begin(c.attempts[key])
	case it.profile != nil || it.managed != nil:
		c.connectKey(key)
	default:
		c.back(key) // nothing is known but what the form is filled with
	}
}

// back leaves a failure for the form, filled with what was typed but for the secrets.
func (c *controller) back(key string) {
	it := c.model.item(key)
	saved := it.profile != nil || it.managed != nil
	if !saved {
		switch a := c.attempts[key]; {
		case a != nil:
			c.home.form.fill(a.entry.Profile.Gateway, a.entry.Profile.Login)
		case it.conn != nil && it.conn.Gateway != nil:
			c.home.form.fill(plainLine(it.conn.Gateway.Host), "")
		}
	}
	c.dismiss(key)
	if !saved {
		c.composing = true
		c.selectItem("")
	}
}

// dismiss forgets an attempt, and the connection that has failed or still tries.
func (c *controller) dismiss(key string) {
	if a := c.attempts[key]; a != nil {
		if a.id != "" && c.find(a.id) == nil {
			go c.svc.Disconnect(c.ctx, a.id)
		}
		c.over(a)
	}
	conn := c.model.connection(key)
	delete(c.model.own, key)
	if conn != nil {
		c.disconnect(key)
		return
	}
	c.settle()
	c.render()
}

// over forgets an attempt that has not connected. What was typed into the form for it
// stands there again.
func (c *controller) over(a *attempt) {
	delete(c.attempts, a.key)
	delete(c.model.own, a.key)
	form := c.home.form
	if it := c.model.item(a.key); it.profile == nil && it.managed == nil && form.gateway.Text == "" && form.login.Text == "" {
		form.fill(a.entry.Profile.Gateway, a.entry.Profile.Login)
		c.composing = c.composing || c.model.selected == a.key
	}
	a.zero()
}

// disconnect ends the connection of a key, in whichever state, or what is being
// prepared of it.
func (c *controller) disconnect(key string) {
	if a := c.attempts[key]; a != nil && c.find(a.id) == nil {
		c.dismiss(key)
		return
	}
	conn := c.model.connection(key)
	if conn == nil || c.model.own[key].ending {
		return
	}
	c.change(key, func(o *own) { *o = own{ending: true} })
	id := conn.ID
	go func() {
		err := c.svc.Disconnect(c.ctx, id)
		c.do(func() {
			c.change(key, func(o *own) { o.ending = false })
			if failure, ok := errors.AsType[*app.Failure](err); ok && failure.Code != app.CodeUsage { // else it has ended by itself
				c.complain(failure)
			}
		})
	}()
}

// answer answers the prompt of a key. It zeroises text.
func (c *controller) answer(key string, text []byte, accept, keep bool) {
	a, it := c.attempts[key], c.model.item(key)
	if it.prompt == nil {
		clear(text)
		return
	}
	if a != nil && a.answer != nil {
		a.answer <- text
		a.answer = nil
		c.change(key, func(o *own) { *o = own{starting: true} })
		return
	}
	if it.conn == nil {
		clear(text)
		return
	}
	c.remember(it.conn.ID, a, it.prompt, text, accept, keep)
	answer := &control.Answer{PromptID: it.prompt.ID, Text: text, Accept: accept}
	id := it.conn.ID
	go func() {
		err := c.svc.Answer(c.ctx, id, answer)
		clear(answer.Text)
		if failure, ok := errors.AsType[*app.Failure](err); ok && failure.Code != app.CodeUsage { // else it came too late
			c.do(func() { c.complain(failure) })
		}
	}()
}

// remember notes what of an answer matters when the connection stands.
func (c *controller) remember(id string, a *attempt, p *app.Prompt, text []byte, accept, keep bool) {
	switch p.Kind {
	case app.PromptTrust:
		if accept {
			c.trusted[id] = true
		}
		if accept && a != nil && p.Certificate != nil {
			a.pin = p.Certificate.SHA256
		}
	case app.PromptPassword:
		if a == nil {
			return
		}
		a.asked = true
		clear(a.retyped)
		a.retyped = nil
		if keep {
			a.retyped = append([]byte(nil), text...)
		}
	}
}

// settle looks at what has become of the attempts, after each change of the status.
func (c *controller) settle() {
	for key, o := range c.model.own {
		if a := c.attempts[key]; o.starting && a != nil && c.find(a.id) != nil {
			o.starting = false
		}
		if conn := c.model.connection(key); o.failure != nil && conn != nil && active(conn.State) {
			o.failure = nil // it was begun elsewhere
		}
		c.model.own[key] = o
	}
	if c.model.status == nil {
		return // what became of connections will be seen
	}
	for key, a := range c.attempts {
		conn := c.find(a.id)
		if conn != nil && c.model.connectionKey(conn) != key {
			conn = nil // of a service that was restarted, and numbers anew
		}
		switch {
		case a.id == "":
		case conn == nil && a.seen: // ended, here or elsewhere
			c.over(a)
		case conn == nil:
		case conn.State == app.StateConnected:
			delete(c.attempts, key)
			c.keep(a, conn)
		default:
			a.seen = true
			if conn.State == app.StateFailed && conn.Failure != nil && conn.Failure.Code == app.CodeSignInRefused {
				a.entry.ForgetPassword()
			}
		}
	}
	c.learn()
	c.deselect()
}

// deselect leaves an item that is no more.
func (c *controller) deselect() {
	key := c.model.selected
	it := c.model.item(key)
	if key == "" || it.profile != nil || it.managed != nil || it.conn != nil || c.attempts[key] != nil || c.model.own[key] != (own{}) || !c.listed {
		return
	}
	c.model.selected = ""
	c.selectFirst()
}

// keep saves what the person wants kept of an attempt whose connection stands now, and
// forgets the rest.
func (c *controller) keep(a *attempt, conn *app.Connection) {
	c.learnt[conn.ID] = true
	trusted := c.trusted[conn.ID] || a.pin != "" && conn.Gateway != nil && conn.Gateway.CertificateSHA256 == a.pin
	saved := c.model.profile(a.key) != nil
	switch {
	case len(a.retyped) > 0:
		a.entry.ForgetPassword()
		a.entry.Password, a.retyped, a.save = a.retyped, nil, true
	case !a.keepPassword, a.asked && (a.save || !saved):
		// Which of two passwords is the right one only the person knows.
		a.entry.ForgetPassword()
	}
	switch {
	case saved && a.save:
		c.amend(a.entry.Profile.Name, conn, trusted, slices.Clone(a.entry.Password))
	case saved:
		c.amend(a.entry.Profile.Name, conn, trusted, nil)
	case a.save:
		a.entry.Learn(conn, trusted)
		c.create(a.entry.Clone())
	}
	a.zero()
}

// create saves a new profile, in place of no other one, and overwrites it.
func (c *controller) create(entry *store.Entry) {
	c.later(func() func() {
		names, err := c.store.Names()
		if err == nil {
			entry.Profile.Name = store.FreeName(entry.Profile.Name, names)
			err = c.store.Save(entry)
		}
		entry.Zero()
		return func() { c.saved(err) }
	})
}

// amend brings a saved profile up to date with a connection that stands: a gateway that
// was trusted here, one that forbids saving, a password to keep, which it zeroises; nil:
// none. All else of the profile may have changed meanwhile.
func (c *controller) amend(name string, conn *app.Connection, trusted bool, password []byte) {
	p := c.model.profile(profileKey(name))
	if len(password) == 0 && !trusted && !(store.ForbidsSaving(conn) && p.hasPassword) {
		return
	}
	c.later(func() func() {
		defer clear(password)
		entry, err := c.store.Load(name)
		if err != nil {
			return func() { c.saved(err) }
		}
		defer entry.Zero()
		if len(password) > 0 {
			entry.ForgetPassword()
			entry.Password = slices.Clone(password)
		}
		if entry.Learn(conn, trusted) || len(password) > 0 {
			err = c.store.Save(entry)
		}
		return func() { c.saved(err) }
	})
}

// learn is amend for connections that the window did not begin.
func (c *controller) learn() {
	if !c.listed {
		return
	}
	for i := range c.model.status.Connections {
		conn := &c.model.status.Connections[i]
		if conn.ID == "" || conn.State != app.StateConnected || c.learnt[conn.ID] {
			continue
		}
		c.learnt[conn.ID] = true
		if c.model.profile(c.model.connectionKey(conn)) != nil {
			c.amend(conn.Profile, conn, c.trusted[conn.ID], nil)
		}
	}
	for id := range c.learnt {
		if c.find(id) == nil {
			delete(c.learnt, id)
			delete(c.trusted, id)
		}
	}
	for id, key := range c.model.begun {
		// The service may not show yet what is still attempted.
		if a := c.attempts[key]; c.find(id) == nil && (a == nil || a.id != id) {
			delete(c.model.begun, id)
		}
	}
}

package gui

import (
	"slices"
	"strings"

	"fyne.io/fyne/v2/lang"

	"wayfarer/app"
	"wayfarer/app/store"
)

// model is what window and tray show: values only, none of them a secret. It belongs
// to Fyne's goroutine.
type model struct {
	status *app.Status // the newest; nil: the service has not told yet
	// noService says why the service cannot be used now; nil: it can.
	noService *app.Failure
	profiles  []saved // in the user's order
	managed   []saved // what the administrator has placed
	policy    app.Policy
	// begun has the keys of connections that were begun here, by their IDs: the service
	// names one of the administrator's profiles as one of the user's own of that name.
	begun map[string]string
	// noKeyring says why profiles cannot be kept; nil: they can.
	noKeyring error
	// selected is the key of the item on the right side; empty: the form for a new
	// connection.
	selected string
	// own is what the window knows and the service does not, by key.
	own map[string]own
}

// saved is a saved profile without its secrets.
type saved struct {
	name, gateway, login string
	signsIn              bool // with login and password
	hasPassword          bool
	pinned               bool  // to one certificate of the gateway
	damaged              error // it cannot be read
	managed              bool  // the administrator's, who alone changes it
}

// own is what the window itself does for an item.
type own struct {
	// starting: a connection was asked for, and the service does not show it yet.
	starting bool
	// ending: its end was asked for.
	ending bool
	// failure of the window's own part; nil: there was none.
	failure *app.Failure
	// prompt is a question of the window's own, before the service is asked.
	prompt *app.Prompt
}

// item is one line of the list and of the tray's menu: a saved profile, or a
// connection without one.
type item struct {
	key     string
	name    string
	profile *saved // nil: not saved
	managed *saved // the administrator's, in place of one of the user's; nil: it is none
	// barred: the policy allows the administrator's profiles only, and this is none.
	barred bool
	conn   *app.Connection
	// state and failure are of the connection, or of what the window does itself.
	state   app.State
	failure *app.Failure
	prompt  *app.Prompt
	// canKeep: a password that the prompt asks for can be kept; keeps: the person has
	// said already that it is to be.
	canKeep, keeps bool
}

// Keys of items. That of the form is empty.
func profileKey(name string) string { return "profile " + name }

// managedKey is of a profile that the administrator has placed: the user may have another
// one of that name.
func managedKey(name string) string { return "managed " + name }

// connectionKey is the key of the item that shows a connection.
func (m *model) connectionKey(c *app.Connection) string {
	switch {
	case c.Profile == "":
		return "connection " + c.ID
	case m.isPlaced(c):
		return managedKey(c.Profile)
	}
	return profileKey(c.Profile)
}

// isPlaced says whether a connection is of the administrator's profile. Where the user has
// one of that name, too, may connect it, and the window began neither, the gateway tells.
func (m *model) isPlaced(c *app.Connection) bool {
	placed, mine := m.placed(managedKey(c.Profile)), m.profile(profileKey(c.Profile))
	switch begun := m.begun[c.ID]; {
	case placed == nil, begun == profileKey(c.Profile):
		return false
	case mine == nil, m.policy.ForbidAdding, begun == managedKey(c.Profile):
		return true
	}
	leads := func(p *saved) bool { return slices.Contains(app.Hosts(p.gateway), c.Gateway.Host) }
	return c.Gateway != nil && leads(placed) && !leads(mine)
}

// keyOf is the key of what connects by a name: a profile of the user's own, unless only
// the administrator's may be connected.
func (m *model) keyOf(name string) string {
	key := managedKey(name)
	if m.placed(key) != nil && (m.policy.ForbidAdding || m.profile(profileKey(name)) == nil) {
		return key
	}
	return profileKey(name)
}

// profileOf is the name in a key of profileKey's; false: it is another one.
func profileOf(key string) (string, bool) { return strings.CutPrefix(key, "profile ") }

// active says whether there is something to disconnect or to cancel.
func active(s app.State) bool {
	return s != app.StateDisconnected && s != app.StateFailed
}

// items lists the saved profiles and the administrator's, those first that may be
// connected, then the user's connections without one.
func (m *model) items() []item {
	var list, placed []item
	for i := range m.profiles {
		list = append(list, m.item(profileKey(m.profiles[i].name)))
	}
	for i := range m.managed {
		placed = append(placed, m.item(managedKey(m.managed[i].name)))
	}
	if m.policy.ForbidAdding {
		list, placed = placed, list
	}
	list = append(list, placed...)
	if m.status == nil {
		return list
	}
	for i := range m.status.Connections {
		c := &m.status.Connections[i]
		key := m.connectionKey(c)
		if c.ID == "" || slices.ContainsFunc(list, func(it item) bool { return it.key == key }) {
			continue // another user's, or shown already
		}
		list = append(list, m.item(key))
	}
	return list
}

// item is the one with that key; for a key of nothing it is disconnected.
func (m *model) item(key string) item {
	it := item{key: key, state: app.StateDisconnected, profile: m.profile(key), managed: m.placed(key), conn: m.connection(key)}
	it.barred = m.policy.ForbidAdding && it.managed == nil
	switch {
	case it.profile != nil:
		it.name = it.profile.name
	case it.managed != nil:
		it.name = it.managed.name
	case it.conn != nil && it.conn.Profile != "":
		it.name = it.conn.Profile
	case it.conn != nil && it.conn.Gateway != nil:
		it.name = it.conn.Gateway.Host
	default:
		_, it.name, _ = strings.Cut(key, " ")
	}
	it.name = plainLine(it.name)
	if it.managed != nil && m.profile(profileKey(it.managed.name)) != nil {
		it.name = lang.L("{{.Name}} (administrator)", map[string]any{"Name": it.name})
	}
	m.resolve(&it)
	return it
}

// resolve fills state, failure and prompt.
func (m *model) resolve(it *item) {
	mine := m.own[it.key]
	over := it.conn == nil || !active(it.conn.State)
	switch {
	case mine.prompt != nil:
		it.state, it.prompt = app.StateActionNeeded, mine.prompt
	case mine.starting && over:
		it.state = app.StateConnecting
	case mine.failure != nil && over:
		it.state, it.failure = app.StateFailed, mine.failure
	case it.conn == nil:
	case mine.ending && it.conn.State != app.StateFailed:
		it.state = app.StateDisconnecting
	default:
		it.state, it.failure, it.prompt = it.conn.State, it.conn.Failure, it.conn.Prompt
	}
}

// profile is the user's with that key; nil: there is none.
func (m *model) profile(key string) *saved { return find(m.profiles, key, profileKey) }

// placed is the administrator's with that key; nil: there is none.
func (m *model) placed(key string) *saved { return find(m.managed, key, managedKey) }

func find(list []saved, key string, keyOf func(name string) string) *saved {
	i := slices.IndexFunc(list, func(p saved) bool { return keyOf(p.name) == key })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// place takes what an administrator has set up.
func (m *model) place(set *app.Managed) {
	m.policy, m.managed = set.Policy, make([]saved, len(set.Profiles))
	for i := range set.Profiles {
		p := &set.Profiles[i]
		method, _ := p.AuthMethod()
		m.managed[i] = saved{
			name: p.Name, gateway: p.Gateway, login: p.Login,
			signsIn: method.Login && !p.AlwaysOn, hasPassword: p.PasswordSaved, managed: true,
		}
	}
}

// connection is the newest of that key; nil: there is none.
func (m *model) connection(key string) *app.Connection {
	if m.status == nil {
		return nil
	}
	for i := len(m.status.Connections) - 1; i >= 0; i-- {
		if c := &m.status.Connections[i]; c.ID != "" && m.connectionKey(c) == key {
			return c
		}
	}
	return nil
}

// findConnection is the one with that ID; nil: there is none.
func findConnection(status *app.Status, id string) *app.Connection {
	if status == nil || id == "" {
		return nil
	}
	for i := range status.Connections {
		if status.Connections[i].ID == id {
			return &status.Connections[i]
		}
	}
	return nil
}

// overall is the state that stands for all connections, the one that matters most to
// the user first.
func (m *model) overall() app.State {
	for _, s := range []app.State{
		app.StateActionNeeded, app.StateBlocked, app.StateReconnecting, app.StateConnecting,
		app.StateDisconnecting, app.StateConnected, app.StateFailed,
	} {
		if slices.ContainsFunc(m.items(), func(it item) bool { return it.state == s }) {
			return s
		}
	}
	return app.StateDisconnected
}

// freeName is name, or with a number behind it if a profile has it already.
func (m *model) freeName(name string) string {
	var taken []string
	for _, it := range m.items() {
		taken = append(taken, it.name)
	}
	return store.FreeName(name, taken)
}

// nameFor is what a profile for a gateway is called: the first host, without its port.
func nameFor(gateway string) string { return store.UsableName(app.Hosts(gateway)[0]) }

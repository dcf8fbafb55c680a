package control

import (
	"slices"

	"wayfarer/app"
)

// peer is the user at the other end of a connection, as the operating system tells.
type peer struct {
	name       string // owner of what this user connects
	id         string // as userOf tells it, for counting
	admin      bool   // sees and ends everybody's connections, and restores the network
	mayConnect bool
}

// may says whether the peer sees and ends the connection.
func (p peer) may(c *app.Connection) bool { return p.admin || c.Owner == p.name }

// mayRead says whether the peer may read a line of the log. What belongs to no
// connection is the administrators'.
func (p peer) mayRead(r *app.LogRecord) bool { return p.admin || r.Owner != "" && r.Owner == p.name }

// visible is what the peer may know of the connections: of another user's only that
// there is one.
func (p peer) visible(all []app.Connection) []app.Connection {
	out := make([]app.Connection, len(all)) // not nil: JSON shows an empty list
	for i, c := range all {
		if p.may(&c) {
			out[i] = c
		} else {
			out[i] = app.Connection{State: c.State, Owner: c.Owner}
		}
	}
	return out
}

// find looks for one of the peer's connections.
func (p peer) find(all []app.Connection, id string) bool {
	return slices.ContainsFunc(all, func(c app.Connection) bool { return c.ID == id && p.may(&c) })
}

package control

import (
	"context"
	"log/slog"

	"wayfarer/app"
)

// ConnectRequest is the body of POST /v1/connections: a profile and the answers
// known beforehand. Secrets are byte slices, so that they can be zeroised; in JSON
// they are base64.
type ConnectRequest struct {
	Profile  app.Profile `json:"profile"`
	Password []byte      `json:"password,omitempty"`
	// GroupSecret is the pre-shared key of the methods xauth-psk and psk; with
	// hybrid it is the group password of Cisco's mutual group authentication.
	GroupSecret []byte `json:"group_secret,omitempty"`
	// Key is the private key of Profile.Certificate, which is PEM text here: PEM
	// (PKCS #8, PKCS #1 or SEC 1), not encrypted. The service never sees the
	// passphrase of a key.
	Key []byte `json:"key,omitempty"`
	// TrustNew answers yes to the question whether to trust an unknown gateway.
	TrustNew bool `json:"trust_new,omitempty"`
	// Ask means that somebody is there to answer prompts. Without it a question
	// of trust ends as untrusted, any other as cancelled.
	Ask bool `json:"ask,omitempty"`
	// NoReconnect ends the connection when it is lost.
	NoReconnect bool `json:"no_reconnect,omitempty"`
	// TimeoutSeconds bounds the attempt; time in which a prompt waits for its
	// answer does not count. 0: 60 s.
	TimeoutSeconds int `json:"timeout_seconds,omitempty"`
}

// Zero overwrites the secrets.
func (r *ConnectRequest) Zero() {
	clear(r.Password)
	clear(r.GroupSecret)
	clear(r.Key)
}

// Answer is the body of POST /v1/connections/{id}/answers.
type Answer struct {
	PromptID string `json:"prompt"`
	Text     []byte `json:"text,omitempty"`   // the answer to everything but trust and banner
	Accept   bool   `json:"accept,omitempty"` // trust: yes; banner: seen
	Cancel   bool   `json:"cancel,omitempty"` // end the attempt
}

// Process is what runs at the other end of a unix socket and its user, as the kernel
// recorded them when it connected.
type Process struct {
	PID int32
	UID uint32
}

// Backend is what the server serves; app/daemon is one.
type Backend interface {
	// Connections lists all connections, oldest first, as their owner sees them.
	Connections() []app.Connection
	// Watch returns a channel that gets a value (coalesced) after each change of
	// what Connections returns, and a function that ends the watch.
	Watch() (changes <-chan struct{}, stop func())
	// Connect starts a connection for owner and returns its ID at once; the rest
	// shows in Connections. It keeps copies of the secrets.
	Connect(ctx context.Context, owner string, req *ConnectRequest) (id string, err *app.Failure)
	// Disconnect ends a connection, in whichever state, and forgets it; it
	// returns when the host is as it was.
	Disconnect(ctx context.Context, id string) *app.Failure
	// Answer answers a prompt.
	Answer(id string, answer *Answer) *app.Failure
	// RestoreNetwork undoes what is left on the host of connections that are no
	// more, also of an earlier service's. While there are connections it refuses.
	RestoreNetwork(ctx context.Context) *app.Failure
}

// Logs is a log that can be read; app/daemon has one.
type Logs interface {
	// Since lists the records of at least a level that came after the one with
	// the given number, oldest first, and gives the number of the newest of all.
	// The first has the number 1.
	Since(after uint64, least slog.Level) (records []app.LogRecord, newest uint64)
	// Watch returns a channel that gets a value (coalesced) after each new
	// record, and a function that ends the watch.
	Watch() (changes <-chan struct{}, stop func())
}

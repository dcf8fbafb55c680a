package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"wayfarer/app"
)

// Times and bounds of the client.
const (
	answerTime = 15 * time.Second                // for everything but what follows, and streams
	endTime    = disconnectTime + 10*time.Second // to disconnect, and to restore the network
	maxStatus  = 4 << 20                         // bytes of a status or a line of the log: far above what the service makes
)

// SocketVariable is the environment variable that overrides where the socket is.
const SocketVariable = "WAYFARER_SOCKET"

// DefaultPath is where the service listens: what SocketVariable says, else the
// operating system's usual place.
func DefaultPath() string {
	if path := os.Getenv(SocketVariable); path != "" {
		return path
	}
	switch runtime.GOOS {
	case "windows":
		return `\\.\pipe\ProtectedPrefix\Administrators\wayfarer`
	case "darwin":
		return "/var/run/wayfarer/wayfarerd.sock"
	}
	return "/run/wayfarer/wayfarerd.sock"
}

// Client talks to the service. Every error of its methods is an *app.Failure. The
// zero value of everything but Path is ready to use.
type Client struct {
	Path string // of the socket or pipe

	once sync.Once
	http *http.Client
}

// Status asks for the whole status once.
func (c *Client) Status(ctx context.Context) (*app.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var status app.Status
	if err := c.call(ctx, http.MethodGet, "/v1/status", nil, &status); err != nil {
		return nil, err
	}
	return &status, nil
}

// Managed asks for what an administrator has set up for all users.
func (c *Client) Managed(ctx context.Context) (*app.Managed, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var set app.Managed
	if err := c.call(ctx, http.MethodGet, "/v1/managed", nil, &set); err != nil {
		return nil, err
	}
	return &set, nil
}

// Watch yields the whole status at once and after each change. It ends without an
// error when ctx ends, and with one when the service goes away.
func (c *Client) Watch(ctx context.Context) iter.Seq2[*app.Status, error] {
	return follow[app.Status](ctx, c, "/v1/events", true)
}

// Logs yields the lines of the log that are of at least a level, as app.LogLevels has
// them, and that this user may read, oldest first. With following it goes on with
// those that come; it ends then as Watch does.
func (c *Client) Logs(ctx context.Context, level string, following bool) iter.Seq2[*app.LogRecord, error] {
	query := url.Values{"level": {level}}
	if following {
		query.Set("follow", "true")
	}
	return follow[app.LogRecord](ctx, c, "/v1/logs?"+query.Encode(), following)
}

// follow yields the values of a stream. Its end is an error if it should have none.
func follow[T any](ctx context.Context, c *Client, path string, endless bool) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		body, err := c.open(ctx, http.MethodGet, path, nil)
		if err != nil {
			if ctx.Err() == nil {
				yield(nil, err)
			}
			return
		}
		defer body.Close()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxStatus)
		for lines.Scan() {
			var value T
			if err := json.Unmarshal(lines.Bytes(), &value); err != nil {
				yield(nil, strange(err))
				return
			}
			if !yield(&value, nil) {
				return
			}
		}
		if ctx.Err() == nil && (endless || lines.Err() != nil) {
			yield(nil, app.NewFailure(app.CodeNoService, "", "the service has ended", startHint(runtime.GOOS)))
		}
	}
}

// RestoreNetwork has the service undo what is left on this computer of connections
// that are no more.
func (c *Client) RestoreNetwork(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return c.call(ctx, http.MethodPost, "/v1/restore-network", nil, nil)
}

// Connect starts a connection and returns its ID at once; Watch shows the rest. The
// caller zeroises req.
func (c *Client) Connect(ctx context.Context, req *ConnectRequest) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var reply created
	err = c.call(ctx, http.MethodPost, "/v1/connections", req, &reply)
	return reply.ID, err
}

// Disconnect ends a connection; it returns when the host is as it was.
func (c *Client) Disconnect(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return c.call(ctx, http.MethodDelete, "/v1/connections/"+url.PathEscape(id), nil, nil)
}

// Answer answers a prompt of a connection. The caller zeroises the answer.
func (c *Client) Answer(ctx context.Context, id string, answer *Answer) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return c.call(ctx, http.MethodPost, "/v1/connections/"+url.PathEscape(id)+"/answers", answer, nil)
}

// call sends in as JSON and decodes the answer into out; both may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(body, maxStatus)).Decode(out); err != nil {
		return strange(err)
	}
	return nil
}

// open sends a request and returns the body of a good answer.
func (c *Client) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var sent []byte
	if in != nil {
		var err error
		if sent, err = json.Marshal(in); err != nil {
			return nil, app.NewFailure(app.CodeInternal, "", "encode the request: "+err.Error(), "")
		}
		defer clear(sent) // it may hold secrets
	}
	// The host is not looked at; it only must not be empty.
	req, err := http.NewRequestWithContext(ctx, method, "http://wayfarer"+path, bytes.NewReader(sent))
	if err != nil {
		return nil, app.NewFailure(app.CodeInternal, "", err.Error(), "")
	}
	resp, err := c.client().Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var report app.ErrorReport
	err = json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&report)
	if err != nil || report.Error.Code == "" {
		return nil, strange(fmt.Errorf("HTTP status %s", resp.Status))
	}
	return nil, report.Failure()
}

func (c *Client) client() *http.Client {
	c.once.Do(func() {
		c.http = &http.Client{Transport: &http.Transport{
			// Each request on its own: a program asks seldom, and a kept
			// connection would outlive a restart of the service.
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial(ctx, c.Path)
			},
		}}
	})
	return c.http
}

// unreachable tells why there was no answer.
func (c *Client) unreachable(ctx context.Context, err error) *app.Failure {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return app.NewFailure(app.CodeCancelled, "", "cancelled", "")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return app.NewFailure(app.CodeNoService, "", "the service does not run (nothing answers on "+c.Path+")", startHint(runtime.GOOS))
	case errors.Is(err, fs.ErrPermission):
		return refusesUser()
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		// As net/http says it, without a name for it, when that came before the request.
		strings.Contains(err.Error(), "server closed idle connection"):
		return app.NewFailure(app.CodeNoService, "", "the service has closed the connection",
			"end programs of yours that talk to it, if there are many, or try again")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return app.NewFailure(app.CodeNoService, "", "the service does not answer on "+c.Path, "restart it")
	}
	// The URL in err is made up, what it wraps is not.
	if urlErr := (*url.Error)(nil); errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	return app.NewFailure(app.CodeNoService, "", "the service cannot be reached: "+err.Error(), startHint(runtime.GOOS))
}

// strange is an answer that no service of ours gives.
func strange(err error) *app.Failure {
	return app.NewFailure(app.CodeInternal, "", "the service's answer is not understood: "+err.Error(),
		"client and service may be of different versions")
}

// refusesUser is the failure of a user who may not connect.
func refusesUser() *app.Failure {
	return app.NewFailure(app.CodeNoService, "", "the service refuses this user", refusedHint(runtime.GOOS))
}

// MacStartCommand starts the service on macOS. Its job may be loaded already, and is then
// only kicked.
const MacStartCommand = "sudo launchctl bootstrap system /Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist; sudo launchctl kickstart system/io.github.wayfarer.wayfarerd"

// MacGroupCommand lets a user connect on macOS. No package makes the group there, and making
// one that there is would ask whether to overwrite it.
func MacGroupCommand(user string) string {
	return "dseditgroup -o read wayfarer >/dev/null 2>&1 || sudo dseditgroup -o create wayfarer; sudo dseditgroup -o edit -a " + user + " -t user wayfarer"
}

// refusedHint says how a user may connect.
func refusedHint(goos string) string {
	switch goos {
	case "windows":
		return "sign in at this computer, or ask an administrator"
	case "darwin":
		return "sign in at this computer, or have an administrator add you to the group wayfarer: `" + MacGroupCommand("USER") + "`"
	}
	return "ask an administrator to add you to the group wayfarer"
}

// RefusesUser reports whether a failure says that the service runs, and that this user
// may not connect.
func RefusesUser(f *app.Failure) bool {
	known := refusesUser()
	return f.Code == known.Code && f.Message == known.Message
}

// refusesNonAdmin is the failure of a user who may not administrate.
func refusesNonAdmin() *app.Failure {
	hint := "run it as root or as a member of the group wayfarer"
	if runtime.GOOS == "windows" {
		hint = "run it as administrator"
	}
	return app.NewFailure(app.CodeNoService, "", "the service does this for administrators only", hint)
}

// startHint says how to start the service.
func startHint(goos string) string {
	switch goos {
	case "windows":
		return "start the service wayfarerd"
	case "darwin":
		return "start it with `" + MacStartCommand + "`"
	}
	return "start it with `systemctl start wayfarerd` or `sudo wayfarerd`"
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

// fakeService is a service in memory. What happens after Connect is its play.
type fakeService struct {
	mu      sync.Mutex
	version string
	conns   []app.Connection
	changed chan struct{} // closed at the next change
	gone    error         // what every call says, and what ends watches

	play     func(*fakeService)
	refusal  error // of Connect
	late     error // of Answer
	requests []control.ConnectRequest
	answers  []control.Answer
	ended    []string
	placed   app.Managed             // by the administrator
	stays    map[string]*app.Failure // of Disconnect, by ID
	log      []app.LogRecord
	asked    []string // other calls
	// answered gets each answer, for plays that wait for one.
	answered chan control.Answer
}

func newFakeService(play func(*fakeService)) *fakeService {
	return &fakeService{version: "1.2.3", changed: make(chan struct{}), play: play, answered: make(chan control.Answer, 10)}
}

func (s *fakeService) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// set puts the connection with c's ID into c's state.
func (s *fakeService) set(c app.Connection) {
	s.change(func() {
		i := slices.IndexFunc(s.conns, func(old app.Connection) bool { return old.ID == c.ID })
		if i < 0 {
			s.conns = append(s.conns, c)
		} else {
			s.conns[i] = c
		}
	})
}

func (s *fakeService) drop(id string) {
	s.change(func() {
		s.conns = slices.DeleteFunc(s.conns, func(c app.Connection) bool { return c.ID == id })
	})
}

func (s *fakeService) now() (*app.Status, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &app.Status{Version: s.version, Connections: append([]app.Connection{}, s.conns...)}, s.changed, s.gone
}

func (s *fakeService) Status(ctx context.Context) (*app.Status, error) {
	status, _, err := s.now()
	if err != nil {
		return nil, err
	}
	return status, nil
}

func (s *fakeService) Watch(ctx context.Context) iter.Seq2[*app.Status, error] {
	return func(yield func(*app.Status, error) bool) {
		for {
			status, changed, err := s.now()
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(status, nil) {
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

func (s *fakeService) Logs(_ context.Context, level string, following bool) iter.Seq2[*app.LogRecord, error] {
	return func(yield func(*app.LogRecord, error) bool) {
		s.asked = append(s.asked, fmt.Sprintf("logs %s %v", level, following))
		for i := range s.log {
			if !yield(&s.log[i], nil) {
				return
			}
		}
		if s.gone != nil {
			yield(nil, s.gone)
		}
	}
}

func (s *fakeService) Managed(context.Context) (*app.Managed, error) {
	if _, _, err := s.now(); err != nil {
		return nil, err
	}
	return &s.placed, nil
}

func (s *fakeService) RestoreNetwork(context.Context) error {
	s.asked = append(s.asked, "restore-network")
	return s.gone
}

func (s *fakeService) Connect(_ context.Context, req *control.ConnectRequest) (string, error) {
	if _, _, err := s.now(); err != nil {
		return "", err
	}
	named := func(p app.ManagedProfile) bool { return p.Name == req.Profile.Name }
	if s.refusal == nil && req.Profile.Gateway == "" && !slices.ContainsFunc(s.placed.Profiles, named) {
		return "", app.NewFailure(app.CodeUsage, "", "gateway: missing", "give a host name or address")
	}
	kept := *req
	kept.Password, kept.GroupSecret, kept.Key = slices.Clone(req.Password), slices.Clone(req.GroupSecret), slices.Clone(req.Key)
	s.change(func() { s.requests = append(s.requests, kept) })
	if s.refusal != nil {
		return "", s.refusal
	}
	s.set(app.Connection{ID: "c1", State: app.StateConnecting, Step: app.StepFindGateway})
	if s.play != nil {
		go s.play(s)
	}
	return "c1", nil
}

func (s *fakeService) Disconnect(_ context.Context, id string) error {
	if _, _, err := s.now(); err != nil {
		return err
	}
	s.change(func() { s.ended = append(s.ended, id) })
	s.drop(id)
	return asError(s.stays[id])
}

func (s *fakeService) Answer(_ context.Context, id string, answer *control.Answer) error {
	kept := *answer
	kept.Text = slices.Clone(answer.Text)
	s.change(func() { s.answers = append(s.answers, kept) })
	s.answered <- kept
	return s.late
}

func (s *fakeService) request(t *testing.T) control.ConnectRequest {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) != 1 {
		t.Fatalf("%d requests, want 1", len(s.requests))
	}
	return s.requests[0]
}

// fakePerson answers questions at the terminal, in order. Without another answer
// the person says nothing for ever, or ends the input.
type fakePerson struct {
	answers []string
	eof     bool
	out     io.Writer // where the questions appear
	asked   []string
}

func (p *fakePerson) line(ctx context.Context, prompt string) (string, error) {
	io.WriteString(p.out, prompt)
	p.asked = append(p.asked, prompt)
	if len(p.answers) == 0 {
		defer io.WriteString(p.out, "\n")
		if p.eof {
			return "", io.EOF
		}
		<-ctx.Done()
		return "", ctx.Err()
	}
	answer := p.answers[0]
	p.answers = p.answers[1:]
	io.WriteString(p.out, answer+"\n")
	return answer, nil
}

func (p *fakePerson) secret(ctx context.Context, prompt string) ([]byte, error) {
	out := p.out
	p.out = io.Discard // not echoed
	defer func() { p.out = out }()
	io.WriteString(out, prompt+"\n")
	answer, err := p.line(ctx, prompt)
	return []byte(answer), err
}

// world is a command line's surroundings in a test.
type world struct {
	*env
	svc      *fakeService
	person   *fakePerson // nil: no terminal
	stdin    string
	out, err bytes.Buffer
}

// testTime is when tests take place.
var testTime = time.Date(2026, 1, 2, 3, 14, 5, 0, time.UTC)

func newWorld(t *testing.T, svc *fakeService) *world {
	t.Helper()
	keyring.MockInit()
	// The certificates of profiles.
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	t.Setenv("AppData", dir)
	t.Setenv(control.SocketVariable, filepath.Join(dir, "s"))
	w := &world{svc: svc}
	w.env = &env{
		out: &w.out, err: &w.err,
		now:      func() time.Time { return testTime },
		service:  func(string) installed { return svc },
		profiles: store.Open,
	}
	return w
}

// terminal puts a person with these answers in front of the command.
func (w *world) terminal(answers ...string) *fakePerson {
	w.person = &fakePerson{answers: answers, out: &w.err}
	w.ask, w.progress = w.person, true
	return w.person
}

func (w *world) run(t *testing.T, args ...string) int {
	t.Helper()
	return w.runContext(t.Context(), args...)
}

func (w *world) runContext(ctx context.Context, args ...string) int {
	w.in = strings.NewReader(w.stdin)
	w.out.Reset()
	w.err.Reset()
	return run(ctx, w.env, args)
}

func pointer[T any](v T) *T { return &v }

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// connected is a connection in which every value is there that a connected one has.
func connected() app.Connection {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return app.Connection{
		ID: "c1", State: app.StateConnected, Profile: "office", Owner: "ada", Since: &since,
		Gateway: &app.Gateway{
			Host: "vpn.example.com", Address: netip.MustParseAddr("192.0.2.1"), Port: 4500,
			Identity: "CN=rhum", CertificateSHA256: testPin,
		},
		Addresses: prefixes("192.168.201.20/32"), DNS: addrs("192.168.1.1", "192.168.1.2"), WINS: addrs("192.168.1.1"),
		Domains: []string{"local"}, SplitInclude: prefixes("192.168.1.0/24"), SplitExclude: []netip.Prefix{},
		Routes: prefixes("192.168.1.0/24"), Banner: "Welcome <ada> & all\nBe good",
		IKE: &app.IKE{
			Version: 1, Exchange: "main", Auth: "hybrid-rsa", Suite: "aes256-sha256-modp2048", NATT: "rfc3947", NAT: "none",
			Fragmentation: true, DPD: true, Established: &since, Expires: pointer(since.Add(8 * time.Hour)),
			LastHeard: pointer(testTime.Add(-3 * time.Second)),
		},
		ESP: []app.ESP{{
			SPIIn: "0x1", SPIOut: "0x2", Suite: "aes256gcm16",
			Local: netip.MustParsePrefix("192.168.201.20/32"), Remote: netip.MustParsePrefix("0.0.0.0/0"),
			BytesIn: 1234567, BytesOut: 999, PacketsIn: 1, PacketsOut: 1,
			Established: &since, Expires: pointer(since.Add(time.Hour)),
		}},
		TUN:      &app.TUN{Name: "wayfarer0", MTU: 1300},
		Warnings: []app.Warning{{Code: "weak-crypto", Severity: app.SeverityWarning, Text: "3DES is in use."}},
	}
}

const testPin = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"

// playConnected goes through all steps to a connection.
func playConnected(s *fakeService) {
	for _, step := range app.Steps() {
		s.set(app.Connection{ID: "c1", State: app.StateConnecting, Step: step})
	}
	s.set(connected())
}

// playTrustedNew goes to a connection of which the service has trusted the gateway
// because --trust-new says so.
func playTrustedNew(s *fakeService) {
	c := connected()
	c.Warnings = append(c.Warnings, app.Warning{Code: app.WarningTrustedNew, Severity: app.SeverityInfo, Text: "trusted"})
	s.set(c)
}

// playFailed fails.
func playFailed(f *app.Failure) func(*fakeService) {
	return func(s *fakeService) {
		s.set(app.Connection{ID: "c1", State: app.StateFailed, Failure: f})
	}
}

// systemText is what this system says of a file that is not there, or is already.
func systemText(kind error) string {
	flags := os.O_RDONLY
	path := "testdata/absent"
	if kind == fs.ErrExist {
		flags, path = os.O_WRONLY|os.O_CREATE|os.O_EXCL, "fakes_test.go"
	}
	_, err := os.OpenFile(path, flags, 0o600)
	return err.(*fs.PathError).Err.Error()
}

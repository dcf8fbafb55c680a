package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wayfarer/app"
)

// Bounds of what one client may cost.
const (
	maxBody        = 1 << 20  // a profile with a bundle of CAs fits several times
	maxHeader      = 16 << 10 // more than any client of ours sends
	maxAnswer      = 4 << 10  // bytes of what answers a prompt; gateways take far less
	maxWatches     = 64       // streams in all: windows, trays and scripts of a few users
	maxUserWatches = 16       // streams of one user, so that nobody takes them all
	maxBodies      = 64       // bodies in all that are read and decoded at a time: each may become some megabytes
	maxUserBodies  = 8        // of one user
	maxConns       = 256      // connections to the socket, but the administrator's
	maxUserConns   = 32       // of one user
	urgentBurst    = 10       // changes of state in quick succession that a watch is told one by one
)

// Times of the local API.
const (
	requestTime    = 10 * time.Second      // to send a request
	writeTime      = 10 * time.Second      // to take an answer or an event; who does not is dropped
	idleTime       = time.Minute           // between requests
	disconnectTime = 30 * time.Second      // to restore the host, also when the client has gone
	eventInterval  = 50 * time.Millisecond // between events; changes meanwhile become one
	stopTime       = 2 * time.Second       // for requests under way when the server stops
)

// Server serves the local API. Its fields are not changed once it serves.
type Server struct {
	Backend Backend
	Log     *slog.Logger
	Logs    Logs   // what of Log users may read; nil: nothing
	Version string // of the service, as status shows it

	// Authorize says whether a process may connect although its user alone has not the
	// right to; its error is for the log. It is asked at each such request, must return
	// soon, and is only asked on Linux. nil: the user decides.
	Authorize func(context.Context, Process) error

	// Managed is what an administrator has set up, as a user may see it; nil: nothing.
	Managed func(user string) app.Managed

	identify func(net.Conn) (peer, error) // nil: ask the operating system

	watches  crowd
	bodies   crowd
	requests pace
	refused  occasionally
}

// Serve answers on l until ctx ends; then it closes l, ends streams, lets other
// requests end, and returns nil. Any other end is an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler:        s.routes(),
		ReadTimeout:    requestTime,
		WriteTimeout:   writeTime, // of what net/http answers by itself; reply sets its own
		IdleTimeout:    idleTime,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelError), // panics, no descriptors left
		// Nothing is answered before it is known who asks.
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return requests },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, guestKey{}, conn.(*guest))
		},
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(&door{Listener: l, log: s.Log, in: &crowd{most: maxConns, mostOfUser: maxUserConns}})
	if stop() { // ctx is not the reason
		return fmt.Errorf("serve the local API: %w", err)
	}
	<-stopped
	return nil
}

// guestKey is the context key of a request's connection, a *guest.
type guestKey struct{}

// guestOf is the connection of a request; nil: it did not come in by Serve.
func guestOf(r *http.Request) *guest {
	g, _ := r.Context().Value(guestKey{}).(*guest)
	return g
}

// refusal is an error answer.
type refusal struct {
	status  int
	failure *app.Failure
}

// statuses are the HTTP statuses that fit the codes.
var statuses = map[app.Code]int{
	app.CodeInternal:        http.StatusInternalServerError,
	app.CodeUsage:           http.StatusBadRequest,
	app.CodeNoAnswer:        http.StatusGatewayTimeout,
	app.CodeUntrusted:       http.StatusBadGateway,
	app.CodeSignInRefused:   http.StatusBadGateway,
	app.CodeNoProposal:      http.StatusBadGateway,
	app.CodeNetworkConfig:   http.StatusConflict,
	app.CodeNoService:       http.StatusForbidden,
	app.CodeCancelled:       http.StatusConflict,
	app.CodeProtocol:        http.StatusBadGateway,
	app.CodeSettingsRefused: http.StatusBadGateway,
	app.CodePolicy:          http.StatusForbidden,
}

// refuse makes the answer of a failure that the backend told.
func refuse(f *app.Failure) *refusal {
	if f == nil {
		return nil
	}
	status, ok := statuses[f.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	return &refusal{status, f}
}

func usage(status int, message string) *refusal {
	return &refusal{status, app.NewFailure(app.CodeUsage, "", message, "")}
}

// handler answers a request of a user, or tells why not.
type handler func(peer, http.ResponseWriter, *http.Request) *refusal

// endpoint is a row of the API's table.
type endpoint struct {
	method, path string
	handle       handler
}

func (s *Server) endpoints() []endpoint {
	return []endpoint{
		{"GET", "/v1/status", s.status},
		{"GET", "/v1/events", s.events},
		{"GET", "/v1/managed", s.managed},
		{"POST", "/v1/connections", s.connect},
		{"DELETE", "/v1/connections/{id}", s.disconnect},
		{"POST", "/v1/connections/{id}/answers", s.answer},
		{"GET", "/v1/logs", s.logs},
		{"POST", "/v1/restore-network", s.restoreNetwork},
	}
}

func (s *Server) routes() http.Handler {
	s.watches.most, s.watches.mostOfUser = maxWatches, maxUserWatches
	s.bodies.most, s.bodies.mostOfUser = maxBodies, maxUserBodies
	mux := http.NewServeMux()
	known := map[string]bool{}
	for _, e := range s.endpoints() {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) {
			p := r.Context().Value(peerKey{}).(peer)
			if refusal := e.handle(p, w, r); refusal != nil {
				s.refuse(w, refusal)
			}
		})
		if !known[e.path] {
			known[e.path] = true
			mux.HandleFunc(e.path, func(w http.ResponseWriter, r *http.Request) {
				s.refuse(w, usage(http.StatusMethodNotAllowed, "the local API does not know this method here"))
			})
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, unknownPath(r.URL.Path))
	})
	return s.identified(mux)
}

// unknownPath says which of two different versions speak with each other: of the API,
// or of client and service.
func unknownPath(path string) *refusal {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if digits, ok := strings.CutPrefix(first, "v"); ok && first != "v1" {
		if version, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return usage(http.StatusNotFound, fmt.Sprintf("version %d of the local API is not known, only 1; "+
				"client and service are of different versions", version))
		}
	}
	return usage(http.StatusNotFound, "the local API does not know this path; the client may be newer than the service")
}

// peerKey is the context key of who makes a request, a peer.
type peerKey struct{}

// identified finds out who asks, whatever they ask for, and has them wait who ask often.
func (s *Server) identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		identify := s.identify
		if identify == nil {
			identify = identifyPeer
		}
		var conn net.Conn
		if g := guestOf(r); g != nil {
			conn = g.Conn
		}
		p, err := identify(conn)
		if err != nil {
			if s.refused.mayTell("") {
				s.Log.Warn("a client of the local API cannot be identified", "error", err)
			}
			s.refuse(w, refuse(app.NewFailure(app.CodeNoService, "",
				"the service could not find out which user asks", "")))
			return
		}
		if s.requests.wait(r.Context(), p.id) != nil {
			return // the client has gone
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, p)))
	})
}

func (s *Server) refuse(w http.ResponseWriter, r *refusal) {
	s.reply(w, r.status, r.failure.Report())
}

func (s *Server) reply(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		s.Log.Error("encode an answer of the local API", "error", err)
		status, data = http.StatusInternalServerError, []byte("{}")
	}
	mustTake(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client has gone
}

// done is the answer to what has nothing to tell.
func done(w http.ResponseWriter) {
	mustTake(w)
	w.WriteHeader(http.StatusNoContent)
}

// mustTake gives the client writeTime from now to take an answer. The error of a
// connection without deadlines is ignored: then there is nobody slow to fear.
func mustTake(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
}

// patient lifts the deadline of a request whose handling may take longer than
// requestTime, so that it is not taken for cancelled. Such a request has no body:
// the server would wait for the rest of it without end.
func patient(w http.ResponseWriter, r *http.Request) *refusal {
	if refusal := bodiless(r); refusal != nil {
		return refusal
	}
	// An error means that there is no deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return nil
}

func bodiless(r *http.Request) *refusal {
	if r.ContentLength != 0 {
		return usage(http.StatusBadRequest, "this request must have no body")
	}
	return nil
}

func (s *Server) now(p peer) app.Status {
	return app.Status{Version: s.Version, Connections: p.visible(s.Backend.Connections())}
}

func (s *Server) status(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	if refusal := bodiless(r); refusal != nil {
		return refusal
	}
	s.reply(w, http.StatusOK, s.now(p))
	return nil
}

// managed is for every user: there are no secrets in it.
func (s *Server) managed(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	if refusal := bodiless(r); refusal != nil {
		return refusal
	}
	set := app.Managed{Profiles: []app.ManagedProfile{}}
	if s.Managed != nil {
		set = s.Managed(p.name)
	}
	s.reply(w, http.StatusOK, set)
	return nil
}

// created is the answer to a new connection.
type created struct {
	ID string `json:"id"`
}

func (s *Server) connect(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	if err := s.mayConnect(p, r); err != nil {
		s.tellRefused("connect", p, err)
		return refuse(refusesUser())
	}
	var req ConnectRequest
	defer func() { req.Zero() }()
	if refusal := s.read(p, w, r, &req, checkConnectRequest); refusal != nil {
		return refusal
	}
	id, failure := s.Backend.Connect(r.Context(), p.name, &req)
	if failure != nil {
		return refuse(failure)
	}
	s.Log.Info("connect", "user", p.name, "connection", id, "profile", req.Profile.Name, "gateway", req.Profile.Gateway)
	s.reply(w, http.StatusCreated, created{id})
	return nil
}

func (s *Server) disconnect(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	id := r.PathValue("id")
	if refusal := s.own(p, id); refusal != nil {
		return refusal
	}
	if refusal := patient(w, r); refusal != nil {
		return refusal
	}
	// The host is restored also when the client goes away meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), disconnectTime)
	defer cancel()
	s.Log.Info("disconnect", "user", p.name, "connection", id)
	if failure := s.Backend.Disconnect(ctx, id); failure != nil {
		return refuse(failure)
	}
	done(w)
	return nil
}

func (s *Server) answer(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	id := r.PathValue("id")
	if refusal := s.own(p, id); refusal != nil {
		return refusal
	}
	var answer Answer
	defer func() { clear(answer.Text) }()
	if refusal := s.read(p, w, r, &answer, checkAnswer); refusal != nil {
		return refusal
	}
	if len(answer.PromptID)+len(answer.Text) > maxAnswer {
		return usage(http.StatusBadRequest, fmt.Sprintf("an answer has at most %d bytes", maxAnswer))
	}
	if failure := s.Backend.Answer(id, &answer); failure != nil {
		return refuse(failure)
	}
	done(w)
	return nil
}

// restoreNetwork is for administrators: what is left on the host may be anybody's.
func (s *Server) restoreNetwork(p peer, w http.ResponseWriter, r *http.Request) *refusal {
	if !p.admin {
		s.tellRefused("restore the network", p, errNoRight)
		return refuse(refusesNonAdmin())
	}
	if refusal := patient(w, r); refusal != nil {
		return refusal
	}
	// It goes on also when the client goes away meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), disconnectTime)
	defer cancel()
	s.Log.Info("restore the network", "user", p.name)
	if failure := s.Backend.RestoreNetwork(ctx); failure != nil {
		return refuse(failure)
	}
	done(w)
	return nil
}

// errNoRight is the reason of a refusal where only the user counts.
var errNoRight = errors.New("this user may not")

// mayConnect tells why the client may not connect, nil if it may.
func (s *Server) mayConnect(p peer, r *http.Request) error {
	if p.mayConnect {
		return nil
	}
	g := guestOf(r)
	if s.Authorize == nil || g == nil {
		return errNoRight
	}
	return g.process.authorized(r.Context(), s.Authorize)
}

func (s *Server) tellRefused(what string, p peer, why error) {
	if s.refused.mayTell(p.name) {
		s.Log.Warn("refused: no right", "what", what, "user", p.name, "error", why)
	}
}

// own refuses what is not the peer's connection. That another user has one of this
// ID is not told.
func (s *Server) own(p peer, id string) *refusal {
	if p.find(s.Backend.Connections(), id) {
		return nil
	}
	return &refusal{http.StatusNotFound, app.NewFailure(app.CodeUsage, "",
		"there is no such connection", "see `wayfarer status`")}
}

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/daemon"
	"wayfarer/ike/gateway"
	"wayfarer/platform"
)

// What there is in the demonstration: a gateway that lives as long as the program,
// with one user, and a web server and a name server behind it. The password is no
// secret: the gateway is on loopback and guards nothing.
const (
	demoLogin    = "ada"
	demoPassword = "lovelace"
	demoGateway  = "gateway.demo.test"
	demoDomain   = "demo.test"
	demoPage     = "http://www.demo.test/"

	// demoMeasure is how long each direction is measured.
	demoMeasure = time.Second
	// demoTimeout bounds the attempt; it takes well below a second.
	demoTimeout = 20 * time.Second
	// demoRequest bounds a request to the web server.
	demoRequest = 30 * time.Second
)

// inputVariable names an environment variable that has "demo --serve" end with its input,
// too: with the program that started it and holds the other end, on any system and however
// that one ends.
const inputVariable = "WAYFARER_DEMO_HELD"

func newDemo(e *env) *cobra.Command {
	var keep, serve, gui bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try everything out on this computer alone",
		Long: "Start a gateway inside this program, connect to it over loopback, look at what is behind it, measure the\n" +
			"speed and disconnect. It needs no rights and no network and leaves nothing behind.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "stay connected with a SOCKS5 proxy for a browser, until Ctrl+C")
	cmd.Flags().BoolVar(&serve, "serve", false, "offer gateway and local API (on --socket) to other programs, until Ctrl+C")
	cmd.Flags().BoolVar(&gui, "gui", false, "show it in the window: the same as wayfarer-gui --demo")
	cmd.MarkFlagsMutuallyExclusive("keep", "serve", "gui")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if gui {
			return showWindow(cmd.Context())
		}
		d := &demo{env: e, style: styleFor(e.out)}
		if serve {
			return d.serve(cmd.Context(), cmd.Flag("socket").Changed || os.Getenv(control.SocketVariable) != "")
		}
		return d.run(cmd.Context(), keep)
	}
	return cmd
}

// showWindow runs the demonstration of the program with the window, which is installed
// beside this one.
func showWindow(ctx context.Context) error {
	program, err := platform.Sibling("wayfarer-gui")
	if err != nil {
		return demoFailed("the window cannot be found", err)
	}
	window := exec.CommandContext(ctx, program, "--demo")
	window.Cancel = func() error { return window.Process.Signal(os.Interrupt) }
	window.WaitDelay = cancelTime
	window.Stdout, window.Stderr = os.Stdout, os.Stderr
	if err := window.Run(); err != nil && ctx.Err() == nil {
		return demoFailed("the window does not start, or has failed", err)
	}
	return nil
}

// demo is one demonstration.
type demo struct {
	*env
	style style
}

// demoHost is a gateway that runs.
type demoHost struct {
	address     netip.AddrPort
	credentials *gateway.Credentials
	stop        func() error // ends it; says why it ended before
}

// startGateway starts the gateway on an ephemeral port of loopback.
func startGateway(ctx context.Context) (*demoHost, error) {
	credentials, err := gateway.SelfSigned(demoGateway, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	return serveGateway(ctx, credentials, demoConfig(credentials))
}

func demoConfig(credentials *gateway.Credentials) gateway.Config {
	dns, web := netip.MustParseAddr("10.77.0.53"), netip.MustParseAddr("10.77.0.80")
	return gateway.Config{
		Chain: credentials.Chain,
		Key:   credentials.Key,
		Users: map[string]string{demoLogin: demoPassword},
		Pool:  netip.MustParsePrefix("10.77.1.0/24"),
		Settings: gateway.Settings{
			DNS:           []netip.Addr{dns},
			Banner:        "Welcome to the network behind the demonstration gateway.",
			DefaultDomain: demoDomain,
			SplitDNS:      []string{demoDomain},
			SplitInclude:  []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")},
		},
		Inside: &gateway.Inside{
			Addresses: []netip.Addr{dns, web},
			Hosts:     map[string]netip.Addr{"www." + demoDomain: web, "dns." + demoDomain: dns},
		},
	}
}

func serveGateway(ctx context.Context, credentials *gateway.Credentials, cfg gateway.Config) (*demoHost, error) {
	gw, err := gateway.New(cfg)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	// A port other than 500 speaks as port 4500 does from the first message on.
	go func() { ended <- gw.Serve(serving, gateway.Socket{Conn: conn, NonESP: true}) }()
	return &demoHost{
		address:     conn.LocalAddr().(*net.UDPAddr).AddrPort(),
		credentials: credentials,
		stop: sync.OnceValue(func() error {
			cancel()
			return <-ended
		}),
	}, nil
}

// request connects to the gateway, whose CA it trusts.
func (h *demoHost) request() *control.ConnectRequest {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.credentials.CA.Raw})
	return &control.ConnectRequest{
		Profile:        app.Profile{Name: "demo", Gateway: h.address.String(), Login: demoLogin, CA: []string{string(ca)}},
		Password:       []byte(demoPassword),
		TimeoutSeconds: int(demoTimeout / time.Second),
	}
}

func (h *demoHost) fingerprint() string {
	sum := sha256.Sum256(h.credentials.Chain[0].Raw)
	return hex.EncodeToString(sum[:])
}

// run is the demonstration from start to end.
func (d *demo) run(ctx context.Context, keep bool) (err error) {
	host, err := d.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.stop()) }()

	svc := newRootless(nil)
	defer func() { err = errors.Join(err, svc.close(ctx)) }()
	d.title("Connecting without any rights, as " + demoLogin)
	show := *d.env
	show.err, show.progress = d.out, true // the steps belong to the show
	req := host.request()
	req.Ask = d.ask != nil
	a, conn, err := show.establish(ctx, svc, req, demoTimeout)
	if err != nil {
		return err
	}
	d.gap()
	showConnected(d.out, conn) // which ends with the banner and a gap
	if err := d.look(ctx, svc); err != nil {
		return err
	}
	if err := d.measure(ctx, svc); err != nil {
		return err
	}
	if keep {
		if err := d.keep(ctx, svc, a); err != nil {
			return err
		}
		d.gap()
	}
	if err := svc.Disconnect(context.WithoutCancel(ctx), a.id); err != nil {
		return err
	}
	d.title("Disconnected")
	fmt.Fprintln(d.out, "Nothing of this computer was changed.")
	return nil
}

func (d *demo) start(ctx context.Context) (*demoHost, error) {
	d.title("Starting a gateway on this computer")
	host, err := startGateway(ctx)
	if err != nil {
		return nil, demoFailed("the gateway does not start", err)
	}
	var t table
	t.row("Address", host.address.String()+" (UDP)")
	t.row("Certificate", host.credentials.Chain[0].Subject.String())
	t.row("SHA-256", host.fingerprint())
	t.row("Issuer", host.credentials.CA.Subject.CommonName)
	t.write(d.out)
	d.gap()
	return host, nil
}

func demoFailed(what string, err error) error {
	return app.NewFailure(app.CodeInternal, "", fmt.Sprintf("%s: %v", what, err), "report it with this output")
}

// title begins a part of the show, gap ends it.
func (d *demo) title(text string) { fmt.Fprintln(d.out, d.style.bold(text)) }

func (d *demo) gap() { fmt.Fprintln(d.out) }

func client(svc *rootless) (*http.Client, func()) {
	transport := &http.Transport{DialContext: svc.dial} // no proxy: only the tunnel
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

var pageTitle = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`<title>([^<]{1,80})</title>`) })

// look fetches the page behind the gateway by its name.
func (d *demo) look(ctx context.Context, svc *rootless) error {
	d.title("Opening " + demoPage + ", a page behind the gateway")
	ctx, cancel := context.WithTimeout(ctx, demoRequest)
	defer cancel()
	web, done := client(svc)
	defer done()
	began := time.Now()
	body, err := fetch(ctx, web, demoPage)
	if err != nil {
		return stopped(ctx, "the page behind the gateway cannot be opened", err)
	}
	found := pageTitle().FindSubmatch(body)
	if found == nil {
		return demoFailed("the page behind the gateway", errors.New("it is another one than expected"))
	}
	fmt.Fprintf(d.out, "  %s  %s (%d bytes in %v)\n", d.style.good("ok"), found[1], len(body), time.Since(began).Round(time.Millisecond))
	d.gap()
	return nil
}

// stopped is the failure of a part that ctx may have ended.
func stopped(ctx context.Context, what string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return cancelled()
	}
	return demoFailed(what, err)
}

func fetch(ctx context.Context, web *http.Client, url string) ([]byte, error) {
	const maxPage = 1 << 16
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxPage))
}

// measure moves data both ways, each for a while.
func (d *demo) measure(ctx context.Context, svc *rootless) error {
	d.title("Measuring the speed")
	for _, way := range []struct {
		name string
		move func(context.Context, *http.Client) (int64, error)
	}{{"download", download}, {"upload", upload}} {
		web, done := client(svc)
		bytes, took, err := timed(ctx, web, way.move)
		done()
		if err != nil {
			return stopped(ctx, "the "+way.name+" failed", err)
		}
		fmt.Fprintf(d.out, "  %-8s  %s\n", way.name, d.style.bold(speed(bytes, took)))
	}
	d.gap()
	return nil
}

// timed moves data for demoMeasure and counts it.
func timed(ctx context.Context, web *http.Client, move func(context.Context, *http.Client) (int64, error)) (int64, time.Duration, error) {
	limit, cancel := context.WithTimeout(ctx, demoMeasure)
	defer cancel()
	began := time.Now()
	bytes, err := move(limit, web)
	took := time.Since(began)
	if ctx.Err() == nil && limit.Err() != nil && bytes > 0 {
		err = nil // that was the end of the measuring
	}
	return bytes, took, err
}

func download(ctx context.Context, web *http.Client) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, demoPage+"bytes?n="+fmt.Sprint(1<<30), nil)
	if err != nil {
		return 0, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.Copy(io.Discard, resp.Body)
}

// upload ends the data in time, so that the gateway says what has arrived.
func upload(ctx context.Context, web *http.Client) (int64, error) {
	// The answer may come a little later than the last byte.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, demoPage+"upload", zerosUntil{ctx})
	if err != nil {
		return 0, err
	}
	web.Timeout = demoRequest
	resp, err := web.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var arrived int64
	if _, err := fmt.Fscan(resp.Body, &arrived); err != nil {
		return 0, err
	}
	return arrived, nil
}

// zerosUntil is a source of bytes that ends with its context.
type zerosUntil struct{ ctx context.Context }

func (z zerosUntil) Read(b []byte) (int, error) {
	if z.ctx.Err() != nil {
		return 0, io.EOF
	}
	clear(b)
	return len(b), nil
}

func speed(bytes int64, took time.Duration) string {
	return fmt.Sprintf("%.0f Mbit/s", float64(bytes)*8/1e6/took.Seconds())
}

// keep serves the SOCKS5 proxy until Ctrl+C.
func (d *demo) keep(ctx context.Context, svc *rootless, a *attempt) error {
	listener, err := listenProxy(defaultProxy)
	if err != nil { // taken, perhaps by another demonstration
		if listener, err = listenProxy("127.0.0.1:0"); err != nil {
			return err
		}
	}
	defer listener.Close()
	d.title("Staying connected")
	showProxy(d.out, listener, demoPage)
	return a.serveProxy(ctx, svc, listener)
}

// serve offers the gateway, and a rootless service on a socket, until Ctrl+C; see also
// inputVariable.
func (d *demo) serve(ctx context.Context, given bool) (err error) {
	if os.Getenv(inputVariable) != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, d.in) // however it ends
			cancel()
		}()
	}
	path := d.socket
	if !given {
		private, remove, err := privateSocket()
		if err != nil {
			return demoFailed("no place for the socket", err)
		}
		defer remove()
		path = private
	}
	listener, err := control.Listen(path)
	if err != nil {
		return demoFailed("the local API does not start", err)
	}
	defer listener.Close()
	host, err := d.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.stop()) }()
	logs := daemon.NewLogs(slog.DiscardHandler)
	svc := newRootless(slog.New(logs))
	server := &control.Server{Backend: svc.daemon, Log: slog.New(logs), Logs: logs, Version: app.Version()}
	d.invite(host, path)

	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- server.Serve(serving, listener) }()
	select {
	case <-ctx.Done():
		// The API outlives the connections, so that clients see them end.
		err = svc.close(ctx)
		cancel()
		return errors.Join(err, <-served)
	case err := <-served:
		return errors.Join(err, svc.close(ctx))
	}
}

// privateSocket is a path in a new folder, which remove takes away, or on Windows, where
// pipes have no folder, a name that nobody can guess.
func privateSocket() (path string, remove func(), err error) {
	const name = "wayfarer-demo-"
	if runtime.GOOS == "windows" {
		return `\\.\pipe\` + name + rand.Text(), func() {}, nil
	}
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, "wayfarer.sock"), func() { os.RemoveAll(dir) }, nil
}

// invite says how to connect from another terminal.
func (d *demo) invite(host *demoHost, path string) {
	d.title("Serving the local API without any rights")
	var t table
	t.row("Socket", path)
	t.row("Gateway", host.address.String())
	t.row("Login", demoLogin)
	t.row("Password", demoPassword)
	t.write(d.out)
	fmt.Fprintf(d.out, "\nIn another terminal:\n\n  wayfarer --socket %s connect --gateway %v --login %s --pin %s\n"+
		"  wayfarer --socket %s status\n\nCtrl+C ends it.\n", path, host.address, demoLogin, host.fingerprint(), path)
}

// style writes words in bold or colour, or plainly.
type style struct{ coloured bool }

// styleFor is coloured on a terminal whose user has not said otherwise
// (https://no-color.org).
func styleFor(w io.Writer) style {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return style{}
	}
	// An old Windows console would show the codes themselves.
	return style{coloured: runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != ""}
}

func (s style) bold(text string) string { return s.in("1", text) }
func (s style) good(text string) string { return s.in("1;32", text) }

func (s style) in(code, text string) string {
	if !s.coloured {
		return text
	}
	return "\x1b[" + code + "m" + strings.ReplaceAll(text, "\x1b", "") + "\x1b[0m"
}

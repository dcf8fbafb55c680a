package gui

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/daemon"
	"wayfarer/ike"
	"wayfarer/ike/gateway"
)

// said is a record of a message as the engine makes it, at a second.
func said(connection string, second int, text, exchange, id string, payloads ...string) *app.LogRecord {
	r := &app.LogRecord{Time: at(float64(second)), Level: "trace", Connection: connection, Message: text, Attributes: map[string]string{
		"exchange": exchange, "mid": id, "encrypted": "true",
	}}
	if exchange == "ID_PROT" {
		r.Attributes["encrypted"] = "false"
	}
	for i, p := range payloads {
		r.Attributes[payloadKey+string(rune('a'+i))] = p
	}
	return r
}

// aConversation is a log in which a first attempt gets no answer.
func aConversation() []*app.LogRecord {
	debug := func(second int, text string) *app.LogRecord {
		return &app.LogRecord{Time: at(float64(second)), Level: "debug", Connection: "c1", Message: text}
	}
	return []*app.LogRecord{
		said("c1", 0, sentRecord, "ID_PROT", "00000000", "SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa 86400 s", "V XAUTH", "V DPD"),
		debug(2, resentRecord),
		debug(3, "generating ID_PROT 0 [ SA ]"),
		debug(5, resentRecord),
		{Time: at(9), Level: "warn", Connection: "c1", Message: "the gateway is\nslow", Attributes: map[string]string{"step": "find-gateway"}},
		said("c2", 10, receivedRecord, "QUICK_MODE", "12345678", "HASH 32 bytes"),
		said("c1", 20, sentRecord, "ID_PROT", "00000000", "SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa 86400 s"),
		said("c1", 21, receivedRecord, "ID_PROT", "00000000", "SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa 86400 s", "V strongSwan"),
		said("c1", 22, receivedRecord, "TRANSACTION", "0000beef", "HASH 32 bytes", "ATTR REQUEST 9: XAUTH_USER_NAME, XAUTH_USER_PASSWORD"),
		said("c1", 23, sentRecord, "TRANSACTION", "0000beef", "HASH 32 bytes", "ATTR REPLY 9: XAUTH_USER_NAME [secret], XAUTH_USER_PASSWORD [secret]"),
		said("c1", 24, receivedRecord, "INFORMATIONAL", "00000001", "HASH 32 bytes", "N ISAKMP AUTHENTICATION_FAILED"),
	}
}

func TestConversation(t *testing.T) {
	stamp := func(seconds float64) string { return at(seconds).Local().Format("15:04:05.000") }
	want := stamp(0) + `  ---> Main Mode (×3)
              SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa 86400 s
              V XAUTH
              V DPD
` + stamp(9) + `  WARN the gateway is slow step=find-gateway

` + stamp(20) + `  ---> Main Mode
              SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa 86400 s
` + stamp(21) + `  <--- Main Mode
              SA proposal 1 ISAKMP: aes256-sha256-ecp256 hybrid-rsa 86400 s
              V strongSwan
` + stamp(22) + `  <--- Transaction 0000beef *
              HASH 32 bytes
              ATTR REQUEST 9: XAUTH_USER_NAME, XAUTH_USER_PASSWORD
` + stamp(23) + `  ---> Transaction 0000beef *
              HASH 32 bytes
              ATTR REPLY 9: XAUTH_USER_NAME [secret], XAUTH_USER_PASSWORD [secret]
` + stamp(24) + `  <--- Informational 00000001 *
              HASH 32 bytes
              N ISAKMP AUTHENTICATION_FAILED
`
	if got := conversationText(conversation(aConversation(), "c1")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := strings.Join(conversations(aConversation()), " "); got != "c1 c2" {
		t.Errorf("conversations of %s", got)
	}
}

func TestSummary(t *testing.T) {
	for _, tt := range []struct {
		payloads []string
		want     string
	}{
		{[]string{"SA proposal 1", "V a", "V b", "KE 1 bytes", "V c"}, "SA V×2 KE V"},
		{[]string{"HASH 1 bytes", "N ISAKMP NO_PROPOSAL_CHOSEN 00", "D ESP 01"}, "HASH N(NO_PROPOSAL_CHOSEN) D"},
		{[]string{"ATTR REPLY 9: A", "ATTR", "N", "", "… 3"}, "ATTR(REPLY) ATTR N  …"},
		{nil, ""},
	} {
		if got := (&message{payloads: tt.payloads}).summary(); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.payloads, got, tt.want)
		}
	}
	for _, tt := range []struct {
		m    message
		want string
	}{
		{message{exchange: "AGGRESSIVE", id: "00000000"}, "Aggressive Mode"},
		{message{exchange: "QUICK_MODE", id: "0000beef"}, "Quick Mode 0000beef"},
		{message{exchange: "NEW_GROUP", id: "0000beef"}, "NEW_GROUP 0000beef"},
		{message{}, ""},
	} {
		if got := tt.m.title(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// What a real engine logs, through the service's own log, becomes a conversation: also
// when the service itself logs but what is grave.
func TestConversationOfTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := daemon.NewLogs(slog.DiscardHandler)
		there, here := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		creds, err := gateway.SelfSigned("gw.example.com")
		if err != nil {
			t.Fatal(err)
		}
		gw, err := gateway.New(gateway.Config{
			Chain: creds.Chain, Key: creds.Key, Users: map[string]string{"ada": "lovelace"}, Pool: netip.MustParsePrefix("10.99.0.0/24"),
		})
		if err != nil {
			t.Fatal(err)
		}
		network := gateway.NewNet()
		var sockets []gateway.Socket
		for _, port := range []uint16{500, 4500} {
			conn, err := network.Listen(netip.AddrPortFrom(there, port))
			if err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, gateway.Socket{Conn: conn, NonESP: port != 500})
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() { defer close(served); gw.Serve(ctx, sockets...) }()
		defer func() { cancel(); <-served }()
		cfg := &ike.Config{
			Gateway: "gw.example.com", Login: "ada", Password: ike.Secret("lovelace"),
			Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{there}, nil },
			ListenPacket: func(_ context.Context, _ netip.Addr, port uint16) (net.PacketConn, error) {
				return network.Listen(netip.AddrPortFrom(here, port))
			},
			ListenESP: func(context.Context, netip.Addr) (net.PacketConn, error) { return nil, errors.New("none") },
			Log:       slog.New(logs).With("connection", "c1", "owner", "ada"),
		}
		cfg.Trust.CAs = append(cfg.Trust.CAs, creds.CA)
		session, err := ike.Dial(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // in which there are probes
		session.Close()
		kept, _ := logs.Since(0, app.LevelTrace)
		var records []*app.LogRecord
		for i := range kept {
			records = append(records, &kept[i])
		}
		var got []string
		for _, m := range conversation(records, "c1") {
			if m.grave == "" {
				got = append(got, map[bool]string{true: "> ", false: "< "}[m.sent]+exchangeTitles[m.exchange]+" "+m.summary())
			}
		}
		text := strings.Join(got, "\n")
		for _, want := range []string{"> Main Mode SA V", "< Main Mode SA V", "> Main Mode KE No", "< Transaction HASH ATTR(REQUEST)", "> Quick Mode HASH SA No ID×2", "< Quick Mode HASH SA No"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s is missing in\n%s", want, text)
			}
		}
		if whole := conversationText(conversation(records, "c1")); strings.Contains(whole, "lovelace") || !strings.Contains(whole, "XAUTH_USER_PASSWORD [secret]") {
			t.Errorf("the password is not blanked:\n%s", whole)
		}
		if len(got) > 30 {
			t.Errorf("%d messages: probes are among them", len(got))
		}
	})
}

func TestConversationView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		test.NewTempApp(t)
		f := &fakeLog{lines: make(chan *app.LogRecord)}
		var copied, name, saved string
		v := newConversationView(&keys{}, f.source, f.queue, func(text string) { copied = text }, func(n, text string) { name, saved = n, text })
		w := test.NewTempWindow(t, v.content())
		w.Resize(fyne.NewSize(460, 600))
		v.choose("c2")
		v.start()
		v.start()
		defer v.end()
		f.wait(steadyTime)
		if !v.state.Visible() || v.connection.Selected != "" {
			t.Errorf("without messages %q is chosen", v.connection.Selected)
		}
		for _, r := range aConversation() {
			f.lines <- r
		}
		f.wait(gatherTime)
		if v.state.Visible() || v.connection.Selected != "c2" || len(v.shown) != 1 || strings.Join(f.asked, " ") != "trace" {
			t.Errorf("chosen is %q, shown are %d, asked for %v", v.connection.Selected, len(v.shown), f.asked)
		}
		v.connection.SetSelected("c1")
		if len(v.shown) != 7 {
			t.Errorf("shown are %d", len(v.shown))
		}
		v.list.Select(5)
		if !strings.Contains(v.whole.Text, "XAUTH_USER_PASSWORD [secret]") {
			t.Errorf("in the chosen message is %q", v.whole.Text)
		}
		for _, b := range buttons(v.content()) {
			test.Tap(b)
		}
		if copied != conversationText(v.shown) || saved != copied || !strings.HasSuffix(name, ".txt") {
			t.Errorf("copied was %q, saved %q to %s", copied, saved, name)
		}
		// The newest is followed, whichever connection it is of.
		f.lines <- said("c3", 30, sentRecord, "ID_PROT", "00000000", "SA proposal 1")
		f.wait(gatherTime)
		if v.connection.Selected != "c3" || len(v.shown) != 1 {
			t.Errorf("chosen is %q, shown are %d", v.connection.Selected, len(v.shown))
		}
		v.connection.SetSelected("c2") // but not away from what somebody chose
		f.lines <- said("c4", 31, sentRecord, "ID_PROT", "00000000", "SA proposal 1")
		f.wait(gatherTime)
		if v.connection.Selected != "c2" {
			t.Errorf("chosen is %q", v.connection.Selected)
		}
		v.end()
		v.end()
	})
}

func TestRung(t *testing.T) {
	test.NewTempApp(t)
	r := newRung()
	r.Resize(r.MinSize())
	all := conversation(aConversation(), "c1")
	r.show(&all[0])
	if r.title.Text != "New attempt – Main Mode (sent 3 times)" || r.what.Text != "SA V×2" || !r.arrow.sent || !r.line.Visible() {
		t.Errorf("shown are %q and %q", r.title.Text, r.what.Text)
	}
	r.show(&all[1])
	if r.title.Text != "the gateway is slow step=find-gateway" || r.title.Importance != widget.WarningImportance || r.line.Visible() || r.what.Visible() {
		t.Errorf("a remark is shown as %q", r.title.Text)
	}
	r.show(&all[4])
	if r.title.Text != "Transaction 0000beef · encrypted" || r.arrow.sent || r.arrow.lines[1].Position2.X != 0 {
		t.Errorf("shown is %q, the head at %v", r.title.Text, r.arrow.lines[1].Position2)
	}
}

func TestConversationLook(t *testing.T) {
	inBoth(t, "conversation", fyne.NewSize(460, 800), func() fyne.CanvasObject {
		v := newConversationView(&keys{}, nil, nil, nil, nil)
		records := aConversation()
		for _, r := range records { // stamps are local
			r.Time = time.Date(2026, 1, 2, 12, 0, r.Time.Second(), 0, time.Local)
		}
		v.take(records, true)
		v.list.Select(5)
		return v.content()
	})
}

package gui

import (
	"image/color"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// wholeOffice is a connection with everything that there can be.
func wholeOffice() *app.Connection {
	since, expires, heard := at(0), at(3600), at(10)
	return &app.Connection{
		ID: "c1", State: app.StateConnected, Profile: "office", Since: &since,
		Gateway: &app.Gateway{
			Host: "vpn.example.com", Address: netip.MustParseAddr("192.0.2.1"), Port: 4500, Identity: "CN=rhum",
			CertificateSHA256: strings.Repeat("0123456789abcdef", 4),
		},
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.201.20/32")},
		DNS:       []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.1.2")},
		WINS:      []netip.Addr{netip.MustParseAddr("192.168.1.3")},
		Domains:   []string{"corp.example"},
		Routes:    []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("10.9.8.7/32")},
		Banner:    "Welcome.\x1b[31m Be kind.",
		TUN:       &app.TUN{Name: "wayfarer0", MTU: 1300},
		IKE: &app.IKE{
			Version: 1, Exchange: "main", Auth: "hybrid-rsa", Suite: "aes256-sha256-ecp256", NATT: "rfc3947", NAT: "local",
			Fragmentation: true, DPD: true, Established: &since, Expires: &expires, LastHeard: &heard,
		},
		ESP: []app.ESP{{
			SPIIn: "0x1", SPIOut: "0x2", Suite: "aes256gcm16",
			Local: netip.MustParsePrefix("192.168.201.20/32"), Remote: netip.MustParsePrefix("0.0.0.0/0"),
			BytesIn: 1234567, BytesOut: 4321, PacketsIn: 1000, PacketsOut: 1, Replayed: 2, BadICV: 3, Expires: &expires, Rekeys: 1,
		}},
		Warnings: []app.Warning{
			{Code: app.WarningNoSave, Severity: app.SeverityInfo, Text: "the gateway forbids storing the password"},
			{Code: app.WarningOverlap, Severity: app.SeverityWarning, Text: "the local network is 192.168.1.0/24"},
			{Code: app.WarningOverlap, Severity: app.SeverityWarning, Text: "the local router is 192.168.1.1"},
		},
	}
}

func TestDetailsText(t *testing.T) {
	got := detailsText(wholeOffice(), at(753))
	const want = `office: Connected
00:12:33
! Your local network has the addresses of a company network: the local network is 192.168.1.0/24
the local router is 192.168.1.1
! The gateway forbids saving the password: the gateway forbids storing the password

Network
  Address: 192.168.201.20
  DNS servers: 192.168.1.1, 192.168.1.2
  Domains: corp.example
  WINS servers: 192.168.1.3
  Through the VPN: 192.168.1.0/24, 10.9.8.7
  Interface: wayfarer0
  Largest packet (MTU): 1300 bytes

Gateway
  Name: vpn.example.com
  Address and port: 192.0.2.1:4500
  Identity: CN=rhum
  Certificate (SHA-256): 0123 4567 89ab cdef 0123 4567 89ab cdef 0123 4567 89ab cdef 0123 4567 89ab cdef
  Last reply: 12 min ago
  Address translation: on your side
  Packets travel as: ESP in UDP (rfc3947)
  Long messages in pieces: yes
  Says that it is alive (DPD): yes
  Message: Welcome.[31m Be kind.

Security: strong
  Signed in with: the gateway's certificate, login and password (hybrid-rsa)
  Exchange: main mode
  Control channel (IKE): AES-256-CBC, HMAC-SHA-256, ECP-256 (strong)
  New keys in: at most 00:47:27
  Renewals: 0
  Data (ESP): AES-256-GCM (strong)
  Between: 192.168.201.20 – everything (0.0.0.0/0)
  New keys in: at most 00:47:27
  Renewals: 1
  SPI in, out: 0x1, 0x2

Traffic
  Received: 1.2 MB
  Sent: 4.3 kB
  Packets received: 1000
  Packets sent: 1
  Refused: came twice: 2
  Refused: changed on the way: 3
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is not known yet is left out, and nothing of it is needed.
func TestDetailsOfLittle(t *testing.T) {
	test.NewTempApp(t)
	for _, state := range []app.State{
		app.StateDisconnected, app.StateConnecting, app.StateActionNeeded, app.StateConnected,
		app.StateReconnecting, app.StateDisconnecting, app.StateBlocked, app.StateFailed, "new",
	} {
		c := &app.Connection{ID: "c1", State: state}
		newDetailsView(&keys{}, nil).update(c, at(0))
		if text := detailsText(c, at(0)); strings.Contains(text, "Address") || !strings.Contains(text, "Traffic") {
			t.Errorf("%s: got\n%s", state, text)
		}
	}
}

func TestDetailsWords(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{authName("xauth-psk"), "the group's secret, login and password (xauth-psk)"},
		{authName("xauth-rsa"), "certificates, login and password (xauth-rsa)"},
		{authName("psk"), "a shared secret (psk)"},
		{authName("ecdsa-256"), "certificates (ecdsa-256)"},
		{authName(""), ""},
		{exchangeName("aggressive"), "aggressive mode"},
		{exchangeName("other\n"), "other"},
		{natName("none"), "none"},
		{natName("remote"), "on the gateway's side"},
		{natName("both"), "on both sides"},
		{natName("forced"), "none, but treated as if there were"},
		{carrierName(""), "ESP (IP protocol 50)"},
		{inFours("abcde"), "abcd e"},
		{connectionName(&app.Connection{Gateway: &app.Gateway{Host: "a.example"}}), "a.example"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// The view shows what the text says, and goes on to do so as time goes by.
func TestDetailsView(t *testing.T) {
	test.NewTempApp(t)
	var copied string
	v := newDetailsView(&keys{}, func(text string) { copied = text })
	w := test.NewTempWindow(t, v.content())
	w.Resize(fyne.NewSize(460, 900))
	c := wholeOffice()
	v.update(c, at(12))
	if v.clock.Text != "00:00:12" || v.address.Text != "192.168.201.20" || v.down.Text != "0 B/s" {
		t.Errorf("the top has %q, %q, %q", v.clock.Text, v.address.Text, v.down.Text)
	}
	v.accordion.OpenAll()
	v.update(c, at(13)) // nothing new: no rate either
	c = wholeOffice()
	c.ESP[0].BytesIn += 5000
	c.ESP[0].BytesOut += 2000
	heard := at(13)
	c.IKE.LastHeard = &heard
	v.update(c, at(14))
	if v.down.Text != "2.5 kB/s" || v.up.Text != "1.0 kB/s" {
		t.Errorf("the rates are %q and %q", v.down.Text, v.up.Text)
	}
	for name, want := range map[string]string{"Last reply": "1 s ago", "New keys in": "at most 00:59:46", "Received": "1.2 MB"} {
		if got := valueOf(v, name); got != want {
			t.Errorf("%s: shown is %q, want %q", name, got, want)
		}
	}
	// Another shape: a row more, another grade.
	c.IKE.Suite, c.SplitExclude = "3des-sha1-modp1024", c.Routes[:1]
	v.update(c, at(15))
	if got := valueOf(v, "Past the VPN"); got != "192.168.1.0/24" {
		t.Errorf("the new row has %q", got)
	}
	if v.parts[2].item.Title != "Security: weak" {
		t.Errorf("shown is %q", v.parts[2].item.Title)
	}
	for _, row := range v.parts[2].rows {
		if row.shown.name == "Control channel (IKE)" && (row.note.Importance != widget.DangerImportance || !strings.HasPrefix(row.note.Text, "weak: 3DES")) {
			t.Errorf("the note is %q", row.note.Text)
		}
	}
	for _, b := range buttons(v.content()) {
		if b.Text == "Copy all" {
			test.Tap(b)
		}
	}
	if copied != detailsText(c, at(15)) {
		t.Errorf("copied was %q", copied)
	}
}

// A connection that follows another is shown at once, also in what is closed.
func TestDetailsOfAnotherConnection(t *testing.T) {
	test.NewTempApp(t)
	v := newDetailsView(&keys{}, nil)
	v.update(wholeOffice(), at(0))
	c := wholeOffice()
	c.ID, c.Gateway.Host = "c2", "other.example"
	v.update(c, at(1))
	if got := valueOf(v, "Name"); got != "other.example" {
		t.Errorf("shown is %q", got)
	}
}

// valueOf is what stands behind the first of that name.
func valueOf(v *detailsView, name string) string {
	for _, part := range v.parts {
		for _, row := range part.rows {
			if row.name.Text == name {
				return row.value.Text
			}
		}
	}
	return "nothing"
}

// buttons finds all buttons in o, which must be laid out.
func buttons(o fyne.CanvasObject) (found []*button) {
	for _, o := range test.LaidOutObjects(o) {
		if b, ok := o.(*button); ok {
			found = append(found, b)
		}
	}
	return found
}

// inVariant is the program's theme, light or dark whatever the system says.
type inVariant struct {
	fyne.Theme
	variant fyne.ThemeVariant
}

func (l inVariant) Color(name fyne.ThemeColorName, _ fyne.ThemeVariant) color.Color {
	return l.Theme.Color(name, l.variant)
}

// inBoth shows content in light and in dark, and compares with the pictures in testdata.
func inBoth(t *testing.T, name string, size fyne.Size, content func() fyne.CanvasObject) {
	for shade, variant := range map[string]fyne.ThemeVariant{"light": theme.VariantLight, "dark": theme.VariantDark} {
		t.Run(shade, func(t *testing.T) {
			test.NewTempApp(t).Settings().SetTheme(inVariant{newLook(), variant})
			w := test.NewTempWindow(t, content())
			w.Resize(size)
			for range 2 { // text that wraps has its height after the first
				w.Content().Refresh()
			}
			test.AssertRendersToImage(t, name+"-"+shade+".png", w.Canvas())
		})
	}
}

func TestDetailsLook(t *testing.T) {
	inBoth(t, "details", fyne.NewSize(460, 1700), func() fyne.CanvasObject {
		v := newDetailsView(&keys{}, nil)
		c := wholeOffice()
		more := func(i int, in, out uint64) {
			esp := c.ESP[0]
			esp.BytesIn, esp.BytesOut = esp.BytesIn+in, esp.BytesOut+out
			c = wholeOffice()
			c.ESP[0] = esp
			v.update(c, at(float64(i)))
		}
		for i := range 70 {
			more(i, uint64(i%20*150e3), uint64(i%7*50e3))
		}
		v.accordion.OpenAll()
		more(70, 1234567, 123456)
		return v.content()
	})
}

// An hour with the window open is 3600 of these.
func BenchmarkDetails(b *testing.B) {
	test.NewTempApp(b)
	v := newDetailsView(&keys{}, nil)
	w := test.NewTempWindow(b, v.content())
	w.Resize(fyne.NewSize(460, 1700))
	c := wholeOffice()
	v.update(c, at(0))
	v.accordion.OpenAll()
	now := noon
	for b.Loop() {
		now = now.Add(time.Second)
		next := *c
		next.ESP[0].BytesIn += 1e6
		c = &next
		v.update(c, now)
	}
}

package tun

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer is a server on a stack.
type dnsServer struct {
	zone map[string][]netip.Addr // by full name
	// bend changes an answer before it goes out over proto; nil leaves it.
	bend func(proto string, m *dnsmessage.Message)
	// before are sent over UDP ahead of the answer.
	before func(request dnsmessage.Message) []dnsmessage.Message

	mu    sync.Mutex
	asked []string
}

func (d *dnsServer) serve(t *testing.T, s *Stack, addr netip.Addr) {
	t.Helper()
	udp, tcp := listenUDP(t, s, addr, dnsPort), listen(t, s, addr, dnsPort)
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, answer := range d.answer("udp", buf[:n]) {
				udp.WriteTo(answer, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			var length [2]byte
			io.ReadFull(conn, length[:])
			request := make([]byte, binary.BigEndian.Uint16(length[:]))
			io.ReadFull(conn, request)
			for _, answer := range d.answer("tcp", request) {
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
			conn.Close()
		}
	}()
}

func (d *dnsServer) answer(proto string, request []byte) [][]byte {
	var m dnsmessage.Message
	if err := m.Unpack(request); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	d.mu.Lock()
	d.asked = append(d.asked, proto+" "+q.Type.String()[4:]+" "+name)
	d.mu.Unlock()
	var out [][]byte
	if proto == "udp" && d.before != nil {
		for _, b := range d.before(m) {
			packed, _ := b.Pack()
			out = append(out, packed)
		}
	}
	m.Response, m.RecursionAvailable = true, true
	addrs, known := d.zone[name]
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET}
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	if d.bend != nil {
		d.bend(proto, &m)
	}
	packed, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return append(out, packed)
}

func (d *dnsServer) questions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.asked)
	return d.asked
}

func TestLookupHost(t *testing.T) {
	www4, www6 := netip.MustParseAddr("192.168.1.80"), netip.MustParseAddr("2001:db8::80")
	zone := map[string][]netip.Addr{
		"www.corp.example.": {www4, www6},
		"www.dmz.example.":  {far4},
		"only4.example.":    {www4},
		"empty.example.":    {},
		"a.b.corp.example.": {far4},
		"a.b.":              {www4},
	}
	near, far := pair(t, StackConfig{
		DNS:           []netip.Addr{far4},
		SearchDomains: []string{"corp.example", ".dmz.example.", ""},
	})
	server := &dnsServer{zone: zone}
	server.serve(t, far, far4)
	for _, tt := range []struct {
		host  string
		want  []netip.Addr // empty: not found
		asked []string     // of the A records
	}{
		{"192.0.2.1", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil},
		{"::ffff:192.0.2.1", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil},
		{"fe80::1%eth0", []netip.Addr{netip.MustParseAddr("fe80::1")}, nil},
		{"www.corp.example", []netip.Addr{www4, www6}, []string{"www.corp.example."}},
		{"WWW.corp.EXAMPLE.", []netip.Addr{www4, www6}, []string{"www.corp.example."}},
		{"www", []netip.Addr{www4, www6}, []string{"www.corp.example."}},
		{"www.dmz", []netip.Addr{}, []string{"www.dmz.", "www.dmz.corp.example.", "www.dmz.dmz.example."}},
		{"only4.example", []netip.Addr{www4}, []string{"only4.example."}},
		{"a.b", []netip.Addr{www4}, []string{"a.b."}},
		{"empty.example.", nil, []string{"empty.example."}},
		{"none", nil, []string{"none.", "none.corp.example.", "none.dmz.example."}},
		{"", nil, nil},
		{".", nil, nil},
		{"a..b.", nil, nil},
		{strings.Repeat("a", 64) + ".", nil, nil},
		{strings.Repeat("abcdefg.", 40), nil, nil},
	} {
		t.Run(tt.host, func(t *testing.T) {
			server.mu.Lock()
			server.asked = nil
			server.mu.Unlock()
			got, err := near.LookupHost(t.Context(), tt.host)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, %v", got, err)
			}
			var dnsErr *net.DNSError
			if len(tt.want) == 0 && (!errors.As(err, &dnsErr) || !dnsErr.IsNotFound || dnsErr.Name != tt.host) {
				t.Errorf("error is %#v", err)
			}
			var asked []string
			for _, q := range server.questions() {
				if name, ok := strings.CutPrefix(q, "udp A "); ok {
					asked = append(asked, name)
				}
			}
			if !slices.Equal(asked, tt.asked) {
				t.Errorf("asked for %q", asked)
			}
		})
	}
}

// TestLookupHostFamilies: a stack without IPv6 does not ask for it.
func TestLookupHostFamilies(t *testing.T) {
	near, far := newStack(t, StackConfig{Addresses: []netip.Addr{near4}, DNS: []netip.Addr{far4}}), newStack(t, StackConfig{Addresses: []netip.Addr{far4}})
	connect(t, near, far)
	server := &dnsServer{zone: map[string][]netip.Addr{"host.": {far4, far6}}}
	server.serve(t, far, far4)
	if got, err := near.LookupHost(t.Context(), "host"); err != nil || !slices.Equal(got, []netip.Addr{far4}) {
		t.Errorf("%v, %v", got, err)
	}
	if got := server.questions(); !slices.Equal(got, []string{"udp A host."}) {
		t.Errorf("asked %q", got)
	}
}

// TestLookupHostAnswers: whatever a server, or somebody on the way, sends.
func TestLookupHostAnswers(t *testing.T) {
	good := []netip.Addr{netip.MustParseAddr("192.168.1.80")}
	forged := dnsmessage.AResource{A: [4]byte{6, 6, 6, 6}}
	forge := func(edit func(*dnsmessage.Message)) func(dnsmessage.Message) []dnsmessage.Message {
		return func(m dnsmessage.Message) []dnsmessage.Message {
			m.Response = true
			m.Questions = slices.Clone(m.Questions)
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}, Body: &forged}}
			edit(&m)
			return []dnsmessage.Message{m}
		}
	}
	for _, tt := range []struct {
		name   string
		server *dnsServer
		want   []netip.Addr
		err    string
	}{
		{"truncated, then over TCP", &dnsServer{bend: func(proto string, m *dnsmessage.Message) {
			if proto == "udp" {
				m.Truncated, m.Answers = true, nil
			}
		}}, good, ""},
		{"truncated over TCP too", &dnsServer{bend: func(_ string, m *dnsmessage.Message) { m.Truncated = true }}, nil, "malformed"},
		{"server failure", &dnsServer{bend: func(_ string, m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure }}, nil, "ServerFailure"},
		{"an alias", &dnsServer{bend: func(_ string, m *dnsmessage.Message) {
			alias := dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("real.example.")},
			}
			m.Answers[0].Header.Name = dnsmessage.MustNewName("real.example.")
			m.Answers = append([]dnsmessage.Resource{alias}, m.Answers...)
		}}, good, ""},
		{"another ID before", &dnsServer{before: forge(func(m *dnsmessage.Message) { m.ID++ })}, good, ""},
		{"another name before", &dnsServer{before: forge(func(m *dnsmessage.Message) {
			m.Questions[0].Name = dnsmessage.MustNewName("other.")
		})}, good, ""},
		{"another type before", &dnsServer{before: forge(func(m *dnsmessage.Message) {
			m.Questions[0].Type = dnsmessage.TypeMX
		})}, good, ""},
		{"a question before", &dnsServer{before: forge(func(m *dnsmessage.Message) { m.Response = false })}, good, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := newStack(t, StackConfig{Addresses: []netip.Addr{near4}, DNS: []netip.Addr{far4}}), newStack(t, StackConfig{Addresses: []netip.Addr{far4}})
			connect(t, near, far)
			tt.server.zone = map[string][]netip.Addr{"host.": good}
			tt.server.serve(t, far, far4)
			got, err := near.LookupHost(t.Context(), "host")
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, %v", got, err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v; want %q", err, tt.err)
			}
		})
	}
}

// TestLookupHostNextServer: a server that refuses is passed over.
func TestLookupHostNextServer(t *testing.T) {
	near, far := pair(t, StackConfig{DNS: []netip.Addr{far4, far6}})
	refuses := &dnsServer{bend: func(_ string, m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused }}
	refuses.serve(t, far, far4)
	knows := &dnsServer{zone: map[string][]netip.Addr{"host.": {far4}}}
	knows.serve(t, far, far6)
	if got, err := near.LookupHost(t.Context(), "host"); err != nil || !slices.Equal(got, []netip.Addr{far4}) {
		t.Errorf("%v, %v", got, err)
	}
	if len(refuses.questions()) == 0 {
		t.Error("the first server was not asked first")
	}
}

// TestLookupHostCancelled: nobody answers, and the caller has enough.
func TestLookupHostCancelled(t *testing.T) {
	s := newStack(t, StackConfig{Addresses: []netip.Addr{near4}, DNS: []netip.Addr{far4}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.Read(func([]byte) {})
		cancel()
	}()
	var dnsErr *net.DNSError
	if _, err := s.LookupHost(ctx, "host"); !errors.As(err, &dnsErr) || dnsErr.IsNotFound {
		t.Errorf("%v", err)
	}
}

func TestDialByName(t *testing.T) {
	near, far := pair(t, StackConfig{DNS: []netip.Addr{far6}, SearchDomains: []string{"corp.example"}})
	(&dnsServer{zone: map[string][]netip.Addr{"web.corp.example.": {far4}}}).serve(t, far, far6)
	go echo(listen(t, far, far4, 80))
	conn, err := near.DialContext(t.Context(), "tcp", "web:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	roundTrip(t, conn, 1000)
}

// FuzzParseAnswer: no bytes from a server panic, and forged ones give nothing.
func FuzzParseAnswer(f *testing.F) {
	request, _ := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("host."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}).Pack()
	server := &dnsServer{zone: map[string][]netip.Addr{"host.": {far4}}}
	for _, answer := range server.answer("udp", request) {
		for n := range len(answer) + 1 {
			f.Add(answer[:n])
		}
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		addrs, truncated, err := parseAnswer(answer, request)
		if len(addrs) > 0 && (err != nil || truncated || answer[0] != 0 || answer[1] != 7 || answer[2]&0x80 == 0) {
			t.Errorf("%v, %v, %v", addrs, truncated, err)
		}
	})
}

package tun

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	dnsPort = 53
	// dnsWait is how long one server may take; dnsRounds how often all are asked.
	dnsWait   = 3 * time.Second
	dnsRounds = 2
	// dnsUDPSize is the largest answer over UDP without EDNS (RFC 1035 §4.2.1);
	// longer ones come truncated and are fetched over TCP.
	dnsUDPSize = 512
	maxName    = 253
)

var (
	errNoSuchHost = errors.New("no such host")
	errNoServers  = errors.New("the tunnel has no DNS server")
	errMalformed  = errors.New("malformed answer")
)

// LookupHost resolves host with the tunnel's DNS servers only, never with the
// host's resolver or hosts file. An address is its own answer. The stack's families
// alone are asked for, IPv4 first in the answer. The error is a *net.DNSError.
func (s *Stack) LookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap().WithZone("")}, nil
	}
	var failed error
	for _, name := range s.candidates(host) {
		addrs, err := s.lookupName(ctx, name)
		if len(addrs) > 0 {
			return addrs, nil
		}
		if err != nil && !errors.Is(err, errNoSuchHost) && failed == nil {
			failed = err
		}
	}
	if failed == nil {
		failed = errNoSuchHost
	}
	var timeout net.Error
	return nil, &net.DNSError{
		Err: failed.Error(), Name: host, UnwrapErr: failed,
		IsNotFound: failed == errNoSuchHost,
		IsTimeout:  errors.As(failed, &timeout) && timeout.Timeout(),
	}
}

// candidates lists the full names to try for host, as resolv.conf(5) does with
// ndots:1.
func (s *Stack) candidates(host string) []string {
	if host == "" || host == "." {
		return nil
	}
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	var names []string
	for _, domain := range s.cfg.SearchDomains {
		if domain = strings.Trim(domain, "."); domain != "" {
			names = append(names, host+"."+domain+".")
		}
	}
	if strings.Contains(host, ".") {
		return append([]string{host + "."}, names...)
	}
	return append(names, host+".")
}

// lookupName asks for all addresses of a full name, both families at once.
func (s *Stack) lookupName(ctx context.Context, name string) ([]netip.Addr, error) {
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	var lanes []chan answer
	ask := func(has bool, kind dnsmessage.Type) {
		if !has {
			return
		}
		lane := make(chan answer, 1)
		lanes = append(lanes, lane)
		go func() {
			addrs, err := s.query(ctx, name, kind)
			lane <- answer{addrs, err}
		}()
	}
	ask(s.has4, dnsmessage.TypeA)
	ask(s.has6, dnsmessage.TypeAAAA)
	var addrs []netip.Addr
	var failed error
	for _, lane := range lanes {
		got := <-lane
		addrs = append(addrs, got.addrs...)
		if got.err != nil && (failed == nil || errors.Is(failed, errNoSuchHost)) {
			failed = got.err
		}
	}
	return addrs, failed
}

// query asks the servers in turn until one of them knows.
func (s *Stack) query(ctx context.Context, name string, kind dnsmessage.Type) ([]netip.Addr, error) {
	if len(name) > maxName+1 {
		return nil, errNoSuchHost
	}
	full, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, errNoSuchHost
	}
	question := dnsmessage.Question{Name: full, Type: kind, Class: dnsmessage.ClassINET}
	failed := errNoServers
	for range dnsRounds {
		for _, server := range s.cfg.DNS {
			addrs, err := s.ask(ctx, server, question)
			if err == nil || errors.Is(err, errNoSuchHost) {
				return addrs, err
			}
			failed = fmt.Errorf("DNS server %v: %w", server, err)
		}
	}
	return nil, failed
}

// ask puts one question to one server: over UDP, and over TCP if the answer is
// truncated.
func (s *Stack) ask(ctx context.Context, server netip.Addr, question dnsmessage.Question) ([]netip.Addr, error) {
	var id [2]byte
	rand.Read(id[:])
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: binary.BigEndian.Uint16(id[:]), RecursionDesired: true},
		Questions: []dnsmessage.Question{question},
	}
	request, err := query.Pack()
	if err != nil { // a label is too long, or empty
		return nil, errNoSuchHost
	}
	for _, proto := range []string{"udp", "tcp"} {
		addrs, truncated, err := s.exchange(ctx, proto, server, request)
		if err != nil || !truncated {
			return addrs, err
		}
	}
	return nil, errMalformed // truncated over TCP
}

func (s *Stack) exchange(ctx context.Context, proto string, server netip.Addr, request []byte) (addrs []netip.Addr, truncated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dnsWait)
	defer cancel()
	conn, err := s.dial(ctx, proto, netip.AddrPortFrom(server.Unmap(), dnsPort))
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if proto == "tcp" {
		return exchangeStream(conn, request)
	}
	if _, err := conn.Write(request); err != nil {
		return nil, false, err
	}
	buf := make([]byte, dnsUDPSize)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, false, err
		}
		// What does not answer this question is not from the server.
		if addrs, truncated, err := parseAnswer(buf[:n], request); !errors.Is(err, errNotOurs) {
			return addrs, truncated, err
		}
	}
}

// exchangeStream is a question over TCP: a 2-byte length precedes each message
// (RFC 1035 §4.2.2).
func exchangeStream(conn net.Conn, request []byte) ([]netip.Addr, bool, error) {
	message := binary.BigEndian.AppendUint16(nil, uint16(len(request)))
	if _, err := conn.Write(append(message, request...)); err != nil {
		return nil, false, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, false, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, false, err
	}
	return parseAnswer(answer, request)
}

// errNotOurs: a message that does not answer the question.
var errNotOurs = errors.New("an answer to another question")

// parseAnswer reads the addresses out of an answer to request. Records of a chain
// of CNAMEs are taken as the server put them together.
func parseAnswer(answer, request []byte) (addrs []netip.Addr, truncated bool, err error) {
	var asked, parser dnsmessage.Parser
	askedHeader, err := asked.Start(request)
	if err != nil {
		return nil, false, err
	}
	question, err := asked.Question()
	if err != nil {
		return nil, false, err
	}
	head, err := parser.Start(answer)
	if err != nil || !head.Response || head.ID != askedHeader.ID {
		return nil, false, errNotOurs
	}
	echoed, err := parser.Question()
	if err != nil || echoed.Type != question.Type || echoed.Class != question.Class ||
		!strings.EqualFold(echoed.Name.String(), question.Name.String()) {
		return nil, false, errNotOurs
	}
	switch {
	case head.Truncated:
		return nil, true, nil
	case head.RCode == dnsmessage.RCodeNameError:
		return nil, false, errNoSuchHost
	case head.RCode != dnsmessage.RCodeSuccess:
		return nil, false, fmt.Errorf("the server says %v", head.RCode)
	}
	if err := parser.SkipAllQuestions(); err != nil {
		return nil, false, errMalformed
	}
	addrs, err = answers(&parser, question.Type)
	if err == nil && len(addrs) == 0 {
		err = errNoSuchHost
	}
	return addrs, false, err
}

// answers collects the addresses of the answer section.
func answers(parser *dnsmessage.Parser, kind dnsmessage.Type) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for {
		head, err := parser.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return addrs, nil
		}
		if err != nil {
			return nil, errMalformed
		}
		switch {
		case head.Type != kind || head.Class != dnsmessage.ClassINET:
			err = parser.SkipAnswer()
		case kind == dnsmessage.TypeA:
			var r dnsmessage.AResource
			r, err = parser.AResource()
			addrs = append(addrs, netip.AddrFrom4(r.A))
		default:
			var r dnsmessage.AAAAResource
			r, err = parser.AAAAResource()
			addrs = append(addrs, netip.AddrFrom16(r.AAAA))
		}
		if err != nil {
			return nil, errMalformed
		}
	}
}

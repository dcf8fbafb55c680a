package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"wayfarer/ike/isakmp"
)

// XAuthTurn is what the gateway says next in XAUTH: a REQUEST, or the verdict.
type XAuthTurn struct {
	// Ask are the attributes of a REQUEST; without any, this is the verdict.
	Ask []isakmp.Attribute
	// Passed lets the client in, as User.
	Passed bool
	User   string
	With   []isakmp.Attribute // beside STATUS
	// SameMID goes on under message ID and chain of the turn before, as the draft
	// has it; else each turn has a message ID of its own, as strongSwan's.
	SameMID bool
}

// xauth is the state of asking for login and password
// (draft-beaulieu-ike-xauth-02 §5):
//
//	                <- REQUEST USER_NAME, USER_PASSWORD
//	REPLY USER_NAME, USER_PASSWORD ->
//	                <- SET STATUS
//	ACK ->
//
// There may be several rounds of REQUEST and REPLY, or none.
type xauth struct {
	round      int
	requestMID uint32 // zero: none is open
	setMID     uint32
	lastMID    uint32 // of the turn before
	statusMID  uint32 // of the last SET, for settings that follow it
	identifier uint16
	passed     bool
}

func (s *sa) newMID() uint32 { return s.gw.randomUint32(1) }

// askCredentials begins XAUTH.
func (s *sa) askCredentials() {
	s.xauth = xauth{identifier: uint16(s.gw.randomUint32(0))}
	s.nextTurn(nil)
}

// nextTurn says what follows a REPLY, or the end of phase 1.
func (s *sa) nextTurn(reply []isakmp.Attribute) {
	script := s.gw.cfg.XAuth
	if script == nil {
		script = s.gw.loginAndPassword
	}
	turn := script(s.xauth.round, reply)
	s.xauth.round++
	if len(turn.Ask) > 0 {
		mid := s.turnMID(turn)
		s.xauth.requestMID = mid
		s.request(s.config(XAuthRequest, mid, isakmp.ConfigRequest, s.xauth.identifier, s.gw.numbered(turn.Ask)),
			func() { s.end("no answer to the XAUTH request") })
		return
	}
	s.xauth.passed = turn.Passed
	if turn.Passed && s.state != ready {
		s.user = turn.User
	}
	s.log.Debug("judged a login", "user", turn.User, "passed", turn.Passed)
	if s.gw.cfg.Quirks.SettingsBeforeStatus && turn.Passed && s.state != ready {
		s.pushSettings(func() { s.setStatus(turn) })
		return
	}
	s.setStatus(turn)
}

func (s *sa) turnMID(turn XAuthTurn) uint32 {
	if !turn.SameMID || s.xauth.lastMID == 0 {
		s.xauth.lastMID = s.newMID()
	}
	return s.xauth.lastMID
}

// setStatus tells the verdict.
func (s *sa) setStatus(turn XAuthTurn) {
	status, identifier := isakmp.XAuthFail, s.xauth.identifier
	if turn.Passed {
		status = isakmp.XAuthOK
	}
	if s.gw.cfg.Quirks.ZeroIdentifier {
		identifier = 0
	}
	as := append([]isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthStatus, status)}, turn.With...)
	if s.gw.cfg.Quirks.SettingsInStatus && turn.Passed {
		as = append(as, s.settings(netip.Addr{})...)
	}
	s.xauth.setMID = s.turnMID(turn)
	s.xauth.statusMID = s.xauth.setMID
	m := s.config(XAuthSet, s.xauth.setMID, isakmp.ConfigSet, identifier, s.gw.numbered(as))
	if !turn.Passed && s.gw.cfg.Quirks.DeleteOnFail {
		s.notify(m)
		s.end("wrong login or password")
		return
	}
	s.request(m, func() { s.end("no answer to the XAUTH SET") })
}

// checkPointOffset is what XAUTH's numbers are more than Check Point's.
const checkPointOffset = isakmp.XAuthType - 13

// numbered gives the attributes of XAUTH the numbers that this gateway has for them.
func (g *Gateway) numbered(as []isakmp.Attribute) []isakmp.Attribute {
	as = slices.Clone(as)
	for i, a := range as {
		if g.cfg.Quirks.CheckPointXAuth && a.Type >= isakmp.XAuthType && a.Type <= isakmp.XAuthAnswer {
			as[i].Type -= checkPointOffset
		}
	}
	return as
}

// understood reverses numbered.
func (g *Gateway) understood(as []isakmp.Attribute) []isakmp.Attribute {
	as = slices.Clone(as)
	for i, a := range as {
		if plain := a.Type + checkPointOffset; g.cfg.Quirks.CheckPointXAuth && plain >= isakmp.XAuthType && plain <= isakmp.XAuthAnswer {
			as[i].Type = plain
		}
	}
	return as
}

// config makes a Transaction message.
func (s *sa) config(step Step, mid uint32, typ isakmp.ConfigType, identifier uint16, as []isakmp.Attribute) *Message {
	body := isakmp.Config{Type: typ, Identifier: identifier, Attributes: as}.Append(nil)
	for s.gw.cfg.Quirks.PadAttributes && len(body)%4 != 0 {
		body = append(body, 0)
	}
	m := &Message{Step: step, Header: s.header(isakmp.Transaction, mid, true)}
	m.Add(isakmp.PayloadAttribute, body)
	return m
}

// transaction handles XAUTH and Mode-Config (draft-dukes-ike-mode-cfg-02 §3.1):
// HASH and one ATTR.
func (s *sa) transaction(r *received) error {
	mid := r.header.MessageID
	if !hmac.Equal(r.hash, s.suite.hash.hash.phase2Hash(s.keys.skeyidA, mid, nil, r.rest)) {
		return errHash
	}
	bodies, err := need(r.payloads, isakmp.PayloadAttribute)
	if err != nil {
		return err
	}
	c, err := isakmp.ParseConfig(bodies[0])
	if err != nil {
		return err
	}
	switch {
	case c.Type == isakmp.ConfigReply && mid == s.xauth.requestMID && s.done(mid):
		r.accept(XAuthReply)
		s.xauth.requestMID = 0
		s.credentials(c)
		return nil
	case c.Type == isakmp.ConfigAck && mid == s.xauth.setMID && s.done(mid):
		r.accept(XAuthAck)
		s.xauth.setMID = 0
		s.judged()
		return nil
	case c.Type == isakmp.ConfigRequest && s.state == ready && (s.renewal || s.deaf < s.gw.cfg.Quirks.DeafToRequests):
		s.deaf++
		return errors.New("not heard")
	case c.Type == isakmp.ConfigRequest && s.state == ready:
		r.accept(ConfigRequest)
		s.answerSettings(mid, c)
		return nil
	case c.Type == isakmp.ConfigAck && mid == s.pushMID && s.done(mid):
		r.accept(ConfigAck)
		s.pushMID = 0
		s.pushed()
		return nil
	}
	return fmt.Errorf("unexpected %v", c.Type)
}

// credentials takes the client's REPLY. The identifier is not looked at: strongSwan
// always sends 0, and the M-ID says what is answered.
func (s *sa) credentials(c isakmp.Config) {
	c.Attributes = s.gw.understood(c.Attributes)
	if status, ok := isakmp.Find(c.Attributes, isakmp.XAuthStatus); ok {
		if v, _ := status.Uint(); v == uint64(isakmp.XAuthFail) {
			s.end("the client gave up") // §6 of the draft
			return
		}
	}
	s.nextTurn(c.Attributes)
}

// loginAndPassword is XAUTH in one round, by Config.Users.
func (g *Gateway) loginAndPassword(round int, reply []isakmp.Attribute) XAuthTurn {
	if round == 0 {
		ask := []isakmp.Attribute{{Type: isakmp.XAuthUserName}, {Type: isakmp.XAuthPassword}}
		if g.cfg.Quirks.XAuthType {
			ask = append([]isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthType, 0)}, ask...)
		}
		return XAuthTurn{Ask: ask}
	}
	user, _ := isakmp.Find(reply, isakmp.XAuthUserName)
	password, _ := isakmp.Find(reply, isakmp.XAuthPassword)
	return XAuthTurn{User: string(user.Value), Passed: g.passwordRight(string(user.Value), password.Value)}
}

// passwordRight compares hashes, so that the time tells neither length nor content.
func (g *Gateway) passwordRight(user string, password []byte) bool {
	right, known := g.cfg.Users[user]
	a, b := sha256.Sum256([]byte(right)), sha256.Sum256(password)
	return hmac.Equal(a[:], b[:]) && known
}

// judged goes on after the client has acknowledged the STATUS.
func (s *sa) judged() {
	if !s.xauth.passed {
		s.end("wrong login or password")
		return
	}
	if s.state != ready {
		s.established()
	}
}

package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"wayfarer/ike/isakmp"
)

// xauth is the state of asking for login and password
// (draft-beaulieu-ike-xauth-02 §5):
//
//	                <- REQUEST USER_NAME, USER_PASSWORD
//	REPLY USER_NAME, USER_PASSWORD ->
//	                <- SET STATUS
//	ACK ->
//
// As strongSwan's, each message of the gateway has a M-ID of its own.
type xauth struct {
	requestMID uint32 // zero: none is open
	setMID     uint32
	identifier uint16
	passed     bool
}

func (s *sa) newMID() uint32 { return s.gw.randomUint32(1) }

func (s *sa) askCredentials() {
	s.xauth.requestMID = s.newMID()
	s.xauth.identifier = uint16(s.gw.randomUint32(0))
	m := &Message{Step: XAuthRequest, Header: s.header(isakmp.Transaction, s.xauth.requestMID, true)}
	m.Add(isakmp.PayloadAttribute, isakmp.Config{Type: isakmp.ConfigRequest, Identifier: s.xauth.identifier, Attributes: []isakmp.Attribute{
		{Type: isakmp.XAuthUserName}, {Type: isakmp.XAuthPassword},
	}}.Append(nil))
	s.request(m, func() { s.end("no answer to the XAUTH request") })
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
		s.credentials(c)
		return nil
	case c.Type == isakmp.ConfigAck && mid == s.xauth.setMID && s.done(mid):
		r.accept(XAuthAck)
		s.judged()
		return nil
	case c.Type == isakmp.ConfigRequest && s.state == ready:
		r.accept(ConfigRequest)
		s.answerSettings(mid, c)
		return nil
	case c.Type == isakmp.ConfigAck && mid == s.pushMID && s.done(mid):
		r.accept(ConfigAck)
		return nil
	}
	return fmt.Errorf("unexpected %v", c.Type)
}

// credentials judges the client's REPLY and tells it by SET. The identifier is not
// looked at: strongSwan always sends 0, and the M-ID says what is answered.
func (s *sa) credentials(c isakmp.Config) {
	if status, ok := isakmp.Find(c.Attributes, isakmp.XAuthStatus); ok {
		if v, _ := status.Uint(); v == uint64(isakmp.XAuthFail) {
			s.end("the client gave up") // §6 of the draft
			return
		}
	}
	user, _ := isakmp.Find(c.Attributes, isakmp.XAuthUserName)
	password, _ := isakmp.Find(c.Attributes, isakmp.XAuthPassword)
	s.user = string(user.Value)
	s.xauth.passed = s.gw.passwordRight(s.user, password.Value)
	s.log.Debug("judged a login", "user", s.user, "passed", s.xauth.passed)

	status := isakmp.XAuthFail
	if s.xauth.passed {
		status = isakmp.XAuthOK
	}
	s.xauth.setMID = s.newMID()
	m := &Message{Step: XAuthSet, Header: s.header(isakmp.Transaction, s.xauth.setMID, true)}
	m.Add(isakmp.PayloadAttribute, isakmp.Config{Type: isakmp.ConfigSet, Identifier: s.xauth.identifier, Attributes: []isakmp.Attribute{
		isakmp.BasicAttribute(isakmp.XAuthStatus, status),
	}}.Append(nil))
	s.request(m, func() { s.end("no answer to the XAUTH SET") })
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
	s.established()
}

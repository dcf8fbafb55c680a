package ike

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"wayfarer/ike/isakmp"
)

const (
	// xauthPatience is how long the gateway may take for its REQUEST and for its
	// verdict. The user's thinking time is not part of it.
	xauthPatience = 30 * time.Second
	// renewalPatience is how long a reauthentication waits for a REQUEST or for
	// settings: some gateways leave them out then.
	renewalPatience = 10 * time.Second
	// maxGatewayText bounds text from a gateway that people are shown, in bytes.
	maxGatewayText = 2 << 10
)

// Values of the TYPE attribute (draft-beaulieu-ike-xauth-02 §6.3).
const (
	xauthGeneric = 0 // login and password
	xauthCHAP    = 1 // RADIUS-CHAP
	xauthOTP     = 2 // one-time password (RFC 2289)
	xauthSKey    = 3 // S/KEY (RFC 1760)
)

var rulesTransaction = []rule{{isakmp.PayloadHash, 1, 1}, {isakmp.PayloadAttribute, 1, 1}}

// parseTransaction reads a Transaction message, whose HASH has been verified: HASH,
// then one Attribute payload, nothing else.
func (sa *isakmpSA) parseTransaction(m *message) (isakmp.Config, error) {
	if err := checkRules(m, true, rulesTransaction); err != nil {
		return isakmp.Config{}, err
	}
	c, err := isakmp.ParseConfig(m.body(isakmp.PayloadAttribute))
	if err == nil {
		sa.fromCheckPoint(&c)
	}
	return c, err
}

// xauth lets the gateway ask for login and password
// (draft-beaulieu-ike-xauth-02 §5, §6):
//
//	<-  HDR*, HASH, ATTR(REQUEST: TYPE, USER_NAME, USER_PASSWORD)   any number
//	->  HDR*, HASH, ATTR(REPLY)                                      of rounds
//	<-  HDR*, HASH, ATTR(SET: STATUS)
//	->  HDR*, HASH, ATTR(ACK: STATUS)
//
// The gateway starts; anything that we sent first would be dropped or kill the SA.
// Rounds may come with new message IDs (strongSwan) or within one.
func (sa *isakmpSA) xauth(ctx context.Context) error {
	sa.enter(StepSignIn)
	patience := xauthPatience
	if !sa.s.dialing() {
		patience = renewalPatience
	}
	for {
		var c isakmp.Config
		m, err := sa.await(ctx, patience, func(m *message) (err error) {
			if m.Exchange != isakmp.Transaction {
				return errNotMine
			}
			c, err = sa.parseTransaction(m)
			return err
		})
		var silent *NoAnswerError
		if errors.As(err, &silent) && !sa.s.dialing() && sa.xauthReplies == 0 {
			sa.log.Info("the gateway does not ask for the login again")
			return nil
		}
		if err != nil {
			return sa.signInError(err)
		}
		status, hasStatus := isakmp.Find(c.Attributes, isakmp.XAuthStatus)
		switch {
		case c.Type == isakmp.ConfigRequest && isXAuth(c.Attributes):
			if err := sa.answerXAuth(ctx, m, c); err != nil {
				return err
			}
			patience = xauthPatience
		case c.Type == isakmp.ConfigSet && hasStatus:
			sa.takeSet(m, c) // Shrew's gateway puts all settings into the same SET
			return sa.verdict(status, c)
		case c.Type == isakmp.ConfigSet:
			sa.takeSet(m, c) // Juniper sends its settings before the verdict
		default:
			sa.log.Debug("ignored a Transaction", "type", c.Type)
		}
	}
}

// verdict reads STATUS. An OK that nobody asked for means that the gateway knows us
// already, which it can only on a reauthentication, or when the profile has no login.
func (sa *isakmpSA) verdict(status isakmp.Attribute, c isakmp.Config) error {
	if v, ok := status.Uint(); !ok || v != uint64(isakmp.XAuthOK) {
		return &CredentialsError{Step: sa.step, Message: gatewayMessage(c.Attributes)}
	}
	if sa.xauthReplies == 0 && sa.s.dialing() && sa.s.cfg.Login != "" {
		return &ProtocolError{Step: sa.step, Detail: "it let us in without asking for the login"}
	}
	if !sa.signingIn { // else whoever asks the user owns passwordSent
		sa.passwordSent, sa.xauthReplies = false, 0 // should it ask again one day
	}
	return nil
}

// signInError tells a gateway that hangs up after our answer from one that went
// away.
func (sa *isakmpSA) signInError(err error) error {
	var closed *ClosedByGatewayError
	var refused *RefusedError
	if sa.xauthReplies > 0 && (errors.As(err, &closed) || errors.As(err, &refused)) {
		return &CredentialsError{Step: sa.step}
	}
	return err
}

func isXAuth(as []isakmp.Attribute) bool { return slices.ContainsFunc(as, isXAuthAttribute) }

func isXAuthAttribute(a isakmp.Attribute) bool {
	return a.Type >= isakmp.XAuthType && a.Type <= isakmp.XAuthAnswer
}

// answerXAuth answers one REQUEST.
func (sa *isakmpSA) answerXAuth(ctx context.Context, m *message, request isakmp.Config) error {
	values, err := sa.credentials(ctx, request)
	if errors.Is(err, errTooLate) {
		return err // there is nobody to reply to
	}
	return sa.replyXAuth(m, request, values, err)
}

// replyXAuth sends the answer, or tells the gateway that there will be none
// (draft-beaulieu-ike-xauth-02 §6). The values are zeroised.
func (sa *isakmpSA) replyXAuth(m *message, request isakmp.Config, values []isakmp.Attribute, failed error) error {
	reply := isakmp.Config{Type: isakmp.ConfigReply, Identifier: request.Identifier, Attributes: values}
	if failed != nil {
		reply.Attributes = []isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthStatus, isakmp.XAuthFail)}
	} else {
		sa.xauthReplies++
		if sa.s.dialing() {
			sa.s.loginSent = true
		}
	}
	sa.toCheckPoint(reply.Attributes)
	sa.reply(m, sa.sealConfig(m.MessageID, reply))
	for _, a := range values {
		if !a.Basic {
			clear(a.Value)
		}
	}
	return failed
}

// credentials collects what a REQUEST asks for: what is known is given without
// asking, anything else the user is asked. TYPE is repeated if it was there.
func (sa *isakmpSA) credentials(ctx context.Context, request isakmp.Config) ([]isakmp.Attribute, error) {
	q := question{text: gatewayMessage(request.Attributes)}
	_, q.domain = isakmp.Find(request.Attributes, isakmp.XAuthDomain)
	if a, ok := isakmp.Find(request.Attributes, isakmp.XAuthType); ok {
		q.typ, _ = a.Uint()
	}
	if a, ok := isakmp.Find(request.Attributes, isakmp.XAuthChallenge); ok {
		q.challenge = a.Value
	}
	if q.typ > xauthSKey {
		return nil, &ProtocolError{Step: sa.step, Detail: fmt.Sprintf("it asks for a kind of sign-in that nobody has described (XAUTH type %d)", q.typ)}
	}
	var values []isakmp.Attribute
	for _, a := range request.Attributes {
		switch a.Type {
		case isakmp.XAuthType:
			values = append(values, a)
		case isakmp.XAuthMessage, isakmp.XAuthChallenge, isakmp.XAuthStatus:
			// for the user
		default:
			if !isXAuthAttribute(a) {
				continue // Cisco has some of its own
			}
			value, err := sa.credential(ctx, a.Type, &q)
			if err != nil {
				return values, err
			}
			values = append(values, isakmp.Attribute{Type: a.Type, Value: value})
		}
	}
	return values, nil
}

// question is what a REQUEST says beside the fields that it wants.
type question struct {
	typ       uint64
	text      string // MESSAGE and CHALLENGE, for people
	challenge []byte
	domain    bool // DOMAIN is wanted in a field of its own
}

// credential returns a copy of what the gateway asks for. A password is sent once
// without asking; when the gateway asks for it again, or on a reauthentication in other
// words, it did not like it, or means another.
func (sa *isakmpSA) credential(ctx context.Context, typ uint16, q *question) (Secret, error) {
	domain, user, qualified := strings.Cut(sa.s.cfg.Login, `\`)
	oneTime := q.typ == xauthOTP || q.typ == xauthSKey
	switch typ {
	case isakmp.XAuthUserName:
		if q.domain && qualified {
			return sa.text(Secret(user)), nil
		}
		return sa.text(Secret(sa.s.cfg.Login)), nil
	case isakmp.XAuthDomain:
		if qualified {
			return Secret(domain), nil
		}
		return Secret{}, nil
	case isakmp.XAuthPassword:
		known, changed := sa.s.knownPassword(q.text)
		other := sa.passwordSent || changed
		if known != nil && !other && !oneTime {
			sa.passwordSent = true
			sa.s.cfg.Words.keep(sa.s.host, q.text)
			return sa.chap(q, sa.text(known))
		}
		known.Zero()
		if other && sa.s.cfg.Prompt == nil {
			return nil, &CredentialsError{Step: sa.step, Message: q.text}
		}
		answer, err := sa.ask(ctx, passwordPrompt(q, oneTime, other))
		if err != nil {
			return nil, err
		}
		if !other && !oneTime { // else it may be good for this once only
			sa.s.keepPassword(answer, q.text)
		}
		sa.passwordSent = true
		return sa.chap(q, sa.text(answer))
	case isakmp.XAuthPasscode:
		return sa.ask(ctx, Prompt{Kind: PromptOTP, Text: q.text, Secret: true})
	case isakmp.XAuthNextPIN:
		return sa.ask(ctx, Prompt{Kind: PromptNextPIN, Text: q.text, Secret: true})
	}
	return sa.ask(ctx, Prompt{Kind: PromptChallenge, Text: q.text}) // ANSWER, the last of them
}

// passwordPrompt says how a password is asked for: a one-time password in its own
// field, the answer to a challenge with the gateway's words.
func passwordPrompt(q *question, oneTime, other bool) Prompt {
	p := Prompt{Kind: PromptPassword, Text: q.text, Secret: true}
	switch {
	case oneTime:
		p.Kind = PromptOTP
	case other && q.text != "":
		p.Kind = PromptChallenge
	default:
		p.Once = other
	}
	return p
}

// chap answers a RADIUS-CHAP challenge (draft-beaulieu-ike-xauth-02 §6.3, RFC 2865
// §5.3): id | MD5(id | secret | challenge). A gateway that names the type and sends
// no challenge means a plain password (Adtran). The secret is used up.
func (sa *isakmpSA) chap(q *question, secret Secret) (Secret, error) {
	if q.typ != xauthCHAP || len(q.challenge) == 0 {
		return secret, nil
	}
	defer secret.Zero()
	id := make([]byte, 1)
	if err := sa.random(id); err != nil {
		return nil, err
	}
	input := slices.Concat(id, secret, q.challenge) // append may leave copies
	defer clear(input)
	sum := md5.Sum(input)
	return slices.Concat(id, sum[:]), nil
}

// signInAgain answers a REQUEST that comes while the session is up: a gateway may
// ask again at any time (draft-beaulieu-ike-xauth-02 §5). The user may take long, so
// the control loop goes on meanwhile and sends the answer when it is there.
func (sa *isakmpSA) signInAgain(m *message, request isakmp.Config) {
	if sa.signingIn {
		return // a gateway that asks twice at once gets one answer
	}
	sa.signingIn, sa.step = true, StepSignIn
	sa.log.Info("the gateway asks for the login again")
	sa.s.asking.Add(1)
	go func() {
		defer sa.s.asking.Done()
		values, err := sa.credentials(sa.s.ctx, request)
		sa.s.do(func() error {
			sa.signingIn = false
			if sa != sa.s.sa {
				return nil // it was replaced meanwhile
			}
			return sa.replyXAuth(m, request, values, err)
		})
	}()
}

// sealConfig makes a Transaction message.
func (sa *isakmpSA) sealConfig(mid uint32, c isakmp.Config) []byte {
	body := c.Append(nil)
	defer clear(body)
	return sa.sealHashed(isakmp.Transaction, mid, isakmp.Payload{Type: isakmp.PayloadAttribute, Body: body})
}

// gatewayMessage joins MESSAGE and CHALLENGE for people. A challenge of RADIUS-CHAP
// is not for them.
func gatewayMessage(as []isakmp.Attribute) string {
	var parts []string
	typ, _ := isakmp.Find(as, isakmp.XAuthType)
	kind, _ := typ.Uint()
	for _, a := range as {
		if a.Type == isakmp.XAuthMessage || a.Type == isakmp.XAuthChallenge && kind != xauthCHAP {
			if s := harmless(bytes.TrimRight(a.Value, "\x00")); s != "" {
				parts = append(parts, s)
			}
		}
	}
	return strings.Join(parts, "\n")
}

// harmless makes text from a gateway fit to be shown: an attacker may have written
// it. Line breaks stay; other control and formatting characters go. What is not
// UTF-8 is read as Latin-1.
func harmless(b []byte) string {
	s := string(b)
	if !utf8.Valid(b) {
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		s = string(r)
	}
	if len(s) > maxGatewayText {
		s = strings.ToValidUTF8(s[:maxGatewayText], "") // the bound may cut a character in two
	}
	s = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		if r == '\t' || r == '\r' {
			return ' '
		}
		return -1
	}, s)
	return strings.TrimSpace(s)
}

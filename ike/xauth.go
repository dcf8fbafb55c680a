package ike

import (
	"context"
	"errors"
	"fmt"
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
	// maxGatewayText bounds text from a gateway that people are shown.
	maxGatewayText = 2 << 10
	xauthGeneric   = 0 // TYPE: login and password (draft-beaulieu-ike-xauth-02 §6.3)
)

var rulesTransaction = []rule{{isakmp.PayloadHash, 1, 1}, {isakmp.PayloadAttribute, 1, 1}}

// parseTransaction reads a Transaction message, whose HASH has been verified: HASH,
// then one Attribute payload, nothing else.
func parseTransaction(m *message) (isakmp.Config, error) {
	if err := checkRules(m, true, rulesTransaction); err != nil {
		return isakmp.Config{}, err
	}
	return isakmp.ParseConfig(m.body(isakmp.PayloadAttribute))
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
func (sa *isakmpSA) xauth(ctx context.Context) error {
	sa.enter(StepSignIn)
	for {
		var c isakmp.Config
		m, err := sa.await(ctx, xauthPatience, func(m *message) (err error) {
			if m.Exchange != isakmp.Transaction {
				return errNotMine
			}
			c, err = parseTransaction(m)
			return err
		})
		if err != nil {
			return sa.signInError(err)
		}
		status, hasStatus := isakmp.Find(c.Attributes, isakmp.XAuthStatus)
		switch {
		case c.Type == isakmp.ConfigRequest && isXAuth(c.Attributes):
			if err := sa.answerXAuth(ctx, m, c); err != nil {
				return err
			}
		case c.Type == isakmp.ConfigSet && hasStatus:
			sa.takeSet(m, c) // Shrew's gateway puts all settings into the same SET
			if v, ok := status.Uint(); !ok || v != uint64(isakmp.XAuthOK) {
				return &CredentialsError{Step: sa.step, Message: gatewayMessage(c.Attributes)}
			}
			return nil
		case c.Type == isakmp.ConfigSet:
			sa.takeSet(m, c) // Juniper sends its settings before the verdict
		default:
			sa.log.Debug("ignored a Transaction", "type", c.Type)
		}
	}
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

func isXAuth(as []isakmp.Attribute) bool {
	for _, a := range as {
		if a.Type >= isakmp.XAuthType && a.Type <= isakmp.XAuthAnswer {
			return true
		}
	}
	return false
}

// answerXAuth answers one REQUEST: what is known is given without asking, anything
// else the user is asked.
func (sa *isakmpSA) answerXAuth(ctx context.Context, m *message, request isakmp.Config) error {
	reply := isakmp.Config{Type: isakmp.ConfigReply, Identifier: request.Identifier}
	defer func() {
		for _, a := range reply.Attributes {
			if !a.Basic {
				clear(a.Value)
			}
		}
	}()
	text := gatewayMessage(request.Attributes)
	for _, a := range request.Attributes {
		switch a.Type {
		case isakmp.XAuthType:
			v, ok := a.Uint()
			if !ok || v != xauthGeneric {
				sa.cancelXAuth(m, request)
				return &ProtocolError{Step: sa.step, Detail: fmt.Sprintf("it asks for a kind of sign-in that is not supported (XAUTH type %d)", v)}
			}
			reply.Attributes = append(reply.Attributes, a)
		case isakmp.XAuthMessage, isakmp.XAuthChallenge:
			// shown to the user
		default:
			value, err := sa.credential(ctx, a.Type, text)
			if err != nil {
				sa.cancelXAuth(m, request)
				return err
			}
			reply.Attributes = append(reply.Attributes, isakmp.Attribute{Type: a.Type, Value: value})
		}
	}
	sa.xauthReplies++
	sa.reply(m, sa.sealConfig(m.MessageID, reply))
	return nil
}

// prompts says how to ask for an attribute that is not known beforehand.
var prompts = map[uint16]PromptKind{
	isakmp.XAuthPassword: PromptPassword,
	isakmp.XAuthPasscode: PromptOTP,
	isakmp.XAuthNextPIN:  PromptNextPIN,
	isakmp.XAuthAnswer:   PromptChallenge,
}

// credential returns a copy of what the gateway asks for. A password is sent once
// per ISAKMP SA without asking; when the gateway asks for it again, it did not like
// it, or means another.
func (sa *isakmpSA) credential(ctx context.Context, typ uint16, text string) (Secret, error) {
	switch {
	case typ == isakmp.XAuthUserName:
		return Secret(sa.s.cfg.Login), nil
	case typ == isakmp.XAuthDomain:
		return Secret{}, nil
	case typ == isakmp.XAuthPassword && sa.s.password != nil && !sa.passwordSent:
		sa.passwordSent = true
		return sa.s.password.Clone(), nil
	}
	kind, ok := prompts[typ]
	if !ok {
		return nil, &ProtocolError{Step: sa.step, Detail: fmt.Sprintf("it asks for attribute %d in XAUTH", typ)}
	}
	if typ == isakmp.XAuthPassword && sa.passwordSent {
		kind = PromptChallenge
	}
	if sa.s.cfg.Prompt == nil {
		if sa.xauthReplies > 0 {
			return nil, &CredentialsError{Step: sa.step, Message: text}
		}
		return nil, ErrNobodyToAsk
	}
	answer, err := sa.s.cfg.Prompt(ctx, Prompt{Kind: kind, Text: text, Secret: kind != PromptChallenge || typ == isakmp.XAuthPassword})
	if err != nil {
		return nil, err
	}
	if typ == isakmp.XAuthPassword && !sa.passwordSent {
		sa.passwordSent = true
		sa.s.password = answer.Text.Clone() // for reauthentication
	}
	return answer.Text, nil
}

// ErrNobodyToAsk: the gateway asked something and Config.Prompt is nil.
var ErrNobodyToAsk = errors.New("the gateway asks a question and nobody is there to answer")

// cancelXAuth tells the gateway that there will be no answer
// (draft-beaulieu-ike-xauth-02 §6).
func (sa *isakmpSA) cancelXAuth(m *message, request isakmp.Config) {
	sa.reply(m, sa.sealConfig(m.MessageID, isakmp.Config{
		Type: isakmp.ConfigReply, Identifier: request.Identifier,
		Attributes: []isakmp.Attribute{isakmp.BasicAttribute(isakmp.XAuthStatus, isakmp.XAuthFail)},
	}))
}

// sealConfig makes a Transaction message.
func (sa *isakmpSA) sealConfig(mid uint32, c isakmp.Config) []byte {
	body := c.Append(nil)
	defer clear(body)
	return sa.sealHashed(isakmp.Transaction, mid, isakmp.Payload{Type: isakmp.PayloadAttribute, Body: body})
}

// gatewayMessage joins MESSAGE and CHALLENGE for people.
func gatewayMessage(as []isakmp.Attribute) string {
	var parts []string
	for _, a := range as {
		if a.Type == isakmp.XAuthMessage || a.Type == isakmp.XAuthChallenge {
			if s := harmless(a.Value); s != "" {
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
	b = b[:min(len(b), maxGatewayText)]
	for cut := 0; cut < utf8.UTFMax && len(b) == maxGatewayText && !utf8.Valid(b); cut++ {
		b = b[:len(b)-1] // the bound may have cut a character in two
	}
	s := string(b)
	if !utf8.ValidString(s) {
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		s = string(r)
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

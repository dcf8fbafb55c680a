package ike

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"wayfarer/ike/isakmp"
)

var (
	rulesMM2 = []rule{{isakmp.PayloadSA, 1, 1}}
	rulesMM4 = []rule{
		{isakmp.PayloadKE, 1, 1},
		{isakmp.PayloadNonce, 1, 1},
		{isakmp.PayloadCertReq, 0, 16},
		{isakmp.PayloadNATD, 0, 8},
		{isakmp.PayloadNATDDraft, 0, 8},
		{isakmp.PayloadNATDDraft4, 0, 8},
	}
	rulesMM6 = []rule{
		{isakmp.PayloadID, 1, 1},
		{isakmp.PayloadCert, 0, maxCertPayloads},
		{isakmp.PayloadSig, 0, 1},
		{isakmp.PayloadHash, 0, 1},
		{isakmp.PayloadCertReq, 0, 16},
	}
)

// maxCertPayloads bounds certificates and revocation lists in one message.
const maxCertPayloads = 16

// mainMode is Main Mode (RFC 2409 §5.1 and §5.4,
// draft-ietf-ipsec-isakmp-hybrid-auth-05 §5, RFC 3947 §3 and §4), here with hybrid
// authentication; a client certificate puts CERT and SIG_I in the place of HASH_I,
// a shared secret HASH_R in the place of SIG_R:
//
//	MM1 ->  HDR, SA, VIDs
//	MM2 <-  HDR, SA, VIDs
//	MM3 ->  HDR, KE, Ni, NAT-D, NAT-D
//	MM4 <-  HDR, KE, Nr, [CERTREQ,] NAT-D, NAT-D
//	MM5 ->  HDR*, IDii, HASH_I, CERTREQ [, CERT] [, N(INITIAL-CONTACT)]
//	MM6 <-  HDR*, IDir, CERT, SIG_R
func (sa *isakmpSA) mainMode(ctx context.Context) error {
	saiB, err := sa.agree(ctx, sa.s.ikeSuites)
	if err != nil {
		return err
	}

	sa.enter(StepAgreeSecurity)
	kx, err := sa.s.keyExchange(sa.suite.group)
	if err != nil {
		return err
	}
	ni := make([]byte, nonceLen)
	if err := sa.random(ni); err != nil {
		return err
	}
	mm3 := sa.clear(isakmp.MainMode, append([]isakmp.Payload{
		{Type: isakmp.PayloadKE, Body: kx.public()},
		{Type: isakmp.PayloadNonce, Body: ni},
	}, sa.natdPayloads()...)...)
	mm4, err := sa.roundTrip(ctx, mm3, func(m *message) error { return sa.acceptMM4(m, kx, ni) })
	if err != nil {
		return err
	}

	sa.enter(StepCheckCertificate)
	sa.float()
	ker := mm4.body(isakmp.PayloadKE)
	idiiB := sa.localID()
	proof, err := sa.proof(sa.hashI(kx.public(), ker, saiB, idiiB))
	if err != nil {
		return err
	}
	mm5 := slices.Concat([]isakmp.Payload{{Type: isakmp.PayloadID, Body: idiiB}}, proof,
		sa.certRequests(), sa.groupHash(), sa.initialContact())
	var refused *message
	_, err = sa.roundTrip(ctx, sa.seal(isakmp.MainMode, 0, mm5...), func(m *message) error {
		if err := sa.checkMM6(m); err != nil {
			return err
		}
		genuine, err := sa.authenticateGateway(m, sa.hashR(kx.public(), ker, saiB, m.body(isakmp.PayloadID)))
		switch {
		case err == nil:
			sa.noteVendors(m)
			sa.noteLifetimes(m)
			return nil
		case genuine:
			refused = m
			return fatalError{err}
		}
		// Encryption alone keeps nobody from altering a message: the gateway's own may
		// follow.
		refused = cmp.Or(refused, m)
		return err
	})
	if err != nil && refused != nil {
		sa.commit(refused) // for the Delete that spares the gateway a half-open SA
	}
	return err
}

// acceptMM4 derives the keys: from here on messages are encrypted.
func (sa *isakmpSA) acceptMM4(m *message, kx keyExchange, ni []byte) error {
	if err := checkRules(m, false, rulesMM4); err != nil {
		return err
	}
	nr := m.body(isakmp.PayloadNonce)
	if err := checkNonce(nr); err != nil {
		return err
	}
	if err := sa.deriveKeys(kx, m.body(isakmp.PayloadKE), ni, nr); err != nil {
		return &ProtocolError{Step: sa.step, Detail: err.Error()}
	}
	sa.noteVendors(m)
	sa.detectNAT(m)
	sa.wantsCert = m.body(isakmp.PayloadCertReq) != nil
	return nil
}

// checkMM6 looks at the form of MM6.
func (sa *isakmpSA) checkMM6(m *message) error {
	if err := checkRules(m, m.Encrypted() || !sa.has(quirkClearAuth), rulesMM6); err != nil {
		return err
	}
	if sa.s.method.psk && m.body(isakmp.PayloadHash) == nil {
		// Not fatal: what another secret decrypts may look like anything.
		return &TrustError{Step: sa.step, Host: sa.s.host, Reason: TrustSecret, Detail: "it sent no HASH"}
	}
	return nil
}

// agree is the first round trip of Main Mode: the gateway chooses a suite. It returns
// SAi_b.
func (sa *isakmpSA) agree(ctx context.Context, offered []IKESuite) (saiB []byte, err error) {
	saiB = sa.saOffer(offered)
	mm1 := sa.clear(isakmp.MainMode, append([]isakmp.Payload{{Type: isakmp.PayloadSA, Body: saiB}}, sa.vendors()...)...)
	_, err = sa.roundTrip(ctx, mm1, func(m *message) error {
		if err := checkRules(m, false, rulesMM2); err != nil {
			return err
		}
		if m.CKYR.IsZero() {
			return errors.New("no responder cookie")
		}
		if err := sa.selectSuite(m.body(isakmp.PayloadSA), offered); err != nil {
			return &ProtocolError{Step: StepAgreeSecurity, Detail: err.Error()}
		}
		sa.ckyR = m.CKYR
		sa.noteVendors(m)
		return nil
	})
	return saiB, err
}

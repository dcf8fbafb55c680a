package ike

import (
	"context"
	"errors"
	"slices"

	"wayfarer/ike/isakmp"
)

var rulesAM2 = []rule{
	{isakmp.PayloadSA, 1, 1},
	{isakmp.PayloadKE, 1, 1},
	{isakmp.PayloadNonce, 1, 1},
	{isakmp.PayloadID, 1, 1},
	{isakmp.PayloadCert, 0, maxCertPayloads},
	{isakmp.PayloadCertReq, 0, 16},
	{isakmp.PayloadSig, 0, 1},
	{isakmp.PayloadHash, 0, 1},
	{isakmp.PayloadNATD, 0, 8},
	{isakmp.PayloadNATDDraft, 0, 8},
	{isakmp.PayloadNATDDraft4, 0, 8},
}

// aggressiveMode is Aggressive Mode (RFC 2409 §5.1 and §5.4,
// draft-ietf-ipsec-isakmp-hybrid-auth-05 §5, RFC 3947 §3 and §4), here with hybrid
// authentication; other methods differ as in Main Mode:
//
//	AM1 ->  HDR, SA, KE, Ni, IDii, CERTREQ, VIDs
//	AM2 <-  HDR, SA, KE, Nr, IDir, CERT, VIDs, NAT-D, NAT-D, SIG_R
//	AM3 ->  HDR*, HASH_I, NAT-D, NAT-D [, CERT] [, N(INITIAL-CONTACT)]
//
// The KE of the first message fixes the group, so only the suites of one group are
// offered at a time.
func (sa *isakmpSA) aggressiveMode(ctx context.Context) error {
	offered := sameGroup(sa.s.ikeSuites, sa.s.aggressiveGroup)
	kx, err := sa.s.keyExchange(sa.s.aggressiveGroup)
	if err != nil {
		return err
	}
	ni := make([]byte, nonceLen)
	if err := sa.random(ni); err != nil {
		return err
	}
	saiB, idiiB := sa.saOffer(offered), sa.localID()
	ps := []isakmp.Payload{
		{Type: isakmp.PayloadSA, Body: saiB},
		{Type: isakmp.PayloadKE, Body: kx.public()},
		{Type: isakmp.PayloadNonce, Body: ni},
		{Type: isakmp.PayloadID, Body: idiiB},
	}
	ps = append(append(ps, sa.certRequests()...), sa.vendors()...)
	am2, err := sa.roundTrip(ctx, sa.clear(isakmp.AggressiveMode, ps...), func(m *message) error {
		return sa.acceptAM2(m, offered, kx, ni, saiB)
	})
	if err != nil {
		return err
	}

	sa.float()
	proof, err := sa.proof(sa.hashI(kx.public(), am2.body(isakmp.PayloadKE), saiB, idiiB))
	if err != nil {
		return err
	}
	am3 := slices.Concat(proof, sa.natdPayloads(), sa.groupHash(), sa.initialContact())
	sa.reply(am2, sa.seal(isakmp.AggressiveMode, 0, am3...))
	return nil
}

// acceptAM2 verifies all of AM2 before anything of it is believed. It came in the
// clear, so that a bad one may be anybody's, even with a proof that is right: it is
// not fatal, the gateway's own may follow.
func (sa *isakmpSA) acceptAM2(m *message, offered []IKESuite, kx keyExchange, ni, saiB []byte) error {
	if err := checkRules(m, false, rulesAM2); err != nil {
		return err
	}
	if m.CKYR.IsZero() {
		return errors.New("no responder cookie")
	}
	if err := checkNonce(m.body(isakmp.PayloadNonce)); err != nil {
		return err
	}
	if err := sa.selectSuite(m.body(isakmp.PayloadSA), offered); err != nil {
		return &ProtocolError{Step: StepAgreeSecurity, Detail: err.Error()}
	}
	sa.enter(StepAgreeSecurity)
	sa.enter(StepCheckCertificate)
	sa.ckyR = m.CKYR
	ker := m.body(isakmp.PayloadKE)
	err := sa.deriveKeys(kx, ker, ni, m.body(isakmp.PayloadNonce))
	if err == nil {
		_, err = sa.authenticateGateway(m, sa.hashR(kx.public(), ker, saiB, m.body(isakmp.PayloadID)))
	} else {
		err = &ProtocolError{Step: sa.step, Detail: err.Error()}
	}
	if err != nil {
		sa.keys.zero()
		sa.ckyR, sa.keys, sa.phase1IV = isakmp.Cookie{}, nil, nil
		return err
	}
	sa.noteVendors(m)
	sa.chooseNATT()
	sa.detectNAT(m)
	sa.wantsCert = m.body(isakmp.PayloadCertReq) != nil
	return nil
}

// sameGroup lists the suites of a group, in their order.
func sameGroup(suites []IKESuite, g *group) []IKESuite {
	return slices.DeleteFunc(slices.Clone(suites), func(s IKESuite) bool { return s.group != g })
}

// groupsOf lists the groups of suites, in the order of their first.
func groupsOf(suites []IKESuite) []*group {
	var gs []*group
	for _, s := range suites {
		if !slices.Contains(gs, s.group) {
			gs = append(gs, s.group)
		}
	}
	return gs
}

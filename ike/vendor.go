package ike

import (
	"bytes"
	"encoding/hex"
	"slices"

	"wayfarer/ike/isakmp"
)

// capability is something a vendor ID announces.
type capability uint16

const (
	capXAUTH capability = 1 << iota
	capUnity
	capDPD
	capFragmentation
	capNATT       // RFC 3947
	capNATTDraft3 // draft-ietf-ipsec-nat-t-ike-03
	capNATTDraft2 //
	capNATTDraft1 //
	capNATTDraft0 //

	capNATTAny = capNATT | capNATTDraft3 | capNATTDraft2 | capNATTDraft1 | capNATTDraft0
)

// vendorID is a row of the table of vendor IDs. There is none for hybrid
// authentication: the authentication method is the signal.
type vendorID struct {
	name   string
	id     []byte
	prefix bool // what follows id is a version
	caps   capability
	send   []byte // nil: not sent; in the table's order
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a mistake in a table of this package
	}
	return b
}

// vendorIDs: XAUTH (draft-beaulieu-ike-xauth-02 §4), DPD (RFC 3706 §5.1), NAT-T
// (RFC 3947 §3.1 and its drafts), Unity and FRAGMENTATION (undocumented: md5 of
// the word, then version or capabilities; Netgear does so for DPD too), others seen
// from running gateways.
var vendorIDs = []vendorID{
	vid("NAT-T (RFC 3947)", "4a131c81070358455c5728f20e95452f", "", capNATT),
	vid("draft-ietf-ipsec-nat-t-ike-03", "7d9419a65310ca6f2c179d9215529d56", "", capNATTDraft3),
	vid("draft-ietf-ipsec-nat-t-ike-02\\n", "90cb80913ebb696e086381b5ec427b1f", "", capNATTDraft2),
	vid("draft-ietf-ipsec-nat-t-ike-02", "cd60464335df21f87cfdb2fc68b6a448", "", capNATTDraft2),
	vid("draft-ietf-ipsec-nat-t-ike-01", "16f6ca16e4a4066d83821a0f0aeaa862", "", capNATTDraft1),
	vid("draft-ietf-ipsec-nat-t-ike-00", "4485152d18b6bbcd0be8a8469579ddcc", "", capNATTDraft0),
	vid("XAUTH", "09002689dfd6b712", "", capXAUTH),
	vid("Cisco Unity", "12f5f28c457168a9702d9fe274cc", "0100", capUnity),
	vid("DPD", "afcad71368a1f1c96b8696fc7757", "0100", capDPD),
	{name: "DPD (Netgear)", id: unhex("3b9031dce4fcf88b489a923963dd0c49"), caps: capDPD},
	vid("FRAGMENTATION", "4048b7d56ebce88525e7de7f00d6c2d3", "80000000", capFragmentation),
	known("strongSwan", "882fe56d6fd20dbc2251613b2ebe5beb"),
	known("KAME/racoon", "7003cbc1097dbe9c2600ba6983bc8b35"),
	known("Libreswan", hex.EncodeToString([]byte("OE-Libreswan-"))),
	known("Cisco VPN 3000", "1f07f70eaa6514d3b0fa96542a50"),
	known("ALTIGA NETWORKS", "f6f7efc7f5aeb8cb158cb9d094ba69e7"),
	known("Microsoft", "1e2b516905991c7d7c96fcbfb587e461"),
	known("FortiGate", "1d6e178f6c2c0be284985465450fe9d4"),
	known("SonicWALL", "5b362bc820f6"),
	known("Check Point", "f4ed19e0c114eb516faaac0ee37daf2807b4381f"),
	known("NAT-T draft-08", "8f8d83826d246b6fc7a8a6a428c11de8"),
}

// vid is a vendor ID that we send and understand; version, if any, follows it on
// the wire and is not compared.
func vid(name, id, version string, caps capability) vendorID {
	b := unhex(id)
	return vendorID{name: name, id: b, prefix: version != "", caps: caps, send: append(b[:len(b):len(b)], unhex(version)...)}
}

// known is a vendor ID that tells who the gateway is.
func known(name, id string) vendorID { return vendorID{name: name, id: unhex(id), prefix: true} }

// vendorPayloads are the vendor IDs of the first message, in the order that
// gateways are used to; of NAT traversal, those that the setting asks for.
func vendorPayloads(natt NATT) []isakmp.Payload {
	offered, _ := nattCaps(natt)
	var ps []isakmp.Payload
	for _, v := range vendorIDs {
		if v.send != nil && v.caps&capNATTAny&^offered == 0 {
			ps = append(ps, isakmp.Payload{Type: isakmp.PayloadVendorID, Body: v.send})
		}
	}
	return ps
}

// vendors are the vendor IDs that go to this gateway. Without XAUTH its vendor ID is
// left out: some gateways begin it for whoever shows that.
func (sa *isakmpSA) vendors() []isakmp.Payload {
	var without capability
	if sa.has(quirkNoUnity) {
		without |= capUnity
	}
	if !sa.s.method.xauth {
		without |= capXAUTH
	}
	return slices.DeleteFunc(vendorPayloads(sa.s.cfg.NATT), func(p isakmp.Payload) bool {
		v, _ := identifyVendor(p.Body)
		return v.caps&without != 0
	})
}

// identifyVendor finds a vendor ID's row.
func identifyVendor(body []byte) (vendorID, bool) {
	for _, v := range vendorIDs {
		if bytes.Equal(body, v.id) || v.prefix && bytes.HasPrefix(body, v.id) {
			return v, true
		}
	}
	return vendorID{}, false
}

// noteVendors takes in the vendor IDs of a phase-1 message. Cisco IOS sends DPD's
// late, so every message is looked at.
func (sa *isakmpSA) noteVendors(m *message) {
	for _, p := range m.all(isakmp.PayloadVendorID) {
		v, ok := identifyVendor(p.Body)
		if !ok {
			sa.log.Debug("unknown vendor ID", "id", hex.EncodeToString(p.Body[:min(len(p.Body), 32)]))
			continue
		}
		sa.log.Debug("received vendor ID", "name", v.name)
		sa.caps |= v.caps
		sa.noteVendorQuirks(v.name)
	}
	if sa.state == stateNew && sa.keys == nil {
		sa.chooseNATT()
	}
}

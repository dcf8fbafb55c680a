package ike

import (
	"bytes"
	"crypto/hmac"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"wayfarer/ike/isakmp"
)

// TestRecordedKeys derives the keys of phase 1 from what both sides said in the
// clear and the Diffie-Hellman secret of strongSwan's log, and compares with the
// log.
func TestRecordedKeys(t *testing.T) {
	eachRecording(t, func(t *testing.T, r *recording) {
		k := r.keys
		bs := k.block.BlockSize()
		for label, got := range map[string][]byte{
			"SKEYID": k.skeyid, "SKEYID_d": k.skeyidD, "SKEYID_a": k.skeyidA, "SKEYID_e": k.skeyidE,
			"encryption key Ka": k.cipherKey, "initial IV": initialIV(r.ike, r.gxi, r.gxr, bs),
		} {
			if want := r.theLogged(t, label); !bytes.Equal(got, want) {
				t.Errorf("%s = %x, strongSwan has %x", label, got, want)
			}
		}
		if len(r.gxi) != r.ike.group.size || len(r.gxr) != r.ike.group.size {
			t.Errorf("KE of %d and %d bytes, the group has %d", len(r.gxi), len(r.gxr), r.ike.group.size)
		}

		idii := r.find(t, true, r.phase1(), isakmp.PayloadID).body(isakmp.PayloadID)
		last := r.find(t, false, r.phase1(), isakmp.PayloadID)
		hashI := k.hashI(k.hash, r.gxi, r.gxr, r.ckyI, r.ckyR, r.saiB, idii)
		hashR := k.hashR(k.hash, r.gxi, r.gxr, r.ckyI, r.ckyR, r.saiB, last.body(isakmp.PayloadID))
		if want := r.theLogged(t, "HASH_I"); !bytes.Equal(hashI, want) {
			t.Errorf("HASH_I = %x, strongSwan has %x", hashI, want)
		}
		if want := r.theLogged(t, "HASH_R"); !bytes.Equal(hashR, want) {
			t.Errorf("HASH_R = %x, strongSwan has %x", hashR, want)
		}
		if sig := last.body(isakmp.PayloadSig); sig == nil {
			if !bytes.Equal(last.body(isakmp.PayloadHash), hashR) {
				t.Error("HASH_R is not what the gateway sent")
			}
		} else if err := verifySignature(recordedCertificate(t, last), hashR, sig); err != nil {
			t.Errorf("SIG_R: %v", err)
		}
	})
}

// recordedCertificate is the gateway's own.
func recordedCertificate(t *testing.T, m *recordedMessage) *x509.Certificate {
	t.Helper()
	ders, err := certificates(m.all(isakmp.PayloadCert))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(ders[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// TestRecordedKEYMAT derives the keys of every ESP SA.
func TestRecordedKEYMAT(t *testing.T) {
	want := map[string]int{"rekey-by-gateway": 3, "wrong-password": 0}
	eachRecording(t, func(t *testing.T, r *recording) {
		all := r.quickModes(t)
		n, ok := want[r.name]
		if !ok {
			n = 1
		}
		if len(all) != n {
			t.Errorf("%d Quick Modes, want %d", len(all), n)
		}
		for _, q := range all {
			if (q.kei != nil) != (r.esp.group != nil) || (q.gqm != nil) != (r.esp.group != nil) {
				t.Errorf("%v with KE %v", r.esp, q.kei != nil)
			}
			size := r.esp.transform().KeyMaterialLen()
			ir := r.keys.keymat(q.gqm, isakmp.ProtoESP, binary.BigEndian.Uint32(q.spiR), q.ni, q.nr, size)
			ri := r.keys.keymat(q.gqm, isakmp.ProtoESP, binary.BigEndian.Uint32(q.spiI), q.ni, q.nr, size)
			if !bytes.Equal(ir, q.keyIR) {
				t.Errorf("from initiator to responder: %x, strongSwan has %x", ir, q.keyIR)
			}
			if !bytes.Equal(ri, q.keyRI) {
				t.Errorf("from responder to initiator: %x, strongSwan has %x", ri, q.keyRI)
			}
		}
	})
}

// TestRecordedMessages looks at every encrypted message of both sides: the rules for
// IVs must lead to those of strongSwan's log, the HASH must verify, and encrypting
// what was said must give the recorded bytes again.
func TestRecordedMessages(t *testing.T) {
	eachRecording(t, func(t *testing.T, r *recording) {
		ivs := make(map[uint32][][]byte)
		sender := newRecordedSA()
		sender.keys, sender.ckyI, sender.ckyR = r.keys, r.ckyI, r.ckyR
		sender.phase1IV = initialIV(r.ike, r.gxi, r.gxr, r.keys.block.BlockSize())
		nonces := make(map[uint32][][]byte)
		var encrypted int
		for _, m := range r.messages {
			if !m.Encrypted() {
				continue
			}
			encrypted++
			if len(ivs[m.MessageID]) == 0 && m.MessageID != 0 {
				ivs[m.MessageID] = append(ivs[m.MessageID], m.iv)
			}
			if m.Exchange != isakmp.Informational {
				ivs[m.MessageID] = append(ivs[m.MessageID], m.nextIV)
			}
			if !bytes.HasPrefix(m.padded, m.plain) || !isZero(m.padded[len(m.plain):]) {
				t.Errorf("%v: padding %x", m.message, m.padded[len(m.plain):])
			}
			if want := recordedHash(r.keys, m, nonces); want != nil && !hmac.Equal(m.payloads[0].Body, want) {
				t.Errorf("%v: HASH %x, want %x", m.message, m.payloads[0].Body, want)
			}
			if got := sender.seal(m.Exchange, m.MessageID, m.payloads...); !sameBytes(got, m) {
				t.Errorf("%v, encrypted again:\n got %x\nwant %x", m.message, got, m.raw)
			}
			sender.commit(m.message)
		}
		for mid, got := range ivs {
			want := r.logged(fmt.Sprintf("next IV for MID %d", mid))
			if !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("IVs of %08x: %x, strongSwan has %x", mid, got, want)
			}
		}
		if encrypted < 5 {
			t.Errorf("only %d encrypted messages", encrypted)
		}
	})
}

// sameBytes compares a message of ours with a recorded one. strongSwan adds a whole
// block of padding where the payloads fill the last one already; we do not.
func sameBytes(ours []byte, m *recordedMessage) bool {
	if extra := len(m.padded) - len(m.plain); extra > 0 && extra == len(m.iv) {
		return bytes.Equal(ours[isakmp.HeaderLen:], m.content[:len(m.plain)])
	}
	return bytes.Equal(ours, m.raw)
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// recordedHash is the HASH that a message behind phase 1 must begin with. Nonces
// collects those of Quick Mode by message ID.
func recordedHash(k *phase1Keys, m *recordedMessage, nonces map[uint32][][]byte) []byte {
	seen := nonces[m.MessageID]
	switch {
	case m.MessageID == 0:
		return nil
	case m.Exchange != isakmp.QuickMode:
		return k.hash1(m.MessageID, m.afterHash())
	}
	nonces[m.MessageID] = append(seen, m.body(isakmp.PayloadNonce))
	switch len(seen) {
	case 0:
		return k.hash1(m.MessageID, m.afterHash())
	case 1:
		return k.hash2(m.MessageID, seen[0], m.afterHash())
	}
	return k.hash3(m.MessageID, seen[0], seen[1])
}

// TestRecordedNATD compares with the NAT detection hashes of the log.
func TestRecordedNATD(t *testing.T) {
	eachRecording(t, func(t *testing.T, r *recording) {
		inputs, hashes := r.logged("natd_chunk"), r.logged("natd_hash")
		if len(inputs) == 0 || len(inputs) != len(hashes) {
			t.Fatalf("%d inputs and %d hashes", len(inputs), len(hashes))
		}
		for i, in := range inputs {
			addr := addrPortOfNATD(in)
			if got := natdHash(r.ike.hash.hash, isakmp.Cookie(in[:8]), isakmp.Cookie(in[8:16]), addr); !bytes.Equal(got, hashes[i]) {
				t.Errorf("NAT-D of %v = %x, strongSwan has %x", addr, got, hashes[i])
			}
		}
	})
}

// addrPortOfNATD reads address and port behind the cookies.
func addrPortOfNATD(b []byte) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(b[16 : len(b)-2])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[len(b)-2:]))
}

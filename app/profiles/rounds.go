package profiles

import (
	"encoding/asn1"
	"fmt"
)

const (
	// maxRounds bounds the rounds of key derivation that a PKCS #12 file asks for, of
	// all its parts together: some seconds of work. OpenSSL writes 2,048 a part.
	maxRounds = 10_000_000
	// maxDepth bounds how deep the parts of a file are nested; they need 12.
	maxDepth = 32
)

// checkRounds refuses a file that would keep us busy before its passphrase is known to
// be wrong. What is encrypted cannot be looked into beforehand.
func checkRounds(file []byte) error {
	if n := rounds(file, maxDepth); n > maxRounds {
		return fmt.Errorf("it asks for more than %d rounds of key derivation, which no honest file needs", maxRounds)
	}
	return nil
}

// rounds adds up the iteration counts in DER, up to a little more than maxRounds. All
// that there are stand right behind a salt: in MacData (RFC 7292 §4), in the parameters
// of PKCS #12's own PBE (Appendix C), and in those of PBKDF2 (RFC 8018 Appendix A.2).
func rounds(der []byte, depth int) (total int64) {
	afterSalt := false
	for len(der) > 0 && depth > 0 && total <= maxRounds {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			break // the decoder reads no further either
		}
		der = rest
		universal := v.Class == asn1.ClassUniversal
		octets := universal && v.Tag == asn1.TagOctetString
		switch {
		case universal && v.Tag == asn1.TagInteger && afterSalt:
			var n int64
			if _, err := asn1.Unmarshal(v.FullBytes, &n); err != nil || n > maxRounds {
				n = maxRounds + 1
			}
			total += max(n, 0)
		case v.IsCompound, octets && isSequence(v.Bytes):
			total += rounds(v.Bytes, depth-1)
		}
		afterSalt = octets
	}
	return total
}

// isSequence reports whether an octet string holds DER again, and not by chance.
func isSequence(octets []byte) bool {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(octets, &v)
	return err == nil && len(rest) == 0 && v.IsCompound && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSequence
}

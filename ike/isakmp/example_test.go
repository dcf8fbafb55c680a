package isakmp_test

import (
	"encoding/hex"
	"fmt"

	"wayfarer/ike/isakmp"
)

// A gateway deletes an ESP SA. The body is shown decrypted; its hash and padding
// are left out.
func Example() {
	datagram, _ := hex.DecodeString(
		"47c4a28ccedda7a2" + "db4c65ff28615096" + // CKY-I, CKY-R
			"0c" + "10" + "05" + "01" + // Delete, version 1.0, Informational, encrypted
			"d4c6b73d" + "0000002c" + // M-ID, length
			"00000010" + // generic header: no more payloads, 16 bytes
			"00000001" + "03" + "04" + "0001" + "6e6cfc91") // DOI, ESP, SPI size, one SPI

	h, body, err := isakmp.ParseHeader(datagram)
	if err != nil {
		fmt.Println(err)
		return
	}
	payloads, _, err := isakmp.ParsePayloads(h.NextPayload, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(h.Exchange, h.MessageID, isakmp.Describe(payloads))

	d, err := isakmp.ParseDelete(payloads[0].Body)
	fmt.Printf("%v %x %v\n", d.Protocol, d.SPIs, err)
	// Output:
	// INFORMATIONAL 3569792829 [ D ]
	// ESP [6e6cfc91] <nil>
}

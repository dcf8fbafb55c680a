package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"howett.net/plist"
)

var errPlist = errors.New("the file is damaged: it cannot be read as a property list")

// isPlist tells a property list, in XML or binary.
func isPlist(data []byte) bool {
	head := data[:min(len(data), 1024)]
	return bytes.HasPrefix(data, []byte("bplist0")) || bytes.Contains(head, []byte("<plist")) || bytes.Contains(head, []byte("<!DOCTYPE plist"))
}

// isSigned tells what may be a CMS message.
func isSigned(data []byte) bool { return len(data) > 1 && data[0] == berSequence && data[1] >= 0x80 }

// payload is the part of a profile's payload that we read. Apple's "Configuration
// Profile Reference" has all keys.
type payload struct {
	Type          string `plist:"PayloadType"`
	UUID          string `plist:"PayloadUUID"`
	Name          string `plist:"UserDefinedName"`
	VPNType       string
	IPSec         ipsecPayload
	IPv4          struct{ OverridePrimary int }
	Certificate   []byte `plist:"PayloadContent"` // of a payload with a certificate
	Passphrase    string `plist:"Password"`       // of PKCS #12
	VendorSubtype string `plist:"VPNSubType"`
}

// ipsecPayload is the dictionary IPSec, for what Apple calls Cisco IPSec.
type ipsecPayload struct {
	RemoteAddress          string
	AuthenticationMethod   string // SharedSecret, Certificate
	XAuthName              string
	XAuthPassword          string
	XAuthEnabled           int
	LocalIdentifier        string
	SharedSecret           []byte
	PayloadCertificateUUID string
	PromptForVPNPIN        bool
	OnDemandEnabled        int
}

// laterPayload is a payload that is read when it is its turn: a binary list may name
// one part thousands of times.
type laterPayload struct{ read func(any) error }

// UnmarshalPlist implements plist.Unmarshaler.
func (p *laterPayload) UnmarshalPlist(read func(any) error) error {
	p.read = read
	return nil
}

// importMobileconfig reads a configuration profile of Apple's systems, signed or not.
func importMobileconfig(data []byte) (*Imported, error) {
	im := &Imported{Format: "Apple configuration profile (.mobileconfig)"}
	if isSigned(data) {
		content, err := signedContent(data)
		if err != nil || !isPlist(content) {
			return nil, ErrFormat
		}
		data = content
		im.Remarks = append(im.Remarks, "The file is signed. The signature was not checked: be sure where the file comes from.")
	}
	payloads, more, err := readPayloads(data)
	if err != nil {
		return nil, err
	}
	if more {
		im.Remarks = append(im.Remarks, fmt.Sprintf("Only the first %d parts of the file were looked at.", maxCandidates))
	}
	for i := range payloads {
		p := &payloads[i]
		if p.Type != "com.apple.vpn.managed" {
			continue
		}
		if p.VPNType != "IPSec" {
			im.Remarks = append(im.Remarks, unusable(p))
			continue
		}
		c := &Candidate{}
		if err := fromPayload(c, p, payloads); err != nil {
			return nil, err
		}
		im.Profiles = append(im.Profiles, c)
	}
	return im, nil
}

// unusable says why a VPN of another type cannot be used.
func unusable(p *payload) string {
	name := shown(p.Name)
	switch p.VPNType {
	case "IKEv2":
		return fmt.Sprintf("%q is a VPN with IKEv2, which Wayfarer does not speak yet. It cannot be used.", name)
	case "VPN":
		return fmt.Sprintf("%q is a VPN of another program (%s). It cannot be used.", name, shown(p.VendorSubtype))
	}
	return fmt.Sprintf("%q is a VPN of the type %s, which Wayfarer does not speak. It cannot be used.", name, shown(p.VPNType))
}

// readPayloads reads the payloads of a profile, of which there may be more.
func readPayloads(data []byte) (payloads []payload, more bool, err error) {
	defer func() {
		if recover() != nil { // the library's, on lists that lie about their lengths
			payloads, err = nil, errPlist
		}
	}()
	var root struct {
		PayloadContent []laterPayload
		EncryptedData  []byte `plist:"EncryptedPayloadContent"`
	}
	if _, err := plist.Unmarshal(data, &root); err != nil {
		return nil, false, errPlist
	}
	if len(root.EncryptedData) > 0 {
		return nil, false, errors.New("the file is encrypted for one device; ask for one that is not")
	}
	for i, later := range root.PayloadContent {
		if i == maxCandidates {
			return payloads, true, nil
		}
		var p payload
		if later.read == nil || later.read(&p) != nil {
			p = payload{} // of a kind whose keys have other types
		}
		payloads = append(payloads, p)
	}
	return payloads, false, nil
}

// fromPayload makes a profile of a payload; its certificates are in other ones.
func fromPayload(c *Candidate, vpn *payload, payloads []payload) error {
	p, ipsec := &c.Profile, &vpn.IPSec
	p.Name, p.Gateway, p.Login = field(vpn.Name), field(ipsec.RemoteAddress), field(ipsec.XAuthName)
	if p.Gateway == "" {
		return errNoGateway
	}
	if ipsec.AuthenticationMethod == "Certificate" {
		payloadCertificate(c, ipsec, payloads)
	} else {
		payloadSecret(c, ipsec)
	}
	if p.Auth != "xauth-psk" {
		payloadCAs(c, payloads)
	}
	if ipsec.XAuthPassword != "" {
		c.Password = []byte(ipsec.XAuthPassword)
		c.secret("password", false)
	}
	if ipsec.PromptForVPNPIN {
		c.remark("The system would ask for a PIN at each connection; here the gateway does, if it wants one.")
	}
	if ipsec.OnDemandEnabled != 0 {
		c.remark("\"Connect on demand\" is not taken over: connect yourself, or when the program starts.")
	}
	if vpn.IPv4.OverridePrimary != 0 {
		c.remark("\"Send all traffic\" is up to the gateway here: it says which networks it serves.")
	}
	return nil
}

// payloadSecret reads a group with its secret. Apple marks hybrid authentication by
// the end of the group's name.
func payloadSecret(c *Candidate, ipsec *ipsecPayload) {
	p := &c.Profile
	group, hybrid := strings.CutSuffix(field(ipsec.LocalIdentifier), "[hybrid]")
	p.GroupID = group
	if c.GroupSecret = bytes.Clone(ipsec.SharedSecret); len(c.GroupSecret) > 0 {
		c.secret("group's secret", false)
	}
	if hybrid {
		p.Auth = "hybrid"
		return
	}
	p.Auth = "xauth-psk"
	if group != "" { // Apple's client uses Aggressive Mode then, and Main Mode otherwise
		c.aggressive()
	}
	c.remark("Apple's client also offers 3DES, MD5 and groups below 2048 bits. If the gateway knows nothing better, the failure says what to allow.")
}

// payloadCertificate finds the user's PKCS #12 among the payloads.
func payloadCertificate(c *Candidate, ipsec *ipsecPayload, payloads []payload) {
	c.Profile.Auth = "rsa"
	if ipsec.XAuthEnabled != 0 || ipsec.XAuthName != "" {
		c.Profile.Auth = "xauth-rsa"
	}
	i := slices.IndexFunc(payloads, func(p payload) bool {
		return ipsec.PayloadCertificateUUID != "" && p.UUID == ipsec.PayloadCertificateUUID
	})
	if i < 0 || payloads[i].Type != "com.apple.security.pkcs12" || len(payloads[i].Certificate) == 0 {
		c.remark("Your certificate is not in the file: choose it in the profile, as PKCS #12.")
	} else {
		c.Certificate = bytes.Clone(payloads[i].Certificate)
		if payloads[i].Passphrase != "" {
			c.secret("passphrase of your certificate", false)
			c.remark("That passphrase is not kept: you are asked for it when you connect. It is the value of Password in the file.")
		}
	}
}

// payloadCAs takes over the CAs among the payloads.
func payloadCAs(c *Candidate, payloads []payload) {
	for i := range payloads {
		switch payloads[i].Type {
		case "com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.pem":
			c.addCA(payloads[i].Certificate)
		}
	}
	if len(c.Profile.CA) == 0 {
		c.remark("No CA certificate is in the file: choose the gateway's, or compare its fingerprint when you connect for the first time.")
	}
}

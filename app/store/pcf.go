package store

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"wayfarer/app"
)

// isPCF tells a profile of Cisco's VPN client: an INI file whose section is [main].
func isPCF(text string) bool {
	main := readINI(text)["main"]
	if main == nil {
		return false
	}
	for _, key := range []string{"host", "grouppwd", "enc_grouppwd", "groupname"} {
		if _, ok := main.values[key]; ok {
			return true
		}
		if _, ok := main.values["!"+key]; ok {
			return true
		}
	}
	return false
}

// importPCF reads a profile of Cisco's VPN client, after its administrator guide
// ("Preconfiguring the VPN Client for Remote Users").
func importPCF(text string) (*Imported, error) {
	section, main := readINI(text)["main"], newKeys()
	for _, name := range section.names {
		// An exclamation mark in front makes a key read-only there.
		main.add(strings.TrimPrefix(name, "!"), section.values[strings.ToLower(name)])
	}
	c := &Candidate{}
	p := &c.Profile
	p.Name, p.Gateway, p.Login = field(main.get("Description")), field(main.get("Host")), field(main.get("Username"))
	if p.Gateway == "" {
		return nil, errNoGateway
	}
	if main.on("EnableBackup") {
		for backup := range strings.SplitSeq(main.get("BackupServer"), ",") {
			if backup = field(backup); backup != "" {
				p.Gateway += "," + backup
			}
		}
	}
	pcfAuth(c, main)
	pcfSecrets(c, main)
	pcfTransport(c, main)
	p.LocalNetwork = main.on("EnableLocalLAN")
	c.domain(main.get("NTDomain"))
	main.ignore("SaveUserPassword", "BackupServer", "ForceKeepAlives", "EnableSplitDNS", "SendCertChain", "VerifyCertDN",
		"SDIUseHardwareToken", "DialerDisconnect", "PeerTimeout")
	for _, dialUp := range []string{"EnableISPConnect", "ISPConnectType", "EnableMSLogon", "MSLogonType"} {
		main.ignoreIf(dialUp, "0", "1")
	}
	main.leftover(c)
	return &Imported{Format: "Cisco VPN client (.pcf)", Profiles: []*Candidate{c}}, nil
}

// pcfAuth reads AuthType: 1 is the group's password, 3 a certificate, 5 mutual group
// authentication, for which the gateway has a certificate.
func pcfAuth(c *Candidate, main *keys) {
	p := &c.Profile
	group := field(main.get("GroupName"))
	switch auth := main.get("AuthType"); auth {
	case "3":
		p.Auth = "xauth-rsa"
		name := main.get("CertSubjectName")
		if name == "" {
			name = main.get("CertName")
		}
		c.remark("Your certificate (%s) is not in the file: export it with its key, as PKCS #12, from where the old client keeps it, and choose that file as the certificate.", shown(name))
	case "5":
		p.Auth, p.GroupID = "hybrid", group
		c.remark("The gateway's CA certificate is not in the file: choose it, or compare the gateway's fingerprint when you connect for the first time.")
	default:
		if auth != "" && auth != "1" {
			c.remark("AuthType %s is not known; authentication with the group's password is assumed.", shown(auth))
		}
		p.Auth, p.GroupID = "xauth-psk", group
		c.aggressive()
	}
	main.ignore("CertStore", "CertName", "CertPath", "CertSubjectName", "CertSerialHash")
	if number := main.get("DHGroup"); number != "" {
		if group := c.group(number, "phase 1"); group != "" {
			c.needs(weakIn(group)...)
		}
	} else if p.Auth != "xauth-rsa" {
		c.needs("modp1024") // the client's default
	}
}

// pcfSecrets reads the passwords, which Cisco's client writes in the clear or, once it
// has read the file, obfuscated.
func pcfSecrets(c *Candidate, main *keys) {
	c.ciscoSecret(&c.GroupSecret, "group's password", main.get("GroupPwd"), main.get("enc_GroupPwd"))
	c.ciscoSecret(&c.Password, "password", main.get("UserPassword"), main.get("enc_UserPassword"))
	c.dropUnusedSecret()
}

// ciscoSecret takes a secret that stands in the file in the clear or obfuscated.
func (c *Candidate) ciscoSecret(to *[]byte, what, clearText, obfuscated string) {
	switch {
	case clearText != "":
		*to = []byte(clearText)
		c.secret(what, false)
	case obfuscated != "":
		plain, err := deobfuscate(obfuscated)
		if err != nil {
			c.remark("The %s cannot be read: %v.", what, err)
			return
		}
		*to = plain
		c.secret(what, true)
	}
}

// dropUnusedSecret forgets the group's secret of a method that has none.
func (c *Candidate) dropUnusedSecret() {
	if method, _ := c.Profile.AuthMethod(); method.GroupSecret == app.NotUsed {
		clear(c.GroupSecret)
		c.GroupSecret = nil
	}
}

// pcfTransport reads how packets travel.
func pcfTransport(c *Candidate, main *keys) {
	switch nat := main.get("EnableNat"); {
	case nat == "0":
		c.noNAT()
	case main.get("TunnelingMode") == "1":
		c.remark("IPsec over TCP is not supported: UDP is used, ports 500 and 4500, which the gateway must allow.")
		main.ignore("TcpTunnelingPort")
	}
	main.ignore("TunnelingMode")
	main.ignoreIf("TcpTunnelingPort", "10000") // the default
}

// deobfuscate reads a password of Cisco's client (enc_GroupPwd): a seed of 20 bytes, the
// SHA-1 of what follows, and the password in 3DES-CBC. Key and IV come from the seed,
// so that this hides nothing.
func deobfuscate(text string) ([]byte, error) {
	data, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("it is not in hexadecimal")
	}
	const header = 2 * sha1.Size
	if len(data) < header+des.BlockSize || (len(data)-header)%des.BlockSize != 0 || len(data) > maxFieldText {
		return nil, fmt.Errorf("%d bytes cannot be a password", len(data))
	}
	seed, sum, encrypted := data[:sha1.Size], data[sha1.Size:header], data[header:]
	if got := sha1.Sum(encrypted); !bytes.Equal(got[:], sum) {
		return nil, errors.New("its checksum is wrong")
	}
	block, err := des.NewTripleDESCipher(obfuscationKey(seed))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(encrypted))
	cipher.NewCBCDecrypter(block, seed[:des.BlockSize]).CryptBlocks(plain, encrypted)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > des.BlockSize {
		clear(plain)
		return nil, errors.New("its padding is wrong")
	}
	return plain[:len(plain)-padding], nil
}

// obfuscationKey makes a 3DES key of a seed: the SHA-1 of the seed with its last byte
// raised by 1, and the first bytes of that of the seed raised by 3.
func obfuscationKey(seed []byte) []byte {
	raised := bytes.Clone(seed)
	raised[sha1.Size-1]++
	first := sha1.Sum(raised)
	raised[sha1.Size-1] += 2
	second := sha1.Sum(raised)
	return append(first[:], second[:4]...)
}

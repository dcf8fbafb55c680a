package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"wayfarer/app"
	"wayfarer/app/profiles"
)

const (
	maxImport     = 1 << 20 // bytes of a file
	maxCandidates = 64      // profiles in a file
	maxRemarks    = 40      // on a profile
	maxFieldText  = 1024    // bytes of a name, host or the like
)

// Errors of Import.
var (
	// ErrFormat: no program is known that writes such files.
	ErrFormat = errors.New("this is not a VPN profile that Wayfarer can read: known are its own, " +
		"Cisco's .pcf, Shrew's .vpn, Apple's .mobileconfig, NetworkManager's for vpnc, and vpnc's .conf")
	errNoGateway = errors.New("it names no gateway")
)

// Imported is what a file holds, for a person to look at before any of it is saved.
type Imported struct {
	Format   string // in words, as in "Cisco VPN client (.pcf)"
	Profiles []*Candidate
	Remarks  []string // on the file as a whole, in English, a sentence each
}

// Zero overwrites the secrets.
func (im *Imported) Zero() {
	for _, c := range im.Profiles {
		c.Zero()
	}
}

// Candidate is a profile out of a file. Its name is one that CheckName approves, but
// another profile may have it: see FreeName.
type Candidate struct {
	Entry
	// Certificate and Key are the user's own, as the file brings them: PEM, DER or
	// PKCS #12. Store.Adopt makes files of them. Mostly nil.
	Certificate, Key []byte
	// Weak is what the file asks for and Wayfarer does not do unasked, in the words
	// of allow_weak. AllowWeak takes it over when the person agrees.
	Weak []string
	// Remarks tell what could not be taken over, and what to look after; in English,
	// a sentence each.
	Remarks []string

	weak app.Profile // what else AllowWeak takes over
}

// Zero overwrites the secrets.
func (c *Candidate) Zero() {
	c.Entry.Zero()
	clear(c.Certificate)
	clear(c.Key)
}

// AllowWeak makes the profile as weak as the file wants it; a second time changes nothing.
func (c *Candidate) AllowWeak() {
	p := &c.Profile
	if len(p.AllowWeak) > 0 {
		return
	}
	p.AllowWeak = c.Weak
	p.IKE, p.ESP = append(p.IKE, c.weak.IKE...), append(p.ESP, c.weak.ESP...)
	if c.weak.PFS != "" {
		p.PFS = c.weak.PFS
	}
	if c.weak.Exchange != "" {
		p.Exchange = c.weak.Exchange
	}
}

// ReadImport reads a file and imports it; no more of it is read than Import takes, and
// its contents are zeroised. The error is the reader's, or that of Import.
func ReadImport(file io.Reader, fileName string) (*Imported, error) {
	buf := make([]byte, maxImport+1) // one buffer, so that no copy of a growing one stays behind
	defer clear(buf)
	n, err := io.ReadFull(file, buf)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return Import(buf[:n], fileName)
}

// Import reads a file of profiles, of this program or another one, which is told by
// what is in it. The name of the file is only used to name a profile that has no name.
// The error is ErrFormat, or says what is wrong. The caller zeroises the result, and
// the file's contents.
func Import(data []byte, fileName string) (*Imported, error) {
	if len(data) > maxImport {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxImport)
	}
	im, err := importAny(data)
	if err != nil {
		return nil, err
	}
	if len(im.Profiles) == 0 && len(im.Remarks) == 0 {
		return nil, errors.New("there is no profile in the file")
	}
	fallback := strings.TrimSuffix(path.Base(strings.ReplaceAll(fileName, `\`, "/")), path.Ext(fileName))
	for _, c := range im.Profiles {
		c.Profile.Version = profiles.Version
		c.Profile.Name = UsableName(c.Profile.Name, fallback, c.Profile.Gateway)
	}
	return im, nil
}

func importAny(data []byte) (*Imported, error) {
	if isSigned(data) || isPlist(data) {
		return importMobileconfig(data)
	}
	text, err := decodeText(data)
	if err != nil {
		return nil, err
	}
	for _, format := range []struct {
		is   func(string) bool
		read func(string) (*Imported, error)
	}{
		{isPCF, importPCF},
		{isShrew, importShrew},
		{isNetworkManager, importNetworkManager},
		{isVpnc, importVpnc},
	} {
		if format.is(text) {
			return format.read(text)
		}
	}
	return importOwn(text)
}

// importOwn reads the project's own form.
func importOwn(text string) (*Imported, error) {
	if !strings.Contains(text, "gateway") {
		return nil, ErrFormat
	}
	p, err := profiles.Decode([]byte(text))
	if err != nil {
		return nil, err
	}
	if p.Gateway == "" {
		return nil, errNoGateway
	}
	c := &Candidate{Entry: Entry{Profile: *p}}
	for _, file := range append(slices.Clone(p.CA), p.Certificate, p.Key) {
		if file != "" && !app.IsPEM([]byte(file)) {
			c.remark("The profile needs the file %s, which is not in it.", shown(file))
		}
	}
	var words struct {
		app.Profile
		AllowWeak []weakness `toml:"allow_weak"`
	}
	if err := profiles.Unmarshal([]byte(text), &words); err != nil {
		return nil, err
	}
	c.Profile.AllowWeak = nil
	for _, word := range words.AllowWeak {
		c.needs(word...)
	}
	if p.AlwaysOn || p.SecretFile != "" {
		c.Profile.AlwaysOn, c.Profile.SecretFile = false, ""
		c.remark("always_on and secret_file are for profiles of the machine, which an administrator places; they are left out.")
	}
	return &Imported{Format: "Wayfarer", Profiles: []*Candidate{c}}, nil
}

// weaknesses are the words of allow_weak, but for "all".
var weaknesses = []string{"3des", "md5", "modp1024", "modp1536", "rsa1024", "sha1-cert", "expired", "psk-aggressive"}

// weakness is what a word of allow_weak stands for.
type weakness []string

// UnmarshalText implements encoding.TextUnmarshaler: a word that is not known is an error,
// since a person is asked to agree to each.
func (w *weakness) UnmarshalText(word []byte) error {
	switch {
	case string(word) == "all":
		*w = weaknesses
	case slices.Contains(weaknesses, string(word)):
		*w = weakness{string(word)}
	default:
		return fmt.Errorf("allow_weak: %q is no weakness; known are %s and all", shown(string(word)), strings.Join(weaknesses, ", "))
	}
	return nil
}

// remark adds a sentence for the person.
func (c *Candidate) remark(format string, args ...any) {
	if len(c.Remarks) < maxRemarks {
		c.Remarks = append(c.Remarks, fmt.Sprintf(format, args...))
	}
}

// needs notes that the file asks for something weak.
func (c *Candidate) needs(weak ...string) {
	for _, w := range weak {
		if !slices.Contains(c.Weak, w) {
			c.Weak = append(c.Weak, w)
		}
	}
}

// secret says how a secret stands in the file.
func (c *Candidate) secret(what string, obfuscated bool) {
	how := "in the clear"
	if obfuscated {
		how = "in a form that anybody can read"
	}
	c.remark("The file holds the %s %s: delete it once the profile is saved.", what, how)
}

// noNAT tells that the file switches NAT traversal off.
func (c *Candidate) noNAT() {
	c.remark("The file switches NAT traversal off. Wayfarer uses it wherever the gateway can; nat_t = \"off\" in the profile does as the file says.")
}

// domain tells what becomes of a Windows domain, if the file has one.
func (c *Candidate) domain(name string) {
	if name != "" {
		c.remark("The Windows domain %s is not sent: if the gateway refuses the login, try %s\\LOGIN.", shown(name), shown(name))
	}
}

// suite notes what the file demands of phase 1 or 2: to is where it goes in the
// profile, or, if it is weak, in what AllowWeak takes over.
func (c *Candidate) suite(parts []string, to func(*app.Profile) *[]string) {
	suite := strings.Join(parts, "-")
	if weak := weakIn(suite); len(weak) > 0 {
		c.needs(weak...)
		list := to(&c.weak)
		*list = append(*list, suite)
		return
	}
	list := to(&c.Profile)
	*list = append(*list, suite)
}

func ofIKE(p *app.Profile) *[]string { return &p.IKE }
func ofESP(p *app.Profile) *[]string { return &p.ESP }

// pfs notes the group that the file demands for phase 2.
func (c *Candidate) pfs(group string) {
	if weak := weakIn(group); len(weak) > 0 {
		c.needs(weak...)
		c.weak.PFS = group
		return
	}
	c.Profile.PFS = group
}

// aggressive notes that the file demands Aggressive Mode.
func (c *Candidate) aggressive() {
	if method, _ := c.Profile.AuthMethod(); method.GroupSecret != app.Required {
		c.Profile.Exchange = "aggressive"
		return
	}
	c.needs("psk-aggressive")
	c.weak.Exchange = "aggressive"
}

// weakIn lists the parts of a suite that a profile has to allow by name.
func weakIn(suite string) []string {
	var weak []string
	for part := range strings.SplitSeq(suite, "-") {
		if slices.Contains([]string{"3des", "md5", "modp1024", "modp1536"}, part) {
			weak = append(weak, part)
		}
	}
	return weak
}

// groups are the Diffie-Hellman groups by number. Group 1 is never used.
var groups = map[string]string{
	"2": "modp1024", "5": "modp1536", "14": "modp2048", "15": "modp3072", "16": "modp4096",
	"19": "ecp256", "20": "ecp384", "21": "ecp521",
}

// group is the name of a group by its number; what is it for, as in "phase 1"? One that
// is never used is a remark, and empty.
func (c *Candidate) group(number, what string) string {
	name := groups[number]
	if name == "" {
		c.remark("Diffie-Hellman group %s for %s is never used; the gateway must know another one.", shown(number), what)
	}
	return name
}

// network reads an IPv4 network; false, with a remark, if it is none.
func (c *Candidate) network(address, mask string) (string, bool) {
	addr, err := netip.ParseAddr(strings.TrimSpace(address))
	m, merr := netip.ParseAddr(strings.TrimSpace(mask))
	if err == nil && merr == nil && addr.Is4() && m.Is4() {
		// Of a mask with holes the size is 0 of 0.
		if ones, bits := net.IPMask(m.AsSlice()).Size(); bits == 32 {
			return netip.PrefixFrom(addr, ones).Masked().String(), true
		}
	}
	c.remark("%s is no network and is left out.", shown(address+"/"+mask))
	return "", false
}

// shown is a text out of a file as a remark may quote it: printable, not long.
func shown(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > 64 {
		text = string(runes[:64]) + "…"
	}
	return text
}

// field is a text out of a file as a profile takes it.
func field(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > maxFieldText || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return text
}

// UsableName makes a name for a profile, one that CheckName approves, out of the first of
// texts that has one in it: what cannot be in a name is left out, what is too long is cut
// off. Of texts without any it is "VPN".
func UsableName(texts ...string) string {
	for _, text := range texts {
		text = strings.TrimLeft(strings.TrimSpace(shown(text)), "- ")
		for len(text) > maxName {
			_, size := utf8.DecodeLastRuneInString(text)
			text = text[:len(text)-size]
		}
		if text = strings.TrimSpace(text); CheckName(text) == nil {
			return text
		}
	}
	return "VPN"
}

// FreeName is a name that is not taken: name itself, or with a number behind it.
func FreeName(name string, taken []string) string {
	free := name
	for n := 2; slices.Contains(taken, free); n++ {
		suffix := fmt.Sprintf(" %d", n)
		base := name
		for len(base)+len(suffix) > maxName {
			_, size := utf8.DecodeLastRuneInString(base)
			base = base[:len(base)-size]
		}
		free = strings.TrimSpace(base) + suffix
	}
	return free
}

// decodeText reads a text file as Windows or others write it: UTF-8, UTF-16 with a
// mark in front, or else Latin-1.
func decodeText(data []byte) (string, error) {
	var text string
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		little := data[0] == 0xff
		var units []uint16
		for pair := range slices.Chunk(data[2:], 2) {
			if len(pair) < 2 {
				break
			}
			unit := uint16(pair[0])<<8 | uint16(pair[1])
			if little {
				unit = unit<<8 | unit>>8
			}
			units = append(units, unit)
		}
		text = string(utf16.Decode(units))
	case utf8.Valid(data):
		text = strings.TrimPrefix(string(data), "\ufeff")
	default:
		runes := make([]rune, len(data))
		for i, b := range data {
			runes[i] = rune(b)
		}
		text = string(runes)
	}
	if strings.ContainsRune(text, 0) {
		return "", ErrFormat
	}
	return text, nil
}

package store

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"howett.net/plist"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/ike"
)

var update = flag.Bool("update", false, "write what imports give to the expected files")

const importDir = "testdata/import/"

func readImport(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(importDir + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// describe is all that an import gives, as text.
func describe(im *Imported) string {
	var s strings.Builder
	fmt.Fprintf(&s, "format: %s\n", im.Format)
	for _, remark := range im.Remarks {
		fmt.Fprintf(&s, "remark: %s\n", remark)
	}
	for _, c := range im.Profiles {
		profile, err := profiles.Encode(&c.Profile)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&s, "\n%s", profile)
		for _, secret := range []struct {
			name  string
			value []byte
		}{{"password", c.Password}, {"group secret", c.GroupSecret}} {
			if secret.value != nil {
				fmt.Fprintf(&s, "%s: %q\n", secret.name, secret.value)
			}
		}
		for _, file := range []struct {
			name  string
			value []byte
		}{{"certificate", c.Certificate}, {"key", c.Key}} {
			if file.value != nil {
				fmt.Fprintf(&s, "%s: %d bytes, SHA-1 %x\n", file.name, len(file.value), sha1.Sum(file.value))
			}
		}
		if len(c.Weak) > 0 {
			weaker := *c
			weaker.AllowWeak()
			weaker.AllowWeak()
			fmt.Fprintf(&s, "weak: %s; allowed: ike %v, esp %v, pfs %q, exchange %q\n", strings.Join(c.Weak, ", "),
				weaker.Profile.IKE, weaker.Profile.ESP, weaker.Profile.PFS, weaker.Profile.Exchange)
		}
		for _, remark := range c.Remarks {
			fmt.Fprintf(&s, "remark: %s\n", remark)
		}
	}
	return s.String()
}

// TestImport: the files in testdata/import become what stands in those of the same name
// with ".want" behind it.
func TestImport(t *testing.T) {
	names, err := filepath.Glob(importDir + "*")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, path := range names {
		name := filepath.Base(path)
		if strings.HasSuffix(name, ".want") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			im, err := Import(readImport(t, name), name)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(im)
			if *update {
				if err := os.WriteFile(path+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(readImport(t, name+".want")); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestImportedAreSaved: what a file brings can be saved, and is then what a connection
// needs.
func TestImportedAreSaved(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"rsa.vpn", "certificate.mobileconfig", "group.pcf"} {
		im, err := Import(readImport(t, name), name)
		if err != nil {
			t.Fatal(err)
		}
		c := im.Profiles[0]
		c.Password = []byte("hush")
		if err := s.Adopt(c); err != nil {
			t.Fatal(err)
		}
		entry, err := s.Load(c.Profile.Name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "group.pcf" {
			continue
		}
		req, err := entry.Request(t.Context(), &fakeAsker{passphrase: "päss"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if key, err := app.ParseKey(req.Key); err != nil || key == nil {
			t.Errorf("%s: %v", name, err)
		}
		im.Zero()
	}
	// A duplicate needs the same files.
	copied, err := s.Load("rsa")
	if err != nil {
		t.Fatal(err)
	}
	copied.Profile.Name = "copy"
	if err := s.Save(copied); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("rsa"); err != nil {
		t.Fatal(err)
	}
	if _, err := copied.Request(t.Context(), &fakeAsker{}); err != nil {
		t.Error(err)
	}
	there := len(files(s)) // two files of the first, which is also the CA of both, and one of the second
	for _, name := range []string{"copy", "Certificate"} {
		if err := s.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(files(s)); there != 3 || n != 0 {
		t.Errorf("%d files, %d after the profiles were removed", there, n)
	}
}

func TestImportOfText(t *testing.T) {
	for _, text := range []string{
		"[main]\r\nHost=vpn.example.com\r\nDescription=Büro\r\n",
		"gateway = \"vpn.example.com\"\r\nname = \"Büro\"\r\n",
	} {
		testImportOfText(t, text)
	}
}

func testImportOfText(t *testing.T, text string) {
	units := utf16.Encode([]rune(text))
	little, big := []byte{0xff, 0xfe}, []byte{0xfe, 0xff}
	for _, u := range units {
		little = append(little, byte(u), byte(u>>8))
		big = append(big, byte(u>>8), byte(u))
	}
	for name, data := range map[string][]byte{
		"UTF-8": []byte(text), "UTF-8 with a mark": []byte("\ufeff" + text), "UTF-16LE": little, "UTF-16BE": big,
		"odd UTF-16": append(slices.Clip(little), 'x'), "Latin-1": []byte(strings.ReplaceAll(text, "ü", "\xfc")),
	} {
		im, err := Import(data, "x.pcf")
		if err != nil || im.Profiles[0].Profile.Name != "Büro" {
			t.Errorf("%s: %+v, %v", name, im, err)
		}
	}
}

// TestImportBinary: a binary property list is the same as one in XML.
func TestImportBinary(t *testing.T) {
	for _, name := range []string{"group.mobileconfig", "certificate.mobileconfig"} {
		xml := readImport(t, name)
		var v any
		if _, err := plist.Unmarshal(xml, &v); err != nil {
			t.Fatal(err)
		}
		binary, err := plist.Marshal(v, plist.BinaryFormat)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Import(binary, name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Import(xml, name)
		if err != nil || describe(got) != describe(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, describe(got), describe(want))
		}
	}
}

func TestImportErrors(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"empty", "", ErrFormat.Error()},
		{"text", "Dear Ada,\nhere is our VPN.\n", ErrFormat.Error()},
		{"binary", "\x7fELF\x00\x00", ErrFormat.Error()},
		{"own, mistyped", "gateway = \"x\"\nlogn = \"y\"\n", "line 2, column 1: unknown key \"logn\""},
		{"own, no gateway", "# gateway\nname = \"x\"\n", "no gateway"},
		{"own, newer", "version = 7\ngateway = \"x\"\n", "too old"},
		{"pcf without host", "[main]\nHost=\nGroupName=x\n", "no gateway"},
		{"Shrew without host", "n:version:4\n", "no gateway"},
		{"vpnc without host", "IPSec gateway\n", "no gateway"},
		{"another plug-in", "[connection]\nid=x\n[vpn]\nservice-type=org.freedesktop.NetworkManager.openvpn\n", "another kind of VPN"},
		{"damaged XML", "<plist><dict><key>PayloadContent</key>", "damaged"},
		{"damaged binary", "bplist00\x00", "damaged"},
		{"encrypted", "<plist><dict><key>EncryptedPayloadContent</key><data>AAAA</data></dict></plist>", "encrypted for one device"},
		{"no VPN in it", "<plist><dict><key>PayloadContent</key><array/></dict></plist>", "no profile"},
		{"IPSec without address", "<plist><dict><key>PayloadContent</key><array><dict><key>PayloadType</key><string>com.apple.vpn.managed</string>" +
			"<key>VPNType</key><string>IPSec</string></dict></array></dict></plist>", "no gateway"},
		{"DER of something else", "\x30\x03\x02\x01\x01", ErrFormat.Error()},
		{"large", strings.Repeat("#", maxImport+1), "larger than"},
	} {
		if im, err := Import([]byte(tt.data), "file"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v", tt.name, im, err)
		}
	}
}

// TestImportIsNotSilentlyWeak: no file makes a profile weak before a person agrees.
func TestImportIsNotSilentlyWeak(t *testing.T) {
	names, _ := filepath.Glob(importDir + "*")
	for _, path := range names {
		if strings.HasSuffix(path, ".want") {
			continue
		}
		im, err := Import(readImport(t, filepath.Base(path)), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range im.Profiles {
			p := &c.Profile
			// A profile of our own says itself what it wants.
			if len(p.AllowWeak) > 0 || filepath.Ext(path) != ".toml" && len(weakIn(strings.Join(append(append(p.IKE, p.ESP...), p.PFS), "-"))) > 0 {
				t.Errorf("%s: %+v", path, p)
			}
		}
	}
}

// TestManyNetworks: of a list that is too long the first networks are taken, and what is
// left out is told.
func TestManyNetworks(t *testing.T) {
	site := "n:version:4\ns:network-host:vpn.example.com\nn:policy-list-auto:0\n"
	const lines = 5000
	for i := range lines {
		site += fmt.Sprintf("s:policy-list-include:10.%d.%d.0 / 255.255.255.0\n", i/256, i%256)
	}
	im, err := Import([]byte(site), "x")
	if err != nil {
		t.Fatal(err)
	}
	networks, remarks := im.Profiles[0].Profile.RemoteNetworks, im.Profiles[0].Remarks
	if len(networks) < 1000 || len(networks) > 2000 || networks[0] != "10.0.0.0/24" {
		t.Errorf("%d networks, the first are %q", len(networks), networks[:min(3, len(networks))])
	}
	if want := fmt.Sprintf("The lists of networks are too long: %d lines of them are left out.", lines-len(networks)); !slices.Contains(remarks, want) {
		t.Errorf("remarks %q, want %q", remarks, want)
	}
}

func TestManyPayloads(t *testing.T) {
	item := "<dict><key>PayloadType</key><string>com.apple.vpn.managed</string><key>VPNType</key><string>L2TP</string></dict>"
	data := "<plist><dict><key>PayloadContent</key><array>" + strings.Repeat(item, 5000) + "</array></dict></plist>"
	im, err := Import([]byte(data), "x")
	if err != nil || len(im.Remarks) != maxCandidates+1 {
		t.Errorf("%d remarks, %v", len(im.Remarks), err)
	}
}

// TestLyingList: a binary property list that is a list of 2^62 items, in a few bytes.
func TestLyingList(t *testing.T) {
	data := []byte("bplist00\xaf\x13\x40\x00\x00\x00\x00\x00\x00\x00")
	table := len(data)
	data = append(data, 8)                                    // where the list stands
	data = append(data, 0, 0, 0, 0, 0, 0, 1, 4)               // bytes of an offset, and of a reference
	data = binary.BigEndian.AppendUint64(data, 1)             // objects
	data = binary.BigEndian.AppendUint64(data, 0)             // the first of them is the root
	data = binary.BigEndian.AppendUint64(data, uint64(table)) // of offsets
	if im, err := Import(data, "x"); !errors.Is(err, errPlist) {
		t.Errorf("got %+v, %v", im, err)
	}
}

// obfuscate is what Cisco's client does to a password.
func obfuscate(t testing.TB, password string) string {
	t.Helper()
	seed := make([]byte, sha1.Size)
	_, _ = rand.Read(seed)
	padding := des.BlockSize - len(password)%des.BlockSize
	data := append([]byte(password), bytes.Repeat([]byte{byte(padding)}, padding)...)
	block, err := des.NewTripleDESCipher(obfuscationKey(seed))
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCEncrypter(block, seed[:des.BlockSize]).CryptBlocks(data, data)
	sum := sha1.Sum(data)
	return hex.EncodeToString(append(append(seed, sum[:]...), data...))
}

func TestDeobfuscate(t *testing.T) {
	for _, password := range []string{"", "x", "1234567", "12345678", "correct horse battery staple", "\x00\xff"} {
		text := obfuscate(t, password)
		if got, err := deobfuscate(strings.ToUpper(text)); err != nil || string(got) != password {
			t.Errorf("%q: got %q, %v", password, got, err)
		}
		// No part of it can be changed, and no prefix passes.
		for i := range text {
			damaged := []byte(text)
			damaged[i] ^= 1
			if got, err := deobfuscate(string(damaged)); err == nil && string(got) == password && i >= 2*sha1.Size {
				t.Errorf("%q, digit %d changed: got %q", password, i, got)
			}
			if _, err := deobfuscate(text[:i]); err == nil {
				t.Errorf("%q: the first %d digits pass", password, i)
			}
		}
	}
	for _, text := range []string{"", "xyz", strings.Repeat("0", 80), strings.Repeat("0", 96), strings.Repeat("00", 5000)} {
		if got, err := deobfuscate(text); err == nil {
			t.Errorf("%.20s…: got %q", text, got)
		}
	}
}

func TestUsableAndFreeNames(t *testing.T) {
	long := strings.Repeat("ü", 40)
	for _, tt := range []struct {
		texts []string
		want  string
	}{
		{[]string{"office"}, "office"},
		{[]string{"", " \t", "office.pcf"}, "office.pcf"},
		{[]string{"--help"}, "help"},
		{[]string{"a\x1b[31mb\u202e"}, "a[31mb"},
		{[]string{long}, long[:maxName]},
		{[]string{"-"}, "VPN"},
		{nil, "VPN"},
	} {
		if got := UsableName(tt.texts...); got != tt.want || CheckName(got) != nil {
			t.Errorf("%q: got %q", tt.texts, got)
		}
	}
	taken := []string{"a", "a 2", long[:maxName], long[:maxName-2] + " 2"}
	for name, want := range map[string]string{"a": "a 3", "b": "b", long[:maxName]: long[:maxName-2] + " 3"} {
		if got := FreeName(name, taken); got != want || CheckName(got) != nil {
			t.Errorf("%q: got %q", name, got)
		}
	}
}

// TestSignedContent: what openssl writes, in DER and in BER, and no prefix of it.
func TestSignedContent(t *testing.T) {
	want := readImport(t, "group.mobileconfig")
	for _, name := range []string{"signed.mobileconfig", "signed-ber.mobileconfig"} {
		data := readImport(t, name)
		if got, err := signedContent(data); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
		for n := range data {
			if got, err := signedContent(data[:n]); err == nil {
				t.Fatalf("%s: %d of %d bytes give %d", name, n, len(data), len(got))
			}
		}
	}
	for depth, ok := range map[int]bool{maxBERDepth: true, maxBERDepth + 1: false, 100_000: false} {
		nested := append(bytes.Repeat([]byte{0x30, 0x80}, depth), make([]byte, 2*depth)...)
		if _, _, err := readBER(nested, maxBERDepth); (err == nil) != ok {
			t.Errorf("%d elements in one another: %v", depth, err)
		}
	}
	if _, err := signedContent([]byte{0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01}); err == nil {
		t.Error("another type passes")
	}
}

// FuzzImport: whatever a file holds, reading it ends with candidates that can be saved
// or with an error.
func FuzzImport(f *testing.F) {
	names, _ := filepath.Glob(importDir + "*")
	for _, path := range names {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	var v any
	if _, err := plist.Unmarshal(readImport(f, "certificate.mobileconfig"), &v); err != nil {
		f.Fatal(err)
	}
	binary, err := plist.Marshal(v, plist.BinaryFormat)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(binary)
	f.Fuzz(func(t *testing.T, data []byte) {
		im, err := Import(bytes.Clone(data), "file.pcf")
		if err != nil {
			if im != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v, %q", im, err)
			}
			return
		}
		for _, c := range im.Profiles {
			if c.Profile.Gateway == "" || CheckName(c.Profile.Name) != nil {
				t.Errorf("%+v", c.Profile)
			}
			text, err := profiles.Encode(&c.Profile)
			if err != nil {
				t.Fatal(err)
			}
			again, err := profiles.Decode(text)
			if err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			if got, _ := profiles.Encode(again); !reflect.DeepEqual(got, text) {
				t.Errorf("%s\nbecame\n%s", text, got)
			}
			for _, remark := range append(im.Remarks, c.Remarks...) {
				if strings.ContainsAny(remark, "\n\x1b") {
					t.Errorf("%q", remark)
				}
			}
		}
		im.Zero()
	})
}

// TestReadImport: a file is imported as its contents are; no more is read than can be
// imported.
func TestReadImport(t *testing.T) {
	data := readImport(t, "group.pcf")
	want, err := Import(data, "group.pcf")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadImport(iotest.OneByteReader(bytes.NewReader(data)), "group.pcf")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := ReadImport(strings.NewReader(""), "x"); !errors.Is(err, ErrFormat) {
		t.Errorf("an empty file: got %v", err)
	}
	broken := errors.New("the stick was pulled out")
	if _, err := ReadImport(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), "group.pcf"); !errors.Is(err, broken) {
		t.Errorf("half a file: got %v", err)
	}
	long := strings.NewReader(strings.Repeat("#", 2*maxImport))
	if _, err := ReadImport(long, "x"); err == nil || !strings.Contains(err.Error(), "larger than") || long.Len() < maxImport-1 {
		t.Errorf("a long file: got %v, %d bytes unread", err, long.Len())
	}
}

// TestImportOfWeaknesses: only words that Wayfarer knows come before a person, each once.
func TestImportOfWeaknesses(t *testing.T) {
	for _, tt := range []struct {
		list string
		want []string
	}{
		{`[]`, nil},
		{`["md5", "3des", "md5"]`, []string{"md5", "3des"}},
		{`["md5", "all"]`, []string{"md5", "3des", "modp1024", "modp1536", "rsa1024", "sha1-cert", "expired", "psk-aggressive"}},
	} {
		im, err := Import([]byte("gateway = \"x\"\nallow_weak = "+tt.list+"\n"), "x.toml")
		if err != nil {
			t.Fatal(err)
		}
		if c := im.Profiles[0]; !slices.Equal(c.Weak, tt.want) || c.Profile.AllowWeak != nil {
			t.Errorf("%s: got %q, allowed %q", tt.list, c.Weak, c.Profile.AllowWeak)
		}
	}
	for _, word := range []string{"", "none, nothing is weak", "a\\u202eb", strings.Repeat("x", 10000)} {
		_, err := Import([]byte("gateway = \"x\"\nallow_weak = [\"md5\",\n\t\""+word+"\"]\n"), "x.toml")
		var where *profiles.SyntaxError
		if !errors.As(err, &where) || where.Line != 3 || where.Column != 2 || len(err.Error()) > 400 || strings.ContainsRune(err.Error(), '\u202e') {
			t.Errorf("%.20s: got %.500v", word, err)
		}
	}
}

// TestWeaknesses: the words are those of the protocol's engine.
func TestWeaknesses(t *testing.T) {
	var all ike.Weak
	for _, word := range weaknesses {
		one, err := ike.ParseWeak([]string{word})
		if err != nil || one&all != 0 {
			t.Errorf("%s: %v", word, err)
		}
		all |= one
	}
	if all != ike.WeakAll {
		t.Errorf("some are missing: %b of %b", all, ike.WeakAll)
	}
}

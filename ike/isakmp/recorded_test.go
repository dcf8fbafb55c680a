package isakmp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

// recorded is a message of testdata/recorded.txt, whose head says where it comes
// from.
type recorded struct {
	name      string // "hybrid-main 1"
	exchange  string // as strongSwan's log names it
	messageID uint32
	payloads  string // "[ SA V V ]", as strongSwan's log lists them
	bytes     []byte // header and decrypted body
}

func readRecorded(t testing.TB) []recorded {
	t.Helper()
	f, err := os.Open("testdata/recorded.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rs []recorded
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		head, list, isHead := strings.Cut(line, " [")
		switch {
		case line == "" || line[0] == '#':
		case isHead:
			r := recorded{payloads: "[" + list}
			var conversation, direction string
			var position int
			if _, err := fmt.Sscan(head, &conversation, &position, &r.exchange, &direction, &r.messageID); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			r.name = fmt.Sprintf("%s %d", conversation, position)
			rs = append(rs, r)
		default:
			r := &rs[len(rs)-1]
			if r.bytes, err = hex.AppendDecode(r.bytes, []byte(line)); err != nil {
				t.Fatalf("%s: %v", r.name, err)
			}
		}
	}
	if len(rs) < 40 {
		t.Fatalf("%d recorded messages", len(rs))
	}
	return rs
}

// TestRecorded reads what real peers sent, compares with what strongSwan made of
// it, and writes it again.
func TestRecorded(t *testing.T) {
	for _, r := range readRecorded(t) {
		t.Run(r.name, func(t *testing.T) {
			h, body, err := ParseHeader(r.bytes)
			if err != nil {
				t.Fatal(err)
			}
			ps, padding, err := ParsePayloads(h.NextPayload, body)
			if err != nil {
				t.Fatal(err)
			}
			if h.Exchange.String() != strings.TrimSuffix(r.exchange, "_V1") || h.MessageID != r.messageID {
				t.Errorf("%v %d, strongSwan says %s %d", h.Exchange, h.MessageID, r.exchange, r.messageID)
			}
			if got := inStrongSwansWords(t, ps); got != r.payloads {
				t.Errorf("%s, strongSwan says %s", got, r.payloads)
			}
			if len(padding) > 0 && !h.Encrypted() {
				t.Errorf("cleartext with %d bytes of padding", len(padding))
			}
			if got := append(AppendPayloads(h.Append(nil), ps...), padding...); !bytes.Equal(got, r.bytes) {
				t.Errorf("appended again:\n%x\nwas\n%x", got, r.bytes)
			}
			if len(padding) == 0 {
				if got := AppendMessage([]byte("before"), h, ps...); !bytes.Equal(got, append([]byte("before"), r.bytes...)) {
					t.Errorf("AppendMessage:\n%x\nwas\n%x", got, r.bytes)
				}
			}
			for _, p := range ps {
				if got, err := reappend(p.Type, p.Body); err != nil || !bytes.Equal(got, p.Body) {
					t.Errorf("%v body appended again:\n%x, %v, was\n%x", p.Type, got, err, p.Body)
				}
			}
		})
	}
}

// TestRecordedPrefixes cuts recorded messages at every byte: as a datagram, and as
// a body whose end the header does not know.
func TestRecordedPrefixes(t *testing.T) {
	for _, r := range readRecorded(t) {
		h, body, err := ParseHeader(r.bytes)
		if err != nil {
			t.Fatal(err)
		}
		_, padding, err := ParsePayloads(h.NextPayload, body)
		if err != nil {
			t.Fatal(err)
		}
		for n := range r.bytes {
			if _, _, err := ParseHeader(r.bytes[:n]); err == nil {
				t.Fatalf("%s: header of %d of %d bytes accepted", r.name, n, len(r.bytes))
			}
		}
		for n := range len(body) - len(padding) {
			if _, _, err := ParsePayloads(h.NextPayload, body[:n]); err == nil {
				t.Fatalf("%s: payloads of %d of %d bytes accepted", r.name, n, len(body))
			}
		}
	}
}

// inStrongSwansWords lists payloads as strongSwan 5.9's log does, Attribute
// payloads with their attributes.
func inStrongSwansWords(t *testing.T, ps []Payload) string {
	t.Helper()
	var words []string
	for _, p := range ps {
		word := p.Type.String()
		switch p.Type {
		case PayloadAttribute:
			c, err := ParseConfig(p.Body)
			if err != nil {
				t.Fatal(err)
			}
			names := make([]string, len(c.Attributes))
			for i, a := range c.Attributes {
				names[i] = strongSwanAttributes[a.Type]
			}
			word = fmt.Sprintf("CP%s(%s)", strongSwanConfigTypes[c.Type], strings.Join(names, " "))
		case PayloadNotify:
			n, err := ParseNotify(p.Body)
			if err != nil {
				t.Fatal(err)
			}
			word = "N(" + n.Type.String() + ")"
			if s, ok := strongSwanNotifies[n.Type]; ok {
				word = s
			}
		case PayloadFragment:
			f, err := ParseFragment(p.Body)
			if err != nil {
				t.Fatal(err)
			}
			word = fmt.Sprintf("FRAG(%d)", f.Number)
			if f.Last {
				word = fmt.Sprintf("FRAG(%d/%[1]d)", f.Number)
			}
		}
		words = append(words, word)
	}
	return "[ " + strings.Join(words, " ") + " ]"
}

var (
	strongSwanConfigTypes = map[ConfigType]string{ConfigRequest: "RQ", ConfigReply: "RP", ConfigSet: "S", ConfigAck: "A"}
	strongSwanNotifies    = map[NotifyType]string{
		NotifyRUThere: "N(DPD)", NotifyRUThereAck: "N(DPD_ACK)", NotifyUnityGroupHash: "N((40503))",
	}
	strongSwanAttributes = map[uint16]string{
		CfgIP4Address: "ADDR", CfgIP4Netmask: "MASK", CfgIP4DNS: "DNS", CfgIP4NBNS: "NBNS", CfgApplicationVersion: "VER",
		UnityBanner: "U_BANNER", UnitySavePassword: "U_SAVEPWD", UnityDefDomain: "U_DEFDOM", UnitySplitDNS: "U_SPLITDNS",
		UnitySplitInclude: "U_SPLITINC", UnityLocalLAN: "U_LOCALLAN", UnityPFS: "U_PFS", UnityFWType: "U_FWTYPE",
		UnityDDNSHostname: "U_DDNSHOST", XAuthUserName: "X_USER", XAuthPassword: "X_PWD", XAuthStatus: "X_STATUS",
	}
)

//go:build lab && linux

package lab

import (
	"encoding/csv"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ISAKMP numbers that the captures are read with (RFC 2408 §3.1; exchange 6 and the
// types of a Transaction: draft-dukes-ike-mode-cfg-02 §3).
const (
	mainMode, aggressive, informational, transaction, quickMode = 2, 4, 5, 6, 32

	sa, ke, id, certificate, certreq, hash, sig, nonce      = 1, 4, 5, 6, 7, 8, 9, 10
	notify, deletion, vendor, attributes, natd, ikeFragment = 11, 12, 13, 14, 20, 132

	cfgRequest, cfgReply, cfgSet, cfgAck = 1, 2, 3, 4

	initialContact, dpdProbe, dpdAnswer = 24578, 36136, 36137
	protoISAKMP                         = 1
	protoESP                            = 3

	xauthUser, xauthPassword, xauthStatus = 16521, 16522, 16527
	modeAddress, unitySplitInclude        = 1, 28676
)

// message is one ISAKMP message of a capture, decrypted.
type message struct {
	fromClient bool
	src, dst   int // UDP ports
	exchange   int
	encrypted  bool
	id         string
	payloads   []int // SA payloads without their proposals and transforms
	vendors    []string
	cfg        int   // type of a Transaction
	attrs      []int // of a Transaction
	notify     int
	deletes    int // protocol of a Delete
	ids        []int
	spiBytes   int // SPI size of a Notify
}

// fields of tshark, in the order in which messages reads them.
var fields = []string{
	"ip.src", "ipv6.src", "udp.srcport", "udp.dstport", "isakmp.exchangetype", "isakmp.flag_e", "isakmp.messageid",
	"isakmp.typepayload", "isakmp.vid_bytes", "isakmp.cfg.type", "isakmp.cfg.attr.type", "isakmp.notify.msgtype",
	"isakmp.delete.protoid", "isakmp.id.type", "isakmp.spisize",
}

// capture records what passes between clients and gateway while run does its work.
func capture(t *testing.T, run func()) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lab.pcap")
	mustLab(t, "capture", "start", file)
	run()
	mustLab(t, "capture", "stop", file)
	return file
}

// tshark decrypts a capture with the gateway's keys.
func tshark(t *testing.T, file string, args ...string) string {
	t.Helper()
	r := execute(t, "", append([]string{"decrypt", file}, args...)...)
	if r.exit != 0 {
		t.Fatalf("tshark: exit %d\n%s", r.exit, r.stderr)
	}
	return r.stdout
}

// messages are the ISAKMP messages of a capture between clients and a gateway's
// address. The fragments of a fragmented message stand alone, but the last has the
// payloads of the whole behind its own.
func messages(t *testing.T, file, gateway string) []message {
	t.Helper()
	filter := "ip.addr == " + gateway
	if strings.Contains(gateway, ":") {
		filter = "ipv6.addr == " + gateway
	}
	// an ICMP error quotes the message that it answers
	args := []string{"-Y", "isakmp && !icmp && !icmpv6 && " + filter, "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	r := csv.NewReader(strings.NewReader(tshark(t, file, args...)))
	r.Comma = '|'
	r.FieldsPerRecord = len(fields)
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var all []message
	for _, row := range rows {
		all = append(all, message{
			fromClient: row[0]+row[1] != gateway,
			src:        last(row[2]), dst: last(row[3]),
			exchange: last(row[4]), encrypted: last(row[5]) == 1, id: strings.Split(row[6], ",")[0],
			payloads: slices.DeleteFunc(numbers(row[7]), func(n int) bool { return n == 2 || n == 3 }),
			vendors:  strings.Split(row[8], ","),
			cfg:      last(row[9]), attrs: numbers(row[10]), notify: last(row[11]), deletes: last(row[12]),
			ids: numbers(row[13]), spiBytes: last(row[14]),
		})
	}
	return all
}

// numbers reads a list as tshark prints it; a Boolean is 0 or 1.
func numbers(list string) []int {
	var all []int
	for s := range strings.SplitSeq(list, ",") {
		s = strings.NewReplacer("True", "1", "False", "0").Replace(s)
		if n, err := strconv.ParseInt(s, 0, 64); err == nil {
			all = append(all, int(n))
		}
	}
	return all
}

func last(list string) int {
	all := numbers(list)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1]
}

// xauthReplies counts the client's answers to XAUTH requests; a retransmission has
// the message ID of the first and is not counted again.
func xauthReplies(all []message) int {
	seen := map[string]bool{}
	for _, m := range all {
		if m.fromClient && m.exchange == transaction && m.cfg == cfgReply {
			seen[m.id] = true
		}
	}
	return len(seen)
}

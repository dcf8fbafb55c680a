package gui

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// redaction takes out of a text what others need not know. The same name becomes the
// same mark wherever it stands, so that the text still makes sense.
type redaction struct {
	logins, hosts []string // that are known
	// What the person wants to be left as it is. Secrets never are.
	showLogins, showHosts, showAddresses bool
}

const blanked = "[secret]"

var (
	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	// secretValue is a value behind a name of a secret, as logs and files write it.
	secretValue = regexp.MustCompile(`(?i)\b([a-z_-]*(?:password|passwd|passphrase|passcode|secret|psk|next_pin|token))("?\s*[=:]\s*)("(?:[^"\\]|\\.)*"|[^\s,;"}]+)`)
	personValue = regexp.MustCompile(`(?i)\b(login|user|username|owner)("?\s*[=:]\s*"?)([^\s,;"}]+)`)
	mailAddress = regexp.MustCompile(`[\pL\pN._%+-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)*`)
	// namePart is a part of a distinguished name.
	namePart  = regexp.MustCompile(`\b((?:CN|OU|O|L|ST|E|DC|SN|GN|UID)=)((?:[^,+"\\\n]|\\.)+?)(?:[,+"\n]|\s+\w+=|$)`)
	bannerIn  = regexp.MustCompile(`(UNITY_BANNER|XAUTH_MESSAGE) "(?:[^"\\]|\\.)*"`)
	hostName  = regexp.MustCompile(`(?:[\pL\pN_](?:[\pL\pN_-]*[\pL\pN_])?\.)+\pL[\pL\pN-]*\pL`)
	addressIn = regexp.MustCompile(`[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*|\d{1,3}(?:\.\d{1,3}){3}`)
)

// noHosts are the last parts of names of files and units, which look like hosts'.
var noHosts = []string{
	"conf", "dll", "exe", "go", "json", "log", "md", "network", "pem", "scope", "service", "slice", "so", "sock", "socket", "target", "toml", "txt",
}

// apply is the text without what is to be taken out.
func (r *redaction) apply(text string) string {
	text = privateKey.ReplaceAllString(text, blanked)
	text = secretValue.ReplaceAllString(text, "$1$2"+blanked)
	if !r.showLogins {
		logins := &marks{kind: "login"}
		for _, found := range personValue.FindAllStringSubmatch(text, -1) {
			logins.learn(found[3])
		}
		for _, found := range mailAddress.FindAllString(text, -1) {
			logins.learn(found)
		}
		text = logins.replace(text, r.logins)
	}
	if !r.showHosts {
		text = bannerIn.ReplaceAllString(text, "$1 [text]")
		hosts := &marks{kind: "host"}
		for _, found := range namePart.FindAllStringSubmatch(text, -1) {
			hosts.learn(strings.TrimSpace(found[2]))
		}
		for _, at := range hostName.FindAllStringIndex(text, -1) {
			if isHost(text, at[0], at[1]) {
				hosts.learn(text[at[0]:at[1]])
			}
		}
		text = hosts.replace(text, r.hosts)
	}
	if !r.showAddresses {
		addresses := &marks{kind: "address"}
		text = addressIn.ReplaceAllStringFunc(text, func(s string) string {
			if a, err := netip.ParseAddr(s); err == nil && isPublic(a) {
				return addresses.mark(a.String())
			}
			return s
		})
	}
	return text
}

// isHost tells the name of a host from that of a file.
func isHost(text string, from, to int) bool {
	if from > 0 && strings.ContainsRune("/\\", rune(text[from-1])) {
		return false
	}
	last := text[strings.LastIndexByte(text[from:to], '.')+from+1 : to]
	return !slices.Contains(noHosts, strings.ToLower(last))
}

// isPublic tells addresses that belong to somebody in particular.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	shared := netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	return a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a)
}

// marks stand for names of a kind: the first that is met is number 1.
type marks struct {
	kind    string
	names   []string
	numbers map[string]int
}

func (m *marks) learn(name string) { m.names = append(m.names, name) }

func (m *marks) mark(name string) string {
	key := strings.ToLower(name)
	if m.numbers == nil {
		m.numbers = map[string]int{}
	}
	if m.numbers[key] == 0 {
		m.numbers[key] = len(m.numbers) + 1
	}
	return fmt.Sprintf("[%s %d]", m.kind, m.numbers[key])
}

// replace marks all names, the learnt ones and more, wherever they stand by themselves.
func (m *marks) replace(text string, more []string) string {
	names := slices.DeleteFunc(append(slices.Clone(more), m.names...), func(n string) bool {
		return n == "" || strings.HasPrefix(n, "[")
	})
	slices.SortFunc(names, func(a, b string) int { // the longest first: one may begin like another
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	names = slices.Compact(names)
	if len(names) == 0 {
		return text
	}
	for i, n := range names {
		names[i] = regexp.QuoteMeta(n)
	}
	whole := regexp.MustCompile(`(?i)(^|[^\pL\pN_])(` + strings.Join(names, "|") + `)`)
	var b strings.Builder
	for {
		at := whole.FindStringSubmatchIndex(text)
		if at == nil {
			return b.String() + text
		}
		from, to := at[4], at[5]
		if continues(text[to:]) { // a part of a longer word
			b.WriteString(text[:to])
		} else {
			b.WriteString(text[:from] + m.mark(text[from:to]))
		}
		text = text[to:]
	}
}

var wordBegin = regexp.MustCompile(`^[\pL\pN_]`)

func continues(rest string) bool { return wordBegin.MatchString(rest) }

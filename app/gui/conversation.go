package gui

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"wayfarer/app"
)

// What the engine logs of messages: package ike writes these records.
const (
	sentRecord     = "sent message"
	receivedRecord = "received message"
	resentRecord   = "resending"
	payloadKey     = "payload_"
	morePayloads   = "more_payloads"
)

// message is one of a conversation with a gateway, or a remark of the engine's between
// two of them.
type message struct {
	at    time.Time
	grave string // the level of a remark; empty: this is a message
	text  string // of a remark

	sent      bool
	first     bool   // an attempt begins with it
	exchange  string // as the log names it: ID_PROT
	id        string // the message ID, hexadecimal; all zeros in phase 1
	encrypted bool
	payloads  []string // what is in them, on a line each: "KE 256 bytes"
	resent    int      // how often it was sent again
}

// conversation finds the messages of a connection in the log, which must be in order.
func conversation(records []*app.LogRecord, connection string) []message {
	var all []message
	last := -1 // of those that were sent
	for _, r := range records {
		switch {
		case r.Connection != connection:
		case r.Message == sentRecord || r.Message == receivedRecord:
			m := messageOf(r)
			if m.sent {
				last = len(all)
			}
			all = append(all, m)
		case r.Message == resentRecord && last >= 0:
			all[last].resent++
		case r.Level != "debug" && r.Level != "trace":
			all = append(all, message{at: r.Time, grave: r.Level, text: logText(&app.LogRecord{Message: r.Message, Attributes: r.Attributes})})
		}
	}
	return all
}

func messageOf(r *app.LogRecord) message {
	m := message{
		at: r.Time, sent: r.Message == sentRecord, exchange: plainLine(r.Attributes["exchange"]),
		id: plainLine(r.Attributes["mid"]), encrypted: r.Attributes["encrypted"] == "true",
	}
	for _, key := range slices.Sorted(maps.Keys(r.Attributes)) {
		if strings.HasPrefix(key, payloadKey) {
			m.payloads = append(m.payloads, strings.Join(strings.Fields(plain(r.Attributes[key])), " "))
		}
	}
	if n, err := strconv.Atoi(r.Attributes[morePayloads]); err == nil {
		m.payloads = append(m.payloads, fmt.Sprintf("… %d", n))
	}
	m.first = m.sent && !m.encrypted && m.phase1() && len(m.payloads) > 0 && strings.HasPrefix(m.payloads[0], "SA ")
	return m
}

func (m *message) phase1() bool { return m.exchange == "ID_PROT" || m.exchange == "AGGRESSIVE" }

// conversations lists the connections that the log tells messages of, the newest first.
func conversations(records []*app.LogRecord) []string {
	var ids []string
	for _, r := range slices.Backward(records) {
		if told := r.Message == sentRecord || r.Message == receivedRecord; told && !slices.Contains(ids, r.Connection) {
			ids = append(ids, r.Connection)
		}
	}
	return ids
}

// exchangeTitles are the names of RFC 2408 §3.1, RFC 2409 §5 and the drafts of
// Mode-Config. They are not translated.
var exchangeTitles = map[string]string{
	"ID_PROT": "Main Mode", "AGGRESSIVE": "Aggressive Mode", "TRANSACTION": "Transaction",
	"QUICK_MODE": "Quick Mode", "INFORMATIONAL": "Informational",
}

// title is the exchange, with the message ID where there is one.
func (m *message) title() string {
	name, ok := exchangeTitles[m.exchange]
	if !ok {
		name = m.exchange
	}
	if m.phase1() || m.id == "" {
		return name
	}
	return name + " " + m.id
}

// summary is the payloads in the standard's short words, as in "SA KE No V×5".
func (m *message) summary() string {
	var words []string
	var times []int
	for _, p := range m.payloads {
		if w := shortPayload(p); len(words) > 0 && words[len(words)-1] == w {
			times[len(times)-1]++
		} else {
			words, times = append(words, w), append(times, 1)
		}
	}
	for i, n := range times {
		if n > 1 {
			words[i] += fmt.Sprintf("×%d", n)
		}
	}
	return strings.Join(words, " ")
}

// shortPayload is the payload's name, and of a notification or of settings its kind.
func shortPayload(p string) string {
	words := strings.Fields(p)
	switch {
	case len(words) > 2 && words[0] == "N":
		return "N(" + words[2] + ")"
	case len(words) > 1 && words[0] == "ATTR":
		return "ATTR(" + words[1] + ")"
	case len(words) == 0:
		return ""
	}
	return words[0]
}

// details is what is in a message, on a line a payload.
func (m *message) details() string {
	if m.grave != "" {
		return m.text
	}
	return strings.Join(m.payloads, "\n")
}

// conversationText is a conversation to be copied and saved.
func conversationText(all []message) string {
	var b strings.Builder
	for i := range all {
		m := &all[i]
		if m.first && i > 0 {
			b.WriteString("\n")
		}
		stamp := m.at.Local().Format("15:04:05.000")
		switch {
		case m.grave != "":
			fmt.Fprintf(&b, "%s  %s %s\n", stamp, strings.ToUpper(m.grave), m.text)
			continue
		case m.sent:
			fmt.Fprintf(&b, "%s  ---> %s", stamp, m.title())
		default:
			fmt.Fprintf(&b, "%s  <--- %s", stamp, m.title())
		}
		if m.encrypted {
			b.WriteString(" *") // as the standard marks it: HDR*
		}
		if m.resent > 0 {
			fmt.Fprintf(&b, " (×%d)", m.resent+1)
		}
		b.WriteString("\n")
		for _, p := range m.payloads {
			fmt.Fprintf(&b, "              %s\n", p)
		}
	}
	return b.String()
}

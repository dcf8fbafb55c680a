package gui

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of text from elsewhere, in characters.
const (
	maxText  = 4000 // a banner, a challenge
	maxLines = 60   // of it
	maxLine  = 300  // a name, a fingerprint, a host
)

// plain makes text from elsewhere harmless to show: no control characters but line
// breaks, nothing that is invisible or changes the direction of writing, of bounded
// length.
func plain(text string) string {
	var b strings.Builder
	chars, lines := 0, 1
	for _, r := range text {
		switch {
		case r == '\t':
			r = ' '
		case r == '\n':
			lines++
		case r == utf8.RuneError:
			r = '\ufffd'
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r), r == '\u2028', r == '\u2029':
			continue
		}
		if chars++; chars > maxText || lines > maxLines {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// plainLine is plain text on one line.
func plainLine(text string) string {
	line := []rune(strings.Join(strings.Fields(plain(text)), " "))
	if len(line) > maxLine {
		return string(line[:maxLine]) + "…"
	}
	return string(line)
}

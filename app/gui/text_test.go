package gui

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlain(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"Welcome", "Welcome"},
		{"two\r\nlines\tand a tab", "two\nlines and a tab"},
		{"\x1b[31mred\x1b[0m\x07", "[31mred[0m"},
		{"abc\u202edcb\u202c\u2066x\u2069\u200f", "abcdcbx"},
		{"zero\u200bwidth\ufeff\u00ad", "zerowidth"},
		{"para\u2029graph\u2028s", "paragraphs"},
		{"priv\ue000ate", "private"},
		{"[a](http://b) <b>*x*</b>", "[a](http://b) <b>*x*</b>"}, // shown as it is
		{"Grüße, 日本", "Grüße, 日本"},
		{"bad\xff\xfe", "bad\ufffd\ufffd"},
		{" \n ", ""},
	} {
		if got := plain(tt.in); got != tt.want {
			t.Errorf("plain(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestPlainIsBounded(t *testing.T) {
	long := plain(strings.Repeat("ä", 10*maxText))
	if n := utf8.RuneCountInString(long); n != maxText+1 || !strings.HasSuffix(long, "ä…") {
		t.Errorf("%d characters, ends with %q", n, long[len(long)-8:])
	}
	if n := strings.Count(plain(strings.Repeat("a\n", 10*maxLines)), "\n"); n > maxLines {
		t.Errorf("%d lines", n)
	}
	if got := plainLine("one\ntwo\t three\r\n"); got != "one two three" {
		t.Errorf("got %q", got)
	}
	if n := utf8.RuneCountInString(plainLine(strings.Repeat("x", 10*maxLine))); n != maxLine+1 {
		t.Errorf("%d characters in a line", n)
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a\u202eb\x00\xffc\n\n\td")
	f.Fuzz(func(t *testing.T, text string) {
		got := plain(text)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\x1b\r\t\u202e\u2066\u200b") {
			t.Errorf("%q became %q", text, got)
		}
		if plain(got) != got && utf8.RuneCountInString(got) <= maxText && strings.Count(got, "\n") < maxLines {
			t.Errorf("not stable: %q, %q", got, plain(got))
		}
	})
}

// A full stop is added where there is none, Japanese ones count.
func TestSentence(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "",
		"it did not work":  "It did not work.",
		"it did not work.": "It did not work.",
		"動きません。":           "動きません。",
	} {
		if got := sentence(in); got != want {
			t.Errorf("sentence(%q) = %q, not %q", in, got, want)
		}
	}
}

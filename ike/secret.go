package ike

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a password or key. It prints and logs as "[secret]".
type Secret []byte

const redacted = "[secret]"

func (s Secret) String() string { return redacted }

// Format keeps package fmt from showing the bytes, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue keeps log/slog from showing the bytes.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps encoders from showing the bytes.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Zero overwrites the secret.
func (s Secret) Zero() { clear(s) }

// Clone returns a copy that outlives a Zero of s. Nil stays nil.
func (s Secret) Clone() Secret {
	if s == nil {
		return nil
	}
	return append(Secret{}, s...)
}

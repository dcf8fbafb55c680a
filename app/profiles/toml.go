package profiles

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"wayfarer/app"
)

// Version is the version of the TOML form that this program reads and writes.
const Version = 1

// SyntaxError says where a profile cannot be read.
type SyntaxError struct {
	Line, Column int // from 1
	Detail       string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Detail)
}

// Decode reads the TOML form of a profile. An unknown key is an error, a *SyntaxError
// as everything that is wrong at a certain place; so is a profile of a newer version.
func Decode(data []byte) (*app.Profile, error) {
	var p app.Profile
	if err := Unmarshal(data, &p); err != nil {
		return nil, err
	}
	return &p, CheckVersion(&p)
}

// Encode writes the TOML form of a profile: what differs from the defaults.
func Encode(p *app.Profile) ([]byte, error) {
	out := *p
	out.Version = Version
	return toml.Marshal(&out)
}

// CheckVersion refuses a profile of a newer version, and sets the version of one that
// has none.
func CheckVersion(p *app.Profile) error {
	if p.Version > Version || p.Version < 0 {
		return fmt.Errorf("version %d of a profile is not known, only %d: the program is too old for it", p.Version, Version)
	}
	p.Version = Version
	return nil
}

// Unmarshal is toml.Unmarshal, strictly: an unknown key is an error. What is wrong at a
// certain place is a *SyntaxError.
func Unmarshal(data []byte, v any) error {
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(v)
	if err == nil {
		return nil
	}
	if unknown := (*toml.StrictMissingError)(nil); errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := unknown.Errors[0]
		line, column := first.Position()
		return &SyntaxError{line, column, fmt.Sprintf("unknown key %q", strings.Join(first.Key(), "."))}
	}
	if malformed := (*toml.DecodeError)(nil); errors.As(err, &malformed) {
		line, column := malformed.Position()
		return &SyntaxError{line, column, strings.TrimPrefix(malformed.Error(), "toml: ")}
	}
	return err
}

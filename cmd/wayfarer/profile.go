package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"wayfarer/app"
	"wayfarer/ike"
)

// maxMaterial bounds a certificate file; a whole bundle of public CAs fits.
const maxMaterial = 512 << 10

// profileKeys are the keys of a profile's TOML form, as --set takes them, with the
// index of their field.
var profileKeys = func() map[string]int {
	keys := map[string]int{}
	t := reflect.TypeFor[app.Profile]()
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("toml"), ",")
		keys[key] = i
	}
	return keys
}()

// setKey sets one key of p from its text; lists are separated by commas.
func setKey(p *app.Profile, key, text string) error {
	i, ok := profileKeys[key]
	if !ok {
		return fmt.Errorf("a profile has no key %q", key)
	}
	switch field := reflect.ValueOf(p).Elem().Field(i); field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		value, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(value)
	case reflect.Int:
		value, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no number", text)
		}
		field.SetInt(int64(value))
	case reflect.Slice:
		field.Set(reflect.ValueOf(splitList(text)))
	}
	return nil
}

// splitList splits a list at its commas; empty parts are none.
func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// readMaterial replaces the paths of certificate files by what is in them: the
// service reads no files of users.
func readMaterial(p *app.Profile) error {
	fields := []*string{&p.Certificate, &p.Key}
	p.CA = slices.Clone(p.CA)
	for i := range p.CA {
		fields = append(fields, &p.CA[i])
	}
	for _, field := range fields {
		if *field == "" || strings.Contains(*field, "-----BEGIN ") {
			continue
		}
		text, err := readPEM(*field)
		if err != nil {
			return err
		}
		*field = text
	}
	return nil
}

// readPEM reads a file with PEM texts, or with one certificate in DER.
func readPEM(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", usage(reason(err), "check the path of the certificate")
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxMaterial+1))
	switch {
	case err != nil:
		return "", usage(reason(err), "")
	case len(data) > maxMaterial:
		return "", usage(fmt.Sprintf("%s is larger than %d bytes", path, maxMaterial), "give only the CAs that are needed")
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return string(data), nil
	}
	if _, err := x509.ParseCertificate(data); err != nil {
		return "", usage(path+" is neither PEM nor a certificate in DER", "")
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: data})), nil
}

// checks are what is known to be wrong without asking the service, by the key of
// the profile. What the service cannot do it says itself.
var checks = []struct {
	key   string
	check func(*app.Profile) error
}{
	{"gateway", func(p *app.Profile) error { return needed(p.Gateway, "give a saved profile or --gateway") }},
	{"auth", func(p *app.Profile) error { return oneOf(p.Auth, authMethods) }},
	{"login", func(p *app.Profile) error {
		if !needsPassword(p) {
			return nil
		}
		return needed(p.Login, "give --login")
	}},
	{"exchange", func(p *app.Profile) error { return oneOf(p.Exchange, exchanges) }},
	{"remote_id", func(p *app.Profile) error { return identity(p.RemoteID) }},
	{"local_id", func(p *app.Profile) error { return identity(p.LocalID) }},
	{"ca", checkCA},
	{"pin", checkPin},
	{"ike", func(p *app.Profile) error { return each(p.IKE, ike.ParseIKESuite) }},
	{"esp", func(p *app.Profile) error { return each(p.ESP, ike.ParseESPSuite) }},
	{"allow_weak", func(p *app.Profile) error {
		_, err := ike.ParseWeak(p.AllowWeak)
		return err
	}},
}

// Values of enumerated keys.
var (
	authMethods = []string{"hybrid", "xauth-psk", "xauth-rsa", "psk", "rsa"}
	exchanges   = []string{"auto", "main", "aggressive"}
)

// check runs checks; an error is a usage failure that names the key. It brings the
// pin into its canonical form.
func check(p *app.Profile) error {
	for _, row := range checks {
		if err := row.check(p); err != nil {
			return usage(fmt.Sprintf("%s: %v", row.key, err), "")
		}
	}
	return nil
}

// notYet is the failure of what has no place in a request yet.
func notYet(what string) *app.Failure {
	return usage(what+" is not supported yet", "leave it out")
}

// needsPassword says whether the user signs in by XAUTH.
func needsPassword(p *app.Profile) bool { return p.Auth != "psk" && p.Auth != "rsa" }

func needed(value, what string) error {
	if value == "" {
		return errors.New("missing; " + what)
	}
	return nil
}

func oneOf(value string, values []string) error {
	if value == "" || slices.Contains(values, value) {
		return nil
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(values, ", "))
}

func identity(text string) error {
	if text == "" {
		return nil
	}
	_, err := ike.ParseIdentity(text)
	return err
}

func each[T any](names []string, parse func(string) (T, error)) error {
	for _, name := range names {
		if _, err := parse(name); err != nil {
			return err
		}
	}
	return nil
}

// checkCA: each text holds certificates, all of which can be read.
func checkCA(p *app.Profile) error {
	for _, text := range p.CA {
		found := false
		for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return fmt.Errorf("a certificate cannot be read: %w", err)
			}
			found = true
		}
		if !found {
			return errors.New("a file holds no certificate")
		}
	}
	return nil
}

// checkPin takes a fingerprint also as other programs write it, with colons.
func checkPin(p *app.Profile) error {
	pin := strings.ToLower(strings.ReplaceAll(p.Pin, ":", ""))
	if raw, err := hex.DecodeString(pin); p.Pin != "" && (err != nil || len(raw) != 32) {
		return fmt.Errorf("%q is no SHA-256 in hexadecimal (64 digits)", p.Pin)
	}
	p.Pin = pin
	return nil
}

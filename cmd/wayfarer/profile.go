package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"wayfarer/app"
	"wayfarer/ike"
)

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

// checks are what is known to be wrong without asking the service, by the key of
// the profile. What the service cannot do it says itself.
var checks = []struct {
	key   string
	check func(*app.Profile) error
}{
	{"gateway", func(p *app.Profile) error { return needed(p.Gateway, "give a saved profile or --gateway") }},
	{"auth", func(p *app.Profile) error { return oneOf(p.Auth, app.AuthMethods()) }},
	{"login", func(p *app.Profile) error {
		if method, _ := p.AuthMethod(); !method.Login {
			return nil
		}
		return needed(p.Login, "give --login")
	}},
	{"exchange", func(p *app.Profile) error { return oneOf(p.Exchange, exchanges) }},
	{"remote_id", func(p *app.Profile) error { return identity(p.RemoteID) }},
	{"local_id", func(p *app.Profile) error { return identity(p.LocalID) }},
	{"ca", checkCA},
	{"certificate", checkCertificate},
	{"key", checkKey},
	{"pin", checkPin},
	{"ike", func(p *app.Profile) error { return each(p.IKE, ike.ParseIKESuite) }},
	{"esp", func(p *app.Profile) error { return each(p.ESP, ike.ParseESPSuite) }},
	{"allow_weak", func(p *app.Profile) error {
		return each(p.AllowWeak, func(name string) (struct{}, error) { return struct{}{}, oneOf(name, weaknesses()) })
	}},
}

// weaknesses are the values in that key.
func weaknesses() []string { return append(ike.WeakAll.Names(), "all") }

// exchanges are the values of that key.
var exchanges = []string{"auto", "main", "aggressive"}

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
		if _, err := app.ParseCertificates([]byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// checkCertificate: a method that needs a certificate has one, and no other has. A
// private key stays in its file: profiles are kept and shared.
func checkCertificate(p *app.Profile) error {
	switch method, _ := p.AuthMethod(); {
	case app.HoldsKey([]byte(p.Certificate)):
		return errors.New("it holds a private key; give the path of a file instead")
	case method.Certificate && p.Certificate == "":
		return fmt.Errorf("%s needs one; give --cert and --key", method.Name)
	case !method.Certificate && p.Certificate != "":
		return fmt.Errorf("%s has no use for it; give --auth xauth-rsa or rsa", method.Name)
	}
	return nil
}

func checkKey(p *app.Profile) error {
	switch {
	case app.IsPEM([]byte(p.Key)):
		return errors.New("the path of a file is expected, not the key itself")
	case p.Key != "" && p.Certificate == "":
		return errors.New("there is no certificate for it; give --cert")
	}
	return nil
}

// checkPin takes a fingerprint also as other programs write it, with colons.
func checkPin(p *app.Profile) error {
	pin := strings.ToLower(strings.ReplaceAll(p.Pin, ":", ""))
	if raw, err := hex.DecodeString(pin); p.Pin != "" && (err != nil || len(raw) != 32) {
		return fmt.Errorf("%q is no SHA-256 of a certificate: 64 hexadecimal digits, with or without colons", p.Pin)
	}
	p.Pin = pin
	return nil
}

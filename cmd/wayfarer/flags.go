package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// defaultTimeout is how long an attempt may take; the person's thinking is not
// counted.
const defaultTimeout = time.Minute

// connectFlags are the flags of every command that connects.
type connectFlags struct {
	set             []string
	passwordFile    string
	groupSecretFile string
	trustNew        bool
	noReconnect     bool
	timeout         time.Duration
	flags           *pflag.FlagSet
}

// profileFlags are the flags that set one key of the profile each. The word in back
// quotes is the value's name in the help text; a flag without one is a switch.
var profileFlags = []struct {
	flag, key, usage string
}{
	{"gateway", "gateway", "`HOST[:PORT]` of the gateway; several, separated by commas, are tried in turn"},
	{"login", "login", "sign in as `USER`"},
	{"auth", "auth", "authentication `METHOD`: hybrid, xauth-psk, xauth-rsa, psk or rsa (default hybrid)"},
	{"exchange", "exchange", "phase 1 `MODE`: auto, main or aggressive (default auto)"},
	{"ca", "ca", "trust gateways with a certificate of the CA in `FILE` (repeatable)"},
	{"pin", "pin", "trust the gateway whose certificate has this SHA-256: `SHA256HEX`"},
	{"system-roots", "system_roots", "trust the CAs of the operating system"},
	{"remote-id", "remote_id", "the `ID` that the gateway must have"},
	{"local-id", "local_id", "the `ID` of this side (default: the group, the certificate's subject, or its address)"},
	{"group-id", "group_id", "the `ID` of the group: its name"},
	{"cert", "certificate", "`FILE` with the user's certificate: PEM, or PKCS #12 with the key"},
	{"key", "key", "`FILE` with the key of the user's certificate: PEM without a passphrase"},
	{"allow-weak", "allow_weak", "`LIST` of weaknesses to accept: 3des, md5, modp1024, modp1536, rsa1024, sha1-cert, expired, psk-aggressive, all"},
	{"esp", "esp", "`LIST` of suites for data, as in aes256gcm16 (default: all that are strong)"},
	{"ike", "ike", "`LIST` of suites for the negotiation, as in aes256-sha256-modp2048"},
	{"local-network", "local_network", "reach the local network although all traffic goes to the gateway"},
	{"block-outside", "block_outside", "let nothing past the gateway, also while reconnecting"},
}

// addConnectFlags gives cmd the flags that say how to connect.
func addConnectFlags(cmd *cobra.Command) *connectFlags {
	f := addProfileFlags(cmd)
	f.flags.BoolVar(&f.trustNew, "trust-new", false, "trust an unknown gateway without asking")
	f.flags.BoolVar(&f.noReconnect, "no-reconnect", false, "end the connection when it is lost")
	f.flags.DurationVar(&f.timeout, "timeout", defaultTimeout, "`TIME` that connecting may take, as in 60s")
	completeFlag(cmd, "timeout", cobra.NoFileCompletions)
	return f
}

// addProfileFlags gives cmd those of them that describe a profile.
func addProfileFlags(cmd *cobra.Command) *connectFlags {
	f := &connectFlags{flags: cmd.Flags(), timeout: defaultTimeout}
	f.flags.SortFlags = false // the order of importance
	for _, row := range profileFlags {
		switch {
		case !strings.Contains(row.usage, "`"):
			f.flags.Bool(row.flag, false, row.usage)
		case row.flag == "ca":
			f.flags.StringArray(row.flag, nil, row.usage)
		default:
			f.flags.String(row.flag, "", row.usage)
		}
	}
	f.flags.StringArrayVar(&f.set, "set", nil, "`KEY=VALUE` for any key of a profile (repeatable)")
	f.flags.StringVar(&f.passwordFile, "password-file", "", "`FILE` with the password; - is standard input")
	f.flags.StringVar(&f.groupSecretFile, "group-secret-file", "", "`FILE` with the group's secret; - is standard input")
	completeProfileFlags(cmd)
	return f
}

// entry is what a command line describes: the saved profile of this name, if any,
// with what the flags change about it, checked. The caller zeroises it.
func (f *connectFlags) entry(e *env, name string) (*store.Entry, error) {
	if f.passwordFile == "-" && f.groupSecretFile == "-" {
		return nil, usage("--password-file and --group-secret-file cannot both be standard input", "give a file for one of them")
	}
	if f.timeout <= 0 {
		return nil, usage("--timeout must be more than zero", "as in --timeout 60s")
	}
	entry := &store.Entry{}
	if name != "" {
		var err error
		if entry, err = e.load(name); err != nil {
			return nil, err
		}
	}
	if err := f.apply(&entry.Profile); err != nil {
		return nil, err
	}
	if err := profiles.ReadCAs(&entry.Profile); err != nil {
		return nil, usage(reason(err), "check --ca")
	}
	if err := check(&entry.Profile); err != nil {
		return nil, err
	}
	return entry, f.checkSecrets(&entry.Profile)
}

// checkSecrets refuses secrets that the profile's method has no use for.
func (f *connectFlags) checkSecrets(p *app.Profile) error {
	method, _ := p.AuthMethod() // check has seen that there is one
	switch {
	case f.passwordFile != "" && !method.Login:
		return usage(fmt.Sprintf("--password-file: %s has no use for a password", method.Name), "leave it out")
	case f.groupSecretFile != "" && method.GroupSecret == app.NotUsed:
		return usage(fmt.Sprintf("--group-secret-file: %s has no use for a secret", method.Name), "leave it out")
	}
	return nil
}

// apply sets in p what was given on the command line; a flag of its own wins over
// --set.
func (f *connectFlags) apply(p *app.Profile) error {
	for _, assignment := range f.set {
		key, value, ok := strings.Cut(assignment, "=")
		if !ok {
			return usage(fmt.Sprintf("--set %s: KEY=VALUE is expected", assignment), "")
		}
		if err := setKey(p, key, value); err != nil {
			return usage(fmt.Sprintf("--set %s: %v", key, err), "")
		}
	}
	for _, row := range profileFlags {
		flag := f.flags.Lookup(row.flag)
		if !flag.Changed {
			continue
		}
		if files, ok := flag.Value.(pflag.SliceValue); ok {
			p.CA = files.GetSlice()
			continue
		}
		if row.flag == "group-id" && flag.Value.String() == "" {
			return usage("--group-id: the group's name is empty", "")
		}
		if err := setKey(p, row.key, flag.Value.String()); err != nil {
			return usage(fmt.Sprintf("--%s: %v", row.flag, err), "")
		}
	}
	return nil
}

// forManaged says whether the command line says nothing about a profile but its name and
// what the administrator leaves to others.
func (f *connectFlags) forManaged() bool {
	only := true
	f.flags.Visit(func(flag *pflag.Flag) { only = only && slices.Contains(forManaged, flag.Name) })
	return only
}

// unsavedError: the user's keyring has no profile of a name, or there is none.
type unsavedError struct{ *app.Failure }

// Unwrap gives the failure to tell.
func (e *unsavedError) Unwrap() error { return e.Failure }

// load reads a saved profile. The error may be an *unsavedError.
func (e *env) load(name string) (*store.Entry, error) {
	saved, err := e.profiles()
	if err != nil { // a script has no home, perhaps
		return nil, &unsavedError{app.NewFailure(app.CodeInternal, "", err.Error(), "")}
	}
	entry, err := saved.Load(name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, &unsavedError{usage(fmt.Sprintf("there is no saved profile %q", name), "save one with `wayfarer connect --gateway … --save NAME`")}
	case errors.Is(err, store.ErrNoKeyring):
		return nil, &unsavedError{noKeyring(err)}
	case err != nil:
		return nil, app.NewFailure(app.CodeInternal, "", fmt.Sprintf("profile %q: %v", name, err), "save it anew")
	}
	return entry, nil
}

func noKeyring(err error) *app.Failure {
	return app.NewFailure(app.CodeInternal, "", err.Error(), "unlock or start a keyring, or connect with --gateway and without --save")
}

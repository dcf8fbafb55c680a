package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

func newConnect(e *env) *cobra.Command {
	var save string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "connect [NAME]",
		Short: "Connect to a gateway",
		Long: "Connect with the saved profile NAME, or to the gateway that the flags describe. The connection\n" +
			"stays when the command ends; `wayfarer disconnect` ends it. NAME may also be a profile that the\n" +
			"administrator has placed for all users, about which --block-outside can be added and nothing\n" +
			"changed; a saved one of the same name comes first, unless this computer's policy allows the\n" +
			"administrator's only.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeProfiles,
	}
	flags := addConnectFlags(cmd)
	cmd.Flags().StringVar(&save, "save", "", "keep profile and secrets under `NAME` in the keyring, once connected")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the connection as JSON")
	completeFlag(cmd, "save", cobra.NoFileCompletions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		return e.connect(cmd.Context(), flags, name, save, asJSON)
	}
	return cmd
}

func (e *env) connect(ctx context.Context, flags *connectFlags, name, save string, asJSON bool) error {
	svc := e.service(e.socket)
	set, noService := e.setUp(ctx, svc)
	if noService == nil && set.Policy.ForbidAdding {
		return e.connectManaged(ctx, svc, flags, set, name, asJSON)
	}
	entry, err := flags.entry(e, name)
	if _, unsaved := errors.AsType[*unsavedError](err); unsaved {
		switch {
		case noService != nil && flags.forManaged():
			return noService
		case noService == nil && set.Find(name) != nil:
			return e.connectManaged(ctx, svc, flags, set, name, asJSON)
		}
	}
	if err != nil {
		return err
	}
	defer entry.Zero()
	if noService != nil {
		return noService // before anything is asked
	}
	if save != "" {
		entry.Profile.Name = save
		if err := e.canSave(&entry.Profile); err != nil {
			return err
		}
	}
	req, err := e.request(ctx, svc, flags, entry)
	if err != nil {
		return err
	}
	a, conn, err := e.establish(ctx, svc, req, flags.timeout)
	if err != nil {
		return err
	}
	e.showNew(conn, asJSON)
	switch {
	case save != "":
		return e.save(entry, conn, a.hasTrusted(conn), a.retyped)
	case name != "":
		return e.update(name, conn, a.hasTrusted(conn))
	}
	return nil
}

// showNew shows a new connection.
func (e *env) showNew(conn *app.Connection, asJSON bool) {
	if asJSON {
		printJSON(e.out, conn)
		return
	}
	showConnected(e.out, conn)
}

// hasTrusted says whether the gateway was unknown and is trusted now, by the person or by
// --trust-new: the service asks whether or not the profile has a CA.
func (a *attempt) hasTrusted(c *app.Connection) bool {
	return a.trusted || slices.ContainsFunc(c.Warnings, func(w app.Warning) bool { return w.Code == app.WarningTrustedNew })
}

// canSave finds out before connecting whether the profile can be saved under its name:
// another one of that name is never replaced. It takes over the pin that has been saved
// of the same profile, so that a changed gateway is refused rather than asked about.
func (e *env) canSave(p *app.Profile) error {
	if err := store.CheckName(p.Name); err != nil {
		return usage("--save: "+err.Error(), "")
	}
	absolute(&p.Certificate)
	absolute(&p.Key)
	saved, err := e.profiles()
	if err != nil {
		return noKeyring(err)
	}
	entry, err := saved.Load(p.Name)
	switch {
	case errors.Is(err, store.ErrNoKeyring):
		return noKeyring(err)
	case err != nil:
		return nil // there is none, or none that could be used
	}
	defer entry.Zero()
	pinned := *p
	if pinned.Pin == "" {
		pinned.Pin = entry.Profile.Pin
	}
	if same, err := sameProfile(&entry.Profile, &pinned); err != nil {
		return app.NewFailure(app.CodeInternal, "", err.Error(), "")
	} else if !same {
		return usage(fmt.Sprintf("--save: there is another profile %q already", p.Name), "choose another name")
	}
	*p = pinned
	return nil
}

// sameProfile compares what is kept of profiles.
func sameProfile(a, b *app.Profile) (bool, error) {
	first, err := profiles.Encode(a)
	if err != nil {
		return false, err
	}
	second, err := profiles.Encode(b)
	return bytes.Equal(first, second), err
}

// save stores the entry of a new connection, with its password unless the gateway
// forbids that, or has asked for another: which of the two is the right one, and whether
// the second serves twice, only the person knows.
func (e *env) save(entry *store.Entry, conn *app.Connection, trusted, retyped bool) error {
	entry.Learn(conn, trusted)
	if retyped {
		entry.ForgetPassword()
	}
	if err := e.store(entry); err != nil {
		return err
	}
	fmt.Fprintf(e.err, "Saved: `wayfarer connect %s` connects again.\n", entry.Profile.Name)
	switch {
	case store.ForbidsSaving(conn):
		fmt.Fprintln(e.err, "The password was not saved: the gateway forbids it.")
	case retyped:
		fmt.Fprintln(e.err, "The password was not saved: the gateway asked for another one.")
	}
	return nil
}

// update brings a saved profile up to date with what the connection has shown. What
// else the command line said was for this time only.
func (e *env) update(name string, conn *app.Connection, trusted bool) error {
	if !trusted && !store.ForbidsSaving(conn) {
		return nil
	}
	entry, err := e.load(name)
	if err != nil {
		return err
	}
	defer entry.Zero()
	if !entry.Learn(conn, trusted) {
		return nil
	}
	return e.store(entry)
}

// absolute makes the path of a file one that holds wherever the profile is used.
func absolute(path *string) {
	if *path == "" || app.IsPEM([]byte(*path)) {
		return
	}
	if whole, err := filepath.Abs(*path); err == nil { // else the working directory is gone
		*path = whole
	}
}

func (e *env) store(entry *store.Entry) error {
	saved, err := e.profiles()
	if err == nil {
		err = saved.Save(entry)
	}
	if err != nil {
		return app.NewFailure(app.CodeInternal, "", "connected, but the profile could not be saved: "+err.Error(), "")
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

func newProfile(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Manage saved profiles",
		Long: "Manage the profiles that are saved in your keyring, the same ones that the window shows.\n" +
			"Passwords and group secrets are saved with them, and never shown.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // so that cobra looks at Args
	}
	cmd.AddCommand(
		newProfileList(e),
		newProfileShow(e),
		newProfileAdd(e),
		newProfileEdit(e),
		newProfileRemove(e),
		newProfileRename(e),
		newProfileImport(e),
		newProfileExport(e),
	)
	return cmd
}

func newProfileList(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List the saved profiles, and the administrator's",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return e.profileList(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

// shownProfile is a profile as JSON shows it: what is saved with it, but no secret.
type shownProfile struct {
	app.Profile
	PasswordSaved    bool   `json:"password_saved"`
	GroupSecretSaved bool   `json:"group_secret_saved"`
	Managed          bool   `json:"managed,omitzero"` // the administrator has placed it
	Error            string `json:"error,omitzero"`   // of one that cannot be read
}

// shownEntry is what can be shown of an entry, which it zeroises.
func shownEntry(entry *store.Entry) shownProfile {
	defer entry.Zero()
	return shownProfile{Profile: entry.Profile, PasswordSaved: len(entry.Password) > 0, GroupSecretSaved: len(entry.GroupSecret) > 0}
}

// shownManaged is what can be shown of a profile of the administrator's.
func shownManaged(p *app.ManagedProfile) shownProfile {
	return shownProfile{Profile: p.Profile, PasswordSaved: p.PasswordSaved, GroupSecretSaved: p.GroupSecretSaved, Managed: true}
}

func (e *env) profileList(ctx context.Context, asJSON bool) error {
	set := e.placed(ctx)
	saved, names, err := e.savedNames()
	if err != nil && len(set.Profiles) == 0 {
		return err
	}
	if err != nil {
		fmt.Fprintf(e.err, "Warning: %v\n", err)
	}
	list := make([]shownProfile, 0, len(names)+len(set.Profiles))
	for _, name := range names {
		entry, err := saved.Load(name)
		if err != nil {
			list = append(list, shownProfile{Profile: app.Profile{Name: name}, Error: err.Error()})
			continue
		}
		list = append(list, shownEntry(entry))
	}
	for i := range set.Profiles {
		list = append(list, shownManaged(&set.Profiles[i]))
	}
	if asJSON {
		printJSON(e.out, struct {
			Profiles []shownProfile `json:"profiles"`
			Policy   app.Policy     `json:"policy,omitzero"`
		}{list, set.Policy})
		return nil
	}
	showProfiles(e.out, list)
	showPolicy(e.out, set.Policy)
	return nil
}

func showProfiles(w io.Writer, list []shownProfile) {
	if len(list) == 0 {
		fmt.Fprintln(w, "No profiles are saved.")
	}
	var t table
	for _, p := range list {
		what := p.Gateway
		switch {
		case p.Error != "":
			what = "cannot be read: " + p.Error
		case p.Login != "":
			what = p.Login + " at " + p.Gateway
		}
		if p.Managed {
			what += ", the administrator's"
		}
		t.row(plainLine(p.Name), what)
	}
	t.write(w)
}

// savedNames lists the saved profiles.
func (e *env) savedNames() (*store.Store, []string, error) {
	saved, err := e.profiles()
	if err != nil {
		return nil, nil, app.NewFailure(app.CodeInternal, "", err.Error(), "")
	}
	names, err := saved.Names()
	return saved, names, storeFailure(err)
}

// storeFailure is an error of the store as a failure; nil stays nil.
func storeFailure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExists):
		return usage(err.Error(), "see `wayfarer profile list`")
	case errors.Is(err, store.ErrNoKeyring):
		return app.NewFailure(app.CodeInternal, "", err.Error(), "unlock or start a keyring")
	}
	return app.NewFailure(app.CodeInternal, "", err.Error(), "")
}

func newProfileShow(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a saved profile",
		Long: "Show a saved profile as `wayfarer profile edit` has it: what differs from the defaults. Of password\n" +
			"and group secret it only says whether they are saved.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: e.completeProfiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.profileShow(cmd.Context(), args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (e *env) profileShow(ctx context.Context, name string, asJSON bool) error {
	p, err := e.shown(ctx, name)
	if err != nil {
		return err
	}
	if asJSON {
		printJSON(e.out, p)
		return nil
	}
	text, err := profiles.Encode(&p.Profile)
	if err != nil {
		return app.NewFailure(app.CodeInternal, "", err.Error(), "")
	}
	fmt.Fprint(e.out, plain(string(text)))
	for _, secret := range []struct {
		what  string
		saved bool
	}{{"password", p.PasswordSaved}, {"group's secret", p.GroupSecretSaved}} {
		if secret.saved {
			fmt.Fprintf(e.out, "# The %s is saved.\n", secret.what)
		}
	}
	if p.Managed {
		fmt.Fprintln(e.out, "# It is the administrator's: it cannot be changed here.")
	}
	return nil
}

// shown is the profile that `wayfarer connect` takes for the name: the user's or the
// administrator's.
func (e *env) shown(ctx context.Context, name string) (shownProfile, error) {
	set := e.placed(ctx)
	p := set.Find(name)
	if p != nil && set.Policy.ForbidAdding {
		return shownManaged(p), nil
	}
	entry, err := e.load(name)
	if err == nil {
		return shownEntry(entry), nil
	}
	if _, unsaved := errors.AsType[*unsavedError](err); unsaved && p != nil {
		return shownManaged(p), nil
	}
	return shownProfile{}, err
}

func newProfileRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Remove a saved profile, with its secrets",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: e.completeProfiles,
		RunE: func(_ *cobra.Command, args []string) error {
			saved, err := e.profiles()
			if err == nil {
				err = saved.Remove(args[0])
			}
			if err == nil {
				fmt.Fprintf(e.out, "Removed %s.\n", plainLine(args[0]))
			}
			return storeFailure(err)
		},
	}
}

func newProfileRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "rename NAME NEW-NAME",
		Short:             "Give a saved profile another name",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: e.completeProfiles,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := store.CheckName(args[1]); err != nil {
				return usage(err.Error(), "")
			}
			saved, err := e.profiles()
			if err == nil {
				err = saved.Rename(args[0], args[1])
			}
			if err == nil {
				fmt.Fprintf(e.out, "%s is now %s.\n", plainLine(args[0]), plainLine(args[1]))
			}
			return storeFailure(err)
		},
	}
}

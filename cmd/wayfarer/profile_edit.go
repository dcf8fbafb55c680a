package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

func newProfileAdd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Save a profile without connecting",
		Long: "Save a profile that the flags describe, as `wayfarer connect --save` does, without connecting.\n" +
			"A password that is not given is asked for at each connection.",
		Example:           "  wayfarer profile add office --gateway vpn.example.com --login ada",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := addProfileFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return e.profileAdd(cmd.Context(), flags, args[0])
	}
	return cmd
}

func (e *env) profileAdd(ctx context.Context, flags *connectFlags, name string) error {
	if err := store.CheckName(name); err != nil {
		return usage(err.Error(), "")
	}
	saved, names, err := e.savedNames()
	if err != nil {
		return err
	}
	if slices.Contains(names, name) {
		return usage(fmt.Sprintf("there is a profile %q already", name), fmt.Sprintf("change it with `wayfarer profile edit %s`", name))
	}
	entry, err := flags.entry(e, "")
	if err != nil {
		return err
	}
	defer entry.Zero()
	entry.Profile.Name = name
	if err := e.keep(ctx, saved, flags, entry); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "Saved: `wayfarer connect %s` connects.\n", plainLine(name))
	return nil
}

// keep saves an entry with the secrets that the flags name.
func (e *env) keep(ctx context.Context, saved *store.Store, flags *connectFlags, entry *store.Entry) error {
	if err := flags.readSecrets(ctx, e, entry); err != nil {
		return err
	}
	absolute(&entry.Profile.Certificate)
	absolute(&entry.Profile.Key)
	return storeFailure(saved.Save(entry))
}

func newProfileEdit(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change a saved profile",
		Long: "Change a saved profile: what the flags say or, without flags, in the editor that $VISUAL or $EDITOR\n" +
			"names. A profile that cannot be used is not saved; the editor opens again, if you want.",
		Example: "  wayfarer profile edit office\n" +
			"  wayfarer profile edit office --login bob --set mtu=1300",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: e.completeProfiles,
	}
	flags := addProfileFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().NFlag() > 0 {
			return e.profileSet(cmd.Context(), flags, args[0])
		}
		return e.profileEdit(cmd.Context(), args[0])
	}
	return cmd
}

// profileSet changes what the flags say.
func (e *env) profileSet(ctx context.Context, flags *connectFlags, name string) error {
	saved, err := e.profiles()
	if err != nil {
		return storeFailure(err)
	}
	entry, err := flags.entry(e, name)
	if err != nil {
		return err
	}
	defer entry.Zero()
	if entry.Profile.Name != name {
		return usage("--set name: this does not rename a profile", "use `wayfarer profile rename`")
	}
	if err := e.keep(ctx, saved, flags, entry); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "Saved %s.\n", plainLine(name))
	return nil
}

// profileEdit lets the person change the profile's text, until it is one that can be
// used or the person gives up.
func (e *env) profileEdit(ctx context.Context, name string) error {
	entry, err := e.load(name)
	if err != nil {
		return err
	}
	defer entry.Zero()
	if e.ask == nil {
		return usage("there is no terminal for an editor", "say what to change, as in --set KEY=VALUE")
	}
	before, err := profiles.Encode(&entry.Profile)
	if err != nil {
		return app.NewFailure(app.CodeInternal, "", err.Error(), "")
	}
	text := append([]byte(editorHelp(name)), before...)
	for {
		after, err := e.editText(ctx, text)
		if err != nil {
			return err
		}
		if bytes.Equal(after, text) || len(bytes.TrimSpace(after)) == 0 {
			fmt.Fprintln(e.out, "Nothing was changed.")
			return nil
		}
		changed, err := profiles.Decode(after)
		if err == nil {
			err = e.replace(name, entry, changed)
		}
		if err == nil {
			return nil
		}
		fmt.Fprintln(e.err, plainLine(err.Error()))
		if again, asked := e.ask.line(ctx, "Edit again? [Y/n] "); asked != nil || again != "" && !isYes(again) {
			return cancelled()
		}
		text = after
	}
}

// editorHelp stands above the text in the editor.
func editorHelp(name string) string {
	var keys []string
	for key := range profileKeys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	help := fmt.Sprintf("# Profile %s. Save and leave the editor to change it; an empty file changes nothing.\n"+
		"# What does not stand here has its default. All keys:\n#", plainLine(name))
	width := 0
	for _, key := range keys {
		if width += len(key) + 1; width > 80 {
			help, width = help+"\n#", len(key)+1
		}
		help += " " + key
	}
	return help + "\n\n"
}

// replace saves a changed profile in the place of the one of a name, with its secrets.
func (e *env) replace(name string, entry *store.Entry, changed *app.Profile) error {
	changed.Name = cmp.Or(changed.Name, name)
	if err := store.CheckName(changed.Name); err != nil {
		return err
	}
	if err := profiles.ReadCAs(changed); err != nil {
		return err
	}
	if err := check(changed); err != nil {
		return err
	}
	saved, err := e.profiles()
	if err != nil {
		return err
	}
	entry.Profile = *changed
	if err := saved.Replace(name, entry); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "Saved %s.\n", plainLine(changed.Name))
	return nil
}

// editText lets the person change a text, in a file that only this user can read.
func (e *env) editText(ctx context.Context, text []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "wayfarer-")
	if err != nil {
		return nil, app.NewFailure(app.CodeInternal, "", "no file to edit could be made: "+reason(err), "")
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "profile.toml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, app.NewFailure(app.CodeInternal, "", "no file to edit could be made: "+reason(err), "")
	}
	if err := e.edit(ctx, path); err != nil {
		return nil, app.NewFailure(app.CodeInternal, "", "the editor failed: "+err.Error(), "set VISUAL or EDITOR to one that works, or use --set")
	}
	after, err := os.ReadFile(path)
	if err != nil {
		return nil, app.NewFailure(app.CodeInternal, "", "the edited file cannot be read: "+reason(err), "")
	}
	return after, nil
}

// runEditor opens a file in the user's editor and waits until it is left.
func runEditor(_ context.Context, path string) error {
	fallback := "vi"
	if runtime.GOOS == "windows" {
		fallback = "notepad.exe"
	}
	command := strings.Fields(cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), fallback))
	if len(command) == 0 {
		return errors.New("VISUAL and EDITOR name none")
	}
	// Ctrl+C is for the editor: it is not ended with the context.
	cmd := exec.Command(command[0], append(command[1:], path)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

func newProfileImport(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Save the profiles of a file, also of other VPN clients",
		Long: "Save the profiles of a file: exported by Wayfarer, or by Cisco's VPN client (.pcf), Shrew's (.vpn),\n" +
			"Apple's systems (.mobileconfig), NetworkManager for vpnc, or vpnc (.conf). What is in the file, and what\n" +
			"could not be taken over, is shown first; on a terminal you are asked before anything is saved.\n" +
			"Weak algorithms that the file asks for are only allowed when you say so; without a terminal they are\n" +
			"not. - is standard input.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return e.profileImport(cmd.Context(), args[0]) },
	}
}

func (e *env) profileImport(ctx context.Context, path string) error {
	found, err := e.importFile(path)
	if unread := (*os.PathError)(nil); errors.As(err, &unread) {
		return usage("the file cannot be read: "+reason(err), "")
	}
	if err != nil {
		return usage(plainLine(path)+": "+err.Error(), "")
	}
	defer found.Zero()
	fmt.Fprintf(e.out, "%s: %s\n", plainLine(path), found.Format)
	for _, remark := range found.Remarks {
		fmt.Fprintln(e.out, "- "+plainLine(remark))
	}
	if len(found.Profiles) == 0 {
		return usage(plainLine(path)+": there is no profile in it that Wayfarer can use", "")
	}
	saved := 0
	for _, c := range found.Profiles {
		did, err := e.importOne(ctx, c)
		if err != nil {
			return err
		}
		if did {
			saved++
		}
	}
	if saved == 0 {
		return app.NewFailure(app.CodeCancelled, "", "nothing was saved", "")
	}
	return nil
}

// importFile reads the file to import, or standard input.
func (e *env) importFile(path string) (*store.Imported, error) {
	if path == "-" {
		return store.ReadImport(e.in, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return store.ReadImport(file, filepath.Base(path))
}

// importOne shows a profile and saves it, if the person wants it.
func (e *env) importOne(ctx context.Context, c *store.Candidate) (saved bool, err error) {
	profiles, names, err := e.savedNames()
	if err != nil {
		return false, err
	}
	c.Profile.Name = store.FreeName(c.Profile.Name, names)
	showCandidate(e.out, c)
	name := plainLine(c.Profile.Name)
	if e.ask != nil {
		answer, err := e.ask.line(ctx, fmt.Sprintf("Save it as %q? [Y/n] ", name))
		if err != nil {
			return false, cancelled()
		}
		if answer != "" && !isYes(answer) {
			return false, nil
		}
		if len(c.Weak) > 0 {
			answer, err := e.ask.line(ctx, fmt.Sprintf("Allow what is weak (%s)? Others may read what you send. [y/N] ", strings.Join(c.Weak, ", ")))
			if err != nil {
				return false, cancelled()
			}
			if isYes(answer) {
				c.AllowWeak()
			}
		}
	}
	if err := storeFailure(profiles.Adopt(c)); err != nil {
		return false, err
	}
	fmt.Fprintf(e.out, "Saved: `wayfarer connect %s` connects.\n", name)
	if len(c.Weak) > 0 && len(c.Profile.AllowWeak) == 0 {
		fmt.Fprintf(e.out, "What is weak is not allowed. If the gateway knows nothing better: wayfarer profile edit %s --allow-weak %s\n",
			name, strings.Join(c.Weak, ","))
	}
	return true, nil
}

// showCandidate shows what a file says of a profile. Secrets are only named.
func showCandidate(w io.Writer, c *store.Candidate) {
	p := &c.Profile
	var t table
	fmt.Fprintf(w, "\n%s\n", plainLine(p.Name))
	t.row("Gateway", p.Gateway)
	t.row("Login", p.Login)
	t.row("Method", p.Auth)
	t.row("Group", p.GroupID)
	t.row("Identity", p.LocalID)
	t.row("Gateway's identity", p.RemoteID)
	t.row("Trusted CA", authorities(p))
	t.row("Suites", strings.Join(append(p.IKE, p.ESP...), ", "))
	t.row("Networks", strings.Join(append(p.RemoteNetworks, p.RoutesAdd...), ", "))
	t.row("Not through the VPN", strings.Join(p.RoutesSkip, ", "))
	var secrets []string
	for _, secret := range []struct {
		what string
		in   []byte
	}{{"password", c.Password}, {"group's secret", c.GroupSecret}, {"certificate", c.Certificate}} {
		if len(secret.in) > 0 {
			secrets = append(secrets, secret.what)
		}
	}
	t.row("Also in the file", strings.Join(secrets, ", "))
	t.row("Weak", strings.Join(c.Weak, ", "))
	t.write(w)
	for _, remark := range c.Remarks {
		fmt.Fprintln(w, "- "+plainLine(remark))
	}
}

// authorities names the CAs of a profile.
func authorities(p *app.Profile) string {
	var names []string
	for _, text := range p.CA {
		certs, err := app.ParseCertificates([]byte(text))
		if err != nil {
			names = append(names, text) // the path of a file
		}
		for _, cert := range certs {
			names = append(names, cert.Subject.String())
		}
	}
	return strings.Join(names, "; ")
}

func newProfileExport(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "export NAME [FILE]",
		Short: "Write a saved profile, without its secrets",
		Long: "Write a saved profile as a file that `wayfarer profile import` and the window read, or to standard\n" +
			"output. Certificates are in it; password, group secret and private key are not.",
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveDefault // a file
			}
			return e.completeProfiles(cmd, args, typed)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			file := ""
			if len(args) > 1 {
				file = args[1]
			}
			return e.profileExport(args[0], file)
		},
	}
}

func (e *env) profileExport(name, file string) error {
	entry, err := e.load(name)
	if err != nil {
		return err
	}
	entry.Zero()
	outside, err := profiles.Embed(&entry.Profile)
	if err != nil {
		return usage(reason(err), "the profile names this file: put it back, or change the profile")
	}
	text, err := profiles.Encode(&entry.Profile)
	if err != nil {
		return app.NewFailure(app.CodeInternal, "", err.Error(), "")
	}
	for _, path := range outside {
		fmt.Fprintf(e.err, "%s is not in it: others need a file of their own.\n", plainLine(path))
	}
	if file == "" {
		_, err = e.out.Write(text)
	} else {
		err = writeNew(file, text)
	}
	if err != nil {
		return usage("the file cannot be written: "+reason(err), "")
	}
	return nil
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

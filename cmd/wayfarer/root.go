package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/app/control"
)

// newRoot is the tree of commands. Each row is a subcommand with a file of its own.
func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "wayfarer",
		Short: "VPN client for IPsec gateways",
		Long: "Wayfarer connects this computer to a company network through an IPsec gateway.\n\n" +
			"  wayfarer connect --gateway vpn.example.com --login ada\n" +
			"  wayfarer status\n" +
			"  wayfarer disconnect",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.PersistentFlags().StringVar(&e.socket, "socket", control.DefaultPath(), "where the service listens")
	root.AddCommand(
		newConnect(e),
		newDisconnect(e),
		newStatus(e),
		newProfile(e),
		newAnswer(e),
		newLogs(e),
		newRestoreNetwork(e),
		newSelftest(e),
		newVersion(e),
		newProxy(e),
		newDemo(e),
	)
	refuseUnknown(root)
	return root
}

// refuseUnknown makes the commands that cobra brings refuse what they do not know; they
// would show help, and call that success.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() } // so that cobra looks at Args
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return usage(fmt.Sprintf("unknown command %q", strings.Join(args, " ")), "see `wayfarer help`")
				}
				return nil
			}
		}
	}
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, e *env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	failure := failureOf(err, cmd)
	if slices.Contains(args, "--json") {
		printJSON(e.out, failure.Report())
	}
	fmt.Fprintln(e.err, errorLine(failure))
	return failure.Code.Exit()
}

// failureOf is err as a failure. What our commands return is one already; the rest
// is of cobra and about the command line.
func failureOf(err error, cmd *cobra.Command) *app.Failure {
	var failure *app.Failure
	if errors.As(err, &failure) {
		return failure
	}
	// What cobra suggests stands on lines of its own.
	first, more, _ := strings.Cut(err.Error(), "\n")
	hint := fmt.Sprintf("see `%s --help`", cmd.CommandPath())
	if _, similar, ok := strings.Cut(more, "Did you mean this?\n\t"); ok {
		similar, _, _ = strings.Cut(similar, "\n")
		hint = fmt.Sprintf("did you mean `%s %s`? %s", cmd.CommandPath(), similar, strings.ToUpper(hint[:1])+hint[1:])
	}
	return usage(first, hint)
}

func usage(message, hint string) *app.Failure {
	return app.NewFailure(app.CodeUsage, "", message, hint)
}

// errorLine is a failure as the one line for standard error.
func errorLine(f *app.Failure) string { return plainLine("wayfarer: " + failureText(f)) }

// failureText is a failure with its step.
func failureText(f *app.Failure) string {
	if words, ok := stepNames[f.Step]; ok {
		return words.failed + ": " + f.Error()
	}
	return f.Error()
}

// printJSON writes v as one line. Standard output that is gone is nobody to tell.
func printJSON(w io.Writer, v any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
}

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
		newAnswer(e),
		newLogs(e),
		newRestoreNetwork(e),
		newSelftest(e),
		newVersion(e),
		newProxy(e),
		newDemo(e),
	)
	return root
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
	first, _, _ := strings.Cut(err.Error(), "\n")
	return usage(first, fmt.Sprintf("see `%s --help`", cmd.CommandPath()))
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

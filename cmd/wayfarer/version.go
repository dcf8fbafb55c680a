package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"wayfarer/app"
)

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Show the version",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(e.out, "wayfarer %s %s/%s\n", app.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

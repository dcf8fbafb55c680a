package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"wayfarer/app"
)

func newStatus(e *env) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:               "status",
		Short:             "Show the connections",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return e.watch(cmd.Context(), asJSON)
			}
			status, err := e.service(e.socket).Status(cmd.Context())
			if err != nil {
				return err
			}
			e.showStatus(status, asJSON)
			if !asJSON {
				showPolicy(e.out, e.placed(cmd.Context()).Policy)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&watch, "watch", false, "show every change, until Ctrl+C")
	return cmd
}

// watch shows the status at once and after each change. Ctrl+C is its good end.
func (e *env) watch(ctx context.Context, asJSON bool) error {
	first := true
	for status, err := range e.service(e.socket).Watch(ctx) {
		if err != nil {
			return err
		}
		if !first && !asJSON {
			fmt.Fprintln(e.out)
		}
		first = false
		e.showStatus(status, asJSON)
	}
	return nil
}

func (e *env) showStatus(status *app.Status, asJSON bool) {
	if asJSON {
		printJSON(e.out, status)
		return
	}
	showStatus(e.out, status, e.now())
}

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"wayfarer/app"
)

func newDisconnect(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "disconnect [NAME]",
		Short: "End connections",
		Long: "End the connection NAME: a profile, a gateway, or an ID as status shows it. Without NAME: all of\n" +
			"yours; an administrator's ends everybody's.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeConnections(nameOf),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.disconnect(cmd.Context(), args)
		},
	}
}

func (e *env) disconnect(ctx context.Context, names []string) error {
	svc := e.service(e.socket)
	status, err := svc.Status(ctx)
	if err != nil {
		return err
	}
	ended := 0
	for i := range status.Connections {
		c := &status.Connections[i]
		if c.ID == "" || len(names) > 0 && !called(c, names[0]) {
			continue // of another user, or not meant
		}
		if err := svc.Disconnect(ctx, c.ID); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "Disconnected %s (%s).\n", plainLine(nameOf(c)), c.ID)
		ended++
	}
	switch {
	case ended == 0 && len(names) > 0:
		return usage(fmt.Sprintf("there is no connection %q", names[0]), "see `wayfarer status`")
	case ended == 0:
		fmt.Fprintln(e.out, "Not connected.")
	}
	return nil
}

// called says whether a connection goes by a name.
func called(c *app.Connection, name string) bool {
	return name == c.ID || name == c.Profile || c.Gateway != nil && name == c.Gateway.Host
}

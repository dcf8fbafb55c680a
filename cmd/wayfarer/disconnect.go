package main

import (
	"context"
	"errors"
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
	meant := 0
	var first error
	for i := range status.Connections {
		c := &status.Connections[i]
		if c.ID == "" || len(names) > 0 && !called(c, names[0]) {
			continue // of another user, or not meant
		}
		meant++
		err := svc.Disconnect(ctx, c.ID)
		if ctx.Err() != nil {
			return cancelled()
		}
		if err = e.tellEnd(c, err); first == nil {
			first = err
		} else if failure, ok := errors.AsType[*app.Failure](err); ok {
			fmt.Fprintln(e.err, errorLine(failure)) // the first is told last, by its exit code, too
		}
	}
	switch {
	case meant == 0 && len(names) > 0:
		return usage(fmt.Sprintf("there is no connection %q", names[0]), "see `wayfarer status`")
	case meant == 0:
		fmt.Fprintln(e.out, "Not connected.")
	}
	return first
}

// tellEnd says what became of a connection that was to end; err, which it returns with
// the connection's name, says why it did not end well.
func (e *env) tellEnd(c *app.Connection, err error) error {
	name := fmt.Sprintf("%s (%s)", plainLine(nameOf(c)), c.ID)
	failure, ok := errors.AsType[*app.Failure](err)
	switch {
	case ok:
		return app.NewFailure(failure.Code, failure.Step, name+": "+failure.Message, failure.Hint)
	case err != nil:
		return app.NewFailure(app.CodeInternal, "", name+": "+err.Error(), "")
	case c.State == app.StateFailed:
		fmt.Fprintf(e.out, "Removed %s, which had failed.\n", name)
	default:
		fmt.Fprintf(e.out, "Disconnected %s.\n", name)
	}
	return nil
}

// called says whether a connection goes by a name.
func called(c *app.Connection, name string) bool {
	return name == c.ID || name == c.Profile || c.Gateway != nil && name == c.Gateway.Host
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wayfarer/app"
)

func newLogs(e *env) *cobra.Command {
	var following bool
	var level string
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show the log of the service",
		Long: "Show what the service has kept of its log, the oldest first: of your connections, for an administrator\n" +
			"everything.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level = strings.ToLower(level)
			if _, ok := app.ParseLogLevel(level); !ok {
				return usage(fmt.Sprintf("unknown level %q", level), "one of "+strings.Join(app.LogLevels(), ", "))
			}
			return e.logs(cmd.Context(), level, following)
		},
	}
	cmd.Flags().BoolVar(&following, "follow", false, "go on with what comes, until Ctrl+C")
	cmd.Flags().StringVar(&level, "level", "info", "leave out what is less grave than `LEVEL`: "+strings.Join(app.LogLevels(), ", "))
	completeFlag(cmd, "level", cobra.FixedCompletions(app.LogLevels(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// logs shows the log. Ctrl+C is the good end of following it.
func (e *env) logs(ctx context.Context, level string, following bool) error {
	for record, err := range e.service(e.socket).Logs(ctx, level, following) {
		if err != nil {
			return err
		}
		fmt.Fprintln(e.out, logLine(record))
	}
	return nil
}

// logLine is a record on one line: time, level, connection, and what it says, which
// cannot steer the terminal.
func logLine(r *app.LogRecord) string {
	return plainLine(fmt.Sprintf("%s %-5s %-3s %s", r.Time.Local().Format(time.RFC3339), r.Level, cmp.Or(r.Connection, "-"), r.Text()))
}

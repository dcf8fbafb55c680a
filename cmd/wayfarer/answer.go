package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/app/control"
)

func newAnswer(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "answer [ID]",
		Short: "Answer what a connection asks for",
		Long: "Answer what the connection ID asks for (one-time password, next PIN), on the terminal or from\n" +
			"standard input. Without ID: the one that asks. A question of trust takes yes or no.",
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeConnections(func(c *app.Connection) string {
			if c.Prompt == nil {
				return ""
			}
			return c.ID
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.answer(cmd.Context(), args)
		},
	}
}

func (e *env) answer(ctx context.Context, ids []string) error {
	svc := e.service(e.socket)
	status, err := svc.Status(ctx)
	if err != nil {
		return err
	}
	conn, err := asking(status, ids)
	if err != nil {
		return err
	}
	var answer *control.Answer
	if e.ask != nil {
		answer, err = e.askPrompt(ctx, conn, "")
	} else {
		answer, err = e.answerFromInput(ctx, conn)
	}
	if errors.Is(err, io.EOF) {
		answer, err = refuse(conn.Prompt), nil
	}
	if answer != nil {
		defer clear(answer.Text)
	}
	var failure *app.Failure
	switch {
	case errors.As(err, &failure):
		return failure
	case err != nil:
		return cancelled()
	}
	return svc.Answer(ctx, conn.ID, answer)
}

// asking is the connection that is meant.
func asking(status *app.Status, ids []string) (*app.Connection, error) {
	var found []*app.Connection
	for i := range status.Connections {
		c := &status.Connections[i]
		if c.Prompt != nil && (len(ids) == 0 || called(c, ids[0])) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if len(ids) > 0 {
			return nil, usage(fmt.Sprintf("no connection %q asks for anything", ids[0]), "see `wayfarer status`")
		}
		return nil, usage("no connection asks for anything", "see `wayfarer status`")
	}
	return nil, usage("several connections ask for something", "name one, as `wayfarer status` shows it")
}

// answerFromInput takes the answer from standard input, where there is no terminal.
func (e *env) answerFromInput(ctx context.Context, c *app.Connection) (*control.Answer, error) {
	text, err := e.inputSecret(ctx, "answer")
	switch {
	case ctx.Err() != nil:
		return nil, cancelled()
	case err != nil:
		return nil, app.NewFailure(app.CodeCancelled, "", "no answer was given", "write it to standard input")
	}
	answer := &control.Answer{PromptID: c.Prompt.ID}
	switch c.Prompt.Kind {
	case app.PromptTrust:
		answer.Accept = isYes(string(text))
	case app.PromptBanner:
		answer.Accept = true
	default:
		answer.Text = text
	}
	return answer, nil
}

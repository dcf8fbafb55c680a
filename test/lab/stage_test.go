//go:build lab && linux

package lab

import (
	"fmt"
	"os"
	"os/exec"
)

// stageVariable names what this program does in place of running tests.
const stageVariable = "LAB_STAGE"

var stages = map[string]func(args []string) error{"trace": traceStage, "generate": generateStage}

func init() {
	stage := stages[os.Getenv(stageVariable)]
	if stage == nil {
		return
	}
	if err := stage(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// stageCommand is this program in another role, in a client's namespace if ns is one.
func stageCommand(ns, stage string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	if ns != "" {
		cmd = exec.Command(script, append([]string{"exec", ns, os.Args[0]}, args...)...)
	}
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.Stderr = os.Stderr
	return cmd
}

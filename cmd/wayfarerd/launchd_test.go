package main

import (
	"io"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"howett.net/plist"
)

const propertyList = "../../installer/macos/io.github.wayfarer.wayfarerd.plist"

// launchdJob is what launchd.plist(5) may have of the service.
type launchdJob struct {
	Label              string
	ProgramArguments   []string
	RunAtLoad          bool
	KeepAlive          struct{ SuccessfulExit *bool }
	ThrottleInterval   int
	ExitTimeOut        int // seconds
	ProcessType        string
	WorkingDirectory   string
	Umask              int
	HardResourceLimits struct{ Core *int }
	SoftResourceLimits struct{ Core *int }
	StandardErrorPath  string
}

// TestPropertyList: what launchd is told is what the program does.
func TestPropertyList(t *testing.T) {
	content, err := os.ReadFile(propertyList)
	if err != nil {
		t.Fatal(err)
	}
	var job launchdJob
	var keys map[string]any
	for _, into := range []any{&job, &keys} {
		if _, err := plist.Unmarshal(content, into); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != 12 {
		t.Errorf("%d keys, of which this test knows 12", len(keys))
	}
	if job.Label != strings.TrimSuffix(path.Base(propertyList), ".plist") {
		t.Errorf("label %q", job.Label)
	}
	if !job.RunAtLoad || job.KeepAlive.SuccessfulExit == nil || *job.KeepAlive.SuccessfulExit {
		t.Error("it does not start with the computer, or not again after a crash")
	}
	if time.Duration(job.ExitTimeOut)*time.Second <= closeTime {
		t.Errorf("launchd kills after %d s", job.ExitTimeOut)
	}
	if job.Umask != 0o022 || job.WorkingDirectory != "/" || job.ProcessType != "Interactive" {
		t.Errorf("%+v", job)
	}
	for _, limit := range []*int{job.HardResourceLimits.Core, job.SoftResourceLimits.Core} {
		if limit == nil || *limit != 0 {
			t.Error("a crash leaves a memory image")
		}
	}
	program := job.ProgramArguments
	if len(program) == 0 || !path.IsAbs(program[0]) || path.Base(program[0]) != "wayfarerd" {
		t.Fatalf("%q is no program", program)
	}
	if _, err := parse(program[1:], io.Discard); err != nil {
		t.Errorf("%q: %v", program, err)
	}
	// Package managers give these folders to a user.
	if strings.HasPrefix(program[0], "/usr/local/") || strings.HasPrefix(program[0], "/opt/") {
		t.Errorf("%s may be another user's", program[0])
	}
}

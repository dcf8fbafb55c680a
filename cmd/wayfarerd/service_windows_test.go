package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"

	"wayfarer/app/daemon"
)

// controlled is a service under a service manager of the test's.
type controlled struct {
	requests chan svc.ChangeRequest
	status   chan svc.Status
	ended    chan uint32
	log      bytes.Buffer
}

func underControl(work func(context.Context, *daemon.Logs, options) error, args ...string) *controlled {
	c := &controlled{requests: make(chan svc.ChangeRequest), status: make(chan svc.Status), ended: make(chan uint32, 1)}
	s := &service{args: args, log: &c.log, work: work}
	go func() {
		_, code := s.Execute(nil, c.requests, c.status)
		c.ended <- code
	}()
	return c
}

func (c *controlled) expect(t *testing.T, want svc.State) svc.Status {
	t.Helper()
	got := <-c.status
	if got.State != want {
		t.Fatalf("state %d; want %d", got.State, want)
	}
	return got
}

func untilDone(ctx context.Context, _ *daemon.Logs, _ options) error {
	<-ctx.Done()
	return nil
}

func TestServiceControl(t *testing.T) {
	for _, stop := range []svc.Cmd{svc.Stop, svc.Shutdown} {
		c := underControl(untilDone)
		c.expect(t, svc.StartPending)
		if s := c.expect(t, svc.Running); s.Accepts != svc.AcceptStop|svc.AcceptShutdown {
			t.Errorf("accepts %x", s.Accepts)
		}
		c.requests <- svc.ChangeRequest{Cmd: svc.Interrogate, CurrentStatus: svc.Status{State: svc.Running}}
		c.expect(t, svc.Running)
		c.requests <- svc.ChangeRequest{Cmd: stop}
		if s := c.expect(t, svc.StopPending); s.WaitHint != 25_000 {
			t.Errorf("wait hint %d", s.WaitHint)
		}
		c.expect(t, svc.StopPending)
		if code := <-c.ended; code != 0 {
			t.Errorf("code %d", code)
		}
	}
}

// A service that cannot work ends with the program's exit code.
func TestServiceFails(t *testing.T) {
	c := underControl(func(context.Context, *daemon.Logs, options) error { return errors.New("no pipe") })
	c.expect(t, svc.StartPending)
	c.expect(t, svc.Running)
	c.expect(t, svc.StopPending)
	if code := <-c.ended; code != 1 || !bytes.Contains(c.log.Bytes(), []byte("no pipe")) {
		t.Errorf("code %d, log %q", code, c.log.String())
	}
	c = underControl(untilDone, "--nonsense")
	c.expect(t, svc.StartPending)
	c.expect(t, svc.Running)
	c.expect(t, svc.StopPending)
	if code := <-c.ended; code != 2 {
		t.Errorf("code %d", code)
	}
}

func TestEventLevels(t *testing.T) {
	var line bytes.Buffer
	log := slog.New(slog.NewTextHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, tt := range []struct {
		level slog.Level
		want  uint32
	}{{slog.LevelDebug, eventlog.Info}, {slog.LevelInfo, eventlog.Info}, {slog.LevelWarn, eventlog.Warning}, {slog.LevelError, eventlog.Error}} {
		line.Reset()
		log.Log(t.Context(), tt.level, "it says level=NOTHING")
		if got := levelOf(line.Bytes()); got != tt.want {
			t.Errorf("%s: %d", line.String(), got)
		}
	}
	if levelOf([]byte("wayfarerd: no pipe\n")) != eventlog.Error {
		t.Error("what ends the service is no error")
	}
}

// TestDropPrivileges comes last: what it drops does not come back.
func TestDropPrivileges(t *testing.T) {
	token := windows.GetCurrentProcessToken()
	before, err := privileges(token)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) < 2 {
		t.Skipf("this user has %d privileges", len(before))
	}
	if err := dropPrivileges(keptPrivileges); err != nil {
		t.Fatal(err)
	}
	var kept windows.LUID
	if err := windows.LookupPrivilegeValue(nil, windows.StringToUTF16Ptr(keptPrivileges[0]), &kept); err != nil {
		t.Fatal(err)
	}
	after, err := privileges(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range after {
		if p.Luid != kept {
			t.Errorf("privilege %+v is left", p)
		}
	}
}

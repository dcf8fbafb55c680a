package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

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
	return underManager(func() error { return nil }, work, args...)
}

func underManager(manage func() error, work func(context.Context, *daemon.Logs, options) error, args ...string) *controlled {
	c := &controlled{requests: make(chan svc.ChangeRequest), status: make(chan svc.Status), ended: make(chan uint32, 1)}
	s := &service{args: args, log: &c.log, manage: manage, work: work}
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

func untilDone(ctx context.Context, _ *daemon.Logs, opts options) error {
	opts.ready()
	<-ctx.Done()
	return nil
}

func TestServiceControl(t *testing.T) {
	for _, stop := range []svc.Cmd{svc.Stop, svc.Shutdown, svc.PreShutdown} {
		c := underControl(untilDone)
		c.expect(t, svc.StartPending)
		if s := c.expect(t, svc.Running); s.Accepts != svc.AcceptStop|svc.AcceptShutdown|svc.AcceptPreShutdown {
			t.Errorf("accepts %x", s.Accepts)
		}
		c.requests <- svc.ChangeRequest{Cmd: svc.Interrogate}
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

// A service runs when it serves, and gives signs of life until then.
func TestServiceStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serves := make(chan struct{})
		c := underControl(func(ctx context.Context, logs *daemon.Logs, opts options) error {
			select {
			case <-serves:
				return untilDone(ctx, logs, opts)
			case <-ctx.Done():
				return nil
			}
		})
		start := time.Now()
		for i := range uint32(4) {
			if s := c.expect(t, svc.StartPending); s.CheckPoint != i || s.WaitHint != 10_000 || s.Accepts != 0 {
				t.Errorf("sign of life %d: %+v", i, s)
			}
		}
		if waited := time.Since(start); waited != 3*startPause {
			t.Errorf("four signs of life in %v", waited)
		}
		close(serves)
		c.expect(t, svc.Running)
		select {
		case s := <-c.status:
			t.Errorf("status %+v although nothing happens", s)
		case <-time.After(time.Minute):
		}
		c.requests <- svc.ChangeRequest{Cmd: svc.Stop}
		c.expect(t, svc.StopPending)
		c.expect(t, svc.StopPending)
	})
}

// TestServiceManagerIsSlow: a service does not wait for what the service manager answers, but
// one that ends gives it a moment, for the settings say that it is started again.
func TestServiceManagerIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan struct{})
		c, start := underManager(func() error { <-answers; return errors.New("no recovery") }, untilDone), time.Now()
		c.expect(t, svc.StartPending)
		c.expect(t, svc.Running)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("runs after %v", waited)
		}
		c.requests <- svc.ChangeRequest{Cmd: svc.Stop}
		c.expect(t, svc.StopPending)
		c.expect(t, svc.StopPending)
		<-c.ended
		if waited := time.Since(start); waited != manageTime {
			t.Errorf("ended after %v", waited)
		}
		close(answers)
		synctest.Wait()
		if !strings.Contains(c.log.String(), "no recovery") {
			t.Errorf("log %q", c.log.String())
		}
	})
}

// TestManage: what the service manager is told is what it has then.
func TestManage(t *testing.T) {
	manager, err := mgr.Connect()
	if err != nil {
		t.Skip("this user may not make a service: ", err)
	}
	defer manager.Disconnect()
	name := fmt.Sprintf("wayfarerd-test-%d", os.Getpid())
	service, err := manager.CreateService(name, `C:\nowhere.exe`, mgr.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	defer service.Delete()
	if err := manage("no-such-service"); err == nil || !strings.Contains(err.Error(), "no-such-service") {
		t.Errorf("no such service: %v", err)
	}
	refused := manage(name)
	var wait, needed uint32
	if err := windows.QueryServiceConfig2(service.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&wait)), 4, &needed); err != nil || wait != 25_000 {
		t.Errorf("awaited for %d ms before a shutdown, %v", wait, err)
	}
	if errors.Is(refused, windows.ERROR_INVALID_LEVEL) {
		t.Skip("this system, as Wine does, keeps no recovery settings: ", refused)
	}
	actions, err := service.RecoveryActions()
	if err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	reset, err := service.ResetPeriod()
	if err != nil || reset != 3600 || !slices.Equal(actions, recoveryActions) {
		t.Errorf("%+v, reset after %d s, %v", actions, reset, err)
	}
	if always, err := service.RecoveryActionsOnNonCrashFailures(); err != nil || !always {
		t.Errorf("after an error: %v, %v", always, err)
	}
	theirs := []mgr.RecoveryAction{{Type: mgr.NoAction}}
	if err := errors.Join(service.SetRecoveryActions(theirs, 60), manage(name)); err != nil {
		t.Fatal(err)
	}
	if actions, err := service.RecoveryActions(); err != nil || !slices.Equal(actions, theirs) {
		t.Errorf("an administrator's: %+v, %v", actions, err)
	}
}

// A service that cannot work ends with the program's exit code.
func TestServiceFails(t *testing.T) {
	c := underControl(func(context.Context, *daemon.Logs, options) error { return errors.New("no pipe") })
	c.expect(t, svc.StartPending)
	c.expect(t, svc.StopPending)
	if code := <-c.ended; code != 1 || !bytes.Contains(c.log.Bytes(), []byte("no pipe")) {
		t.Errorf("code %d, log %q", code, c.log.String())
	}
	c = underControl(untilDone, "--nonsense")
	c.expect(t, svc.StartPending)
	c.expect(t, svc.StopPending)
	if code := <-c.ended; code != 2 {
		t.Errorf("code %d", code)
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

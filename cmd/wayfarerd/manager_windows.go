package main

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"
)

// recoveryActions are what the service manager does when the service ends by itself, the
// first time and the next ones; the last also from then on, until it has lived for
// recoveryReset.
var recoveryActions = []mgr.RecoveryAction{
	{Type: mgr.ServiceRestart, Delay: time.Second},
	{Type: mgr.ServiceRestart, Delay: 10 * time.Second},
	{Type: mgr.ServiceRestart, Delay: time.Minute},
}

const recoveryReset = time.Hour

// manage tells the service manager to start a service again that has crashed or ended with
// an error, and to wait for its end before the computer shuts down. Whoever made the service
// may have said nothing of it; what an administrator has set as recovery stays.
func manage(name string) error {
	manager, err := mgr.Connect()
	if err != nil {
		return fmt.Errorf("the service manager: %w", err)
	}
	defer manager.Disconnect()
	service, err := manager.OpenService(name)
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	defer service.Close()
	recovery := setRecovery(service)
	wait := uint32(stopHint.Milliseconds()) // SERVICE_PRESHUTDOWN_INFO
	var failed []error
	for _, setting := range []struct {
		name string
		err  error
	}{
		{"recovery", recovery},
		{"time before a shutdown", windows.ChangeServiceConfig2(service.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&wait)))},
	} {
		if setting.err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", setting.name, setting.err))
		}
	}
	return errors.Join(failed...)
}

// setRecovery sets what the service manager does when the service ends by itself, if nobody
// has said that yet. A system that keeps none says so when it is set.
func setRecovery(service *mgr.Service) error {
	if set, err := service.RecoveryActions(); err == nil && len(set) > 0 {
		return nil
	}
	if err := service.SetRecoveryActions(recoveryActions, uint32(recoveryReset.Seconds())); err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	if err := service.SetRecoveryActionsOnNonCrashFailures(true); err != nil {
		return fmt.Errorf("after an error: %w", err)
	}
	return nil
}

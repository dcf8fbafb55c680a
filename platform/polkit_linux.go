package platform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// polkitTime bounds the question to polkit, its start by the bus included: somebody
// waits for the answer.
const polkitTime = 2 * time.Second

// connectAction is the action of installer/linux/io.github.wayfarer.policy.
const connectAction = "io.github.wayfarer.connect"

const (
	polkitName   = "org.freedesktop.PolicyKit1"
	polkitPath   = "/org/freedesktop/PolicyKit1/Authority"
	polkitMethod = "org.freedesktop.PolicyKit1.Authority.CheckAuthorization"
)

// polkitSubject is the D-Bus structure (sa{sv}) Subject of polkit's reference manual.
type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// polkitResult is the structure (bba{ss}) AuthorizationResult.
type polkitResult struct {
	Authorized, Challenge bool
	Details               map[string]string
}

// Authorize asks polkit whether a process of a user may connect, which by the policy that
// is shipped those in the active local session may. Nobody is asked for a password. An
// error, which comes within 2 s, is no: polkit's, or that it is not there.
//
// The caller makes sure that the process is the one it means, and lives until the answer
// has come: polkit itself looks up when it was started, and goes by the session that the
// process belongs to, whoever its user is.
func Authorize(ctx context.Context, pid int32, uid uint32) error {
	if err := (systemBus{}).authorize(ctx, pid, uid); err != nil {
		return fmt.Errorf("polkit: %w", err)
	}
	return nil
}

func (b systemBus) authorize(ctx context.Context, pid int32, uid uint32) error {
	if pid <= 0 { // it is outside of our process namespace
		return fmt.Errorf("there is no process %d", pid)
	}
	ctx, cancel := context.WithTimeout(ctx, polkitTime)
	defer cancel()
	conn, err := b.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	subject := polkitSubject{"unix-process", map[string]dbus.Variant{
		"pid":        dbus.MakeVariant(uint32(pid)),
		"start-time": dbus.MakeVariant(uint64(0)), // look it up; other users' /proc may be hidden from us
		"uid":        dbus.MakeVariant(int32(uid)),
	}}
	const noInteraction = uint32(0)
	call := conn.Object(polkitName, polkitPath).CallWithContext(ctx, polkitMethod, 0,
		subject, connectAction, map[string]string{}, noInteraction, "")
	if ctx.Err() != nil {
		return ctx.Err() // whose end closes the connection, which may be what call tells
	}
	if call.Err != nil {
		return call.Err
	}
	var result polkitResult
	if err := call.Store(&result); err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	if !result.Authorized {
		return errors.New("the process is not in the active local session")
	}
	return nil
}

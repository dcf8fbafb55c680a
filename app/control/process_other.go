//go:build !linux

package control

import (
	"context"
	"errors"
	"net"
)

// heldProcess is not told here: identifyPeer knows all by the user.
type heldProcess struct{}

func holdProcess(net.Conn) *heldProcess { return nil }

func (*heldProcess) authorized(context.Context, func(context.Context, Process) error) error {
	return errors.New("this system decides by the user")
}

func (*heldProcess) close() {}

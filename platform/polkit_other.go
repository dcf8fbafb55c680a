//go:build !linux

package platform

import "context"

// Authorize is of Linux only: the answer is ErrUnsupported.
func Authorize(context.Context, int32, uint32) error { return ErrUnsupported }

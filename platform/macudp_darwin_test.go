package platform

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestBatchCalls: this Mac's calls do what is expected of them.
func TestBatchCalls(t *testing.T) {
	if symbol("getpid") == 0 || symbol("wayfarer has no such function") != 0 {
		t.Error("libSystem's functions are not found")
	}
	release, err := unix.Sysctl("kern.osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if !soundBatches(release) {
		t.Skipf("Darwin %s has them without what was mended in 24.6", release)
	}
	send, receive := symbol("sendmsg_x"), symbol("recvmsg_x")
	if send == 0 || receive == 0 {
		t.Skip("this system has them no more")
	}
	calls := macCalls{send: batchCall(send), receive: batchCall(receive)}
	if err := calls.trial(); err != nil {
		t.Error(err)
	}
	if got := batchCalls(); got.send == nil || got.receive == nil {
		t.Error("they are not used")
	}
}

package platform

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// TestOpenPower: this Mac lets the program register, end, and register again.
func TestOpenPower(t *testing.T) {
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		told, err := powerNews(ctx, slog.Default(), openPower)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		select {
		case _, open := <-told:
			if open {
				t.Error("sleep was told")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the registration does not end")
		}
	}
}

// TestListenNotes: this Mac takes the registrations, and a read ends when they are closed.
func TestListenNotes(t *testing.T) {
	source, err := listenNotes()
	run(t, "register", err)
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := source.Read(make([]byte, 64)); err != nil {
				failed <- err
				return
			}
		}
	}()
	run(t, "close", source.Close())
	select {
	case <-failed:
	case <-time.After(10 * time.Second):
		t.Error("a read does not end")
	}
	if n, err := symbols(rtldDefault, "wayfarer has no such function"); err == nil {
		t.Errorf("%v", n)
	}
}

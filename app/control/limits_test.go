package control

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"wayfarer/app"
)

// Whoever has enough connections is turned away, until one of them ends.
func TestConnectionsAreBounded(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	log := &sharedBuffer{}
	serveIn(t, &Server{Backend: &fakeBackend{}, Log: slog.New(slog.NewTextHandler(log, nil))}, l)
	var conns []net.Conn
	for range maxUserConns {
		conn, err := dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	client := &Client{Path: path}
	for range 3 {
		_, err = client.Status(t.Context())
		if f := failureOf(t, err); f.Code != app.CodeNoService || !strings.Contains(f.Message, "closed the connection") {
			t.Errorf("one too many: %v", f)
		}
	}
	if n := strings.Count(log.String(), "too many connections"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, log)
	}
	conns[0].Close()
	for { // until the server has noticed
		if _, err = client.Status(t.Context()); err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// A connection that was turned away, or ended twice, is not counted.
func TestDoorCounts(t *testing.T) {
	p := newPipes()
	in := &crowd{most: 2, mostOfUser: 1}
	d := &door{Listener: p, log: discard(), in: in}
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := d.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := p.dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	dial()
	first := <-accepted
	if _, err := dial().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one too many: %v", err)
	}
	first.Close()
	first.Close()
	dial()
	(<-accepted).Close()
	if in.all != 0 || len(in.users) != 0 {
		t.Errorf("counted: %d, %v", in.all, in.users)
	}
	p.Close()
	<-accepted
}

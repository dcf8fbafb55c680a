package control

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
)

// droppable is the service's end of a connection; dropped closes with it.
type droppable struct {
	net.Conn
	who     peer
	once    sync.Once
	dropped chan struct{}
}

func (d *droppable) Close() error {
	d.once.Do(func() { close(d.dropped) })
	return d.Conn.Close()
}

// dialAs opens a connection of a user.
func dialAs(p *pipes, who peer) (net.Conn, *droppable) {
	ours, theirs := net.Pipe()
	service := &droppable{Conn: theirs, who: who, dropped: make(chan struct{})}
	p.conns <- service
	return ours, service
}

const head = " HTTP/1.1\r\nHost: x\r\n\r\n"

// slowClients are all that a client can do to keep the service waiting. Each lasts until
// its connection is closed.
var slowClients = map[string]func(net.Conn){
	"says nothing":       func(c net.Conn) { io.Copy(io.Discard, c) },
	"half a header":      func(c net.Conn) { say(c, "GET /v1/status HTTP/1.1\r\nHo") },
	"a header by and by": func(c net.Conn) { dribble(c, "GET /v1/status HTTP/1.1\r\nX: "+strings.Repeat("x", 100)) },
	"half a body":        func(c net.Conn) { say(c, "POST /v1/connections HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{") },
	"a body by and by": func(c net.Conn) {
		dribble(c, "POST /v1/connections HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{"+strings.Repeat(" ", 100))
	},
	"a chunk by and by": func(c net.Conn) {
		dribble(c, "POST /v1/connections HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n900\r\n{"+strings.Repeat(" ", 100))
	},
	"reads no events":                  func(c net.Conn) { io.WriteString(c, "GET /v1/events"+head) },
	"reads no log":                     func(c net.Conn) { io.WriteString(c, "GET /v1/logs?follow"+head) },
	"reads a byte a second of events":  func(c net.Conn) { io.WriteString(c, "GET /v1/events"+head); sip(c) },
	"reads a byte a second of answers": func(c net.Conn) { io.WriteString(c, "GET /v1/status"+head); sip(c) },
	"reads no answers":                 func(c net.Conn) { io.WriteString(c, strings.Repeat("GET /v1/status"+head, 1000)) },
	"reads no refusals":                func(c net.Conn) { io.WriteString(c, strings.Repeat("GET /v1/nothing"+head, 1000)) },
	"reads no redirections":            func(c net.Conn) { io.WriteString(c, strings.Repeat("GET //v1"+head, 1000)) },
	"reads no answer to no HTTP":       func(c net.Conn) { io.WriteString(c, "\r\nx\r\n\r\n") },
	"talks while a stream goes out": func(c net.Conn) {
		io.WriteString(c, "GET /v1/logs?follow"+head)
		http.ReadResponse(bufio.NewReader(c), nil)
		io.WriteString(c, "x")
	},
	"talks while it waits for a stream": func(c net.Conn) {
		go io.Copy(io.Discard, c)
		for range 300 { // others of this user make it wait
			io.WriteString(c, "GET /v1/status"+head)
		}
		io.WriteString(c, "GET /v1/logs?follow"+head)
		io.WriteString(c, "x")
	},
}

// say sends all at once, then listens.
func say(c net.Conn, what string) {
	io.WriteString(c, what)
	io.Copy(io.Discard, c)
}

// dribble sends a byte a second.
func dribble(c net.Conn, what string) {
	go io.Copy(io.Discard, c)
	for i := range len(what) {
		if _, err := io.WriteString(c, what[i:i+1]); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// sip reads a byte a second.
func sip(c net.Conn) {
	for buf := make([]byte, 1); ; time.Sleep(time.Second) {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// TestSlowClients: each is dropped, and meanwhile another user sees every change at once
// and is answered at once.
func TestSlowClients(t *testing.T) {
	for name, slow := range slowClients {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend, p := &fakeBackend{}, newPipes()
				serveIn(t, &Server{Backend: backend, Log: discard(), Logs: &fakeLogs{}, identify: func(c net.Conn) (peer, error) {
					return c.(*droppable).who, nil
				}}, p)
				change := func(n int) { // of a status that no buffer of net/http holds
					backend.change(app.Connection{ID: "c1", Owner: "ada", State: app.StateConnected, Banner: strings.Repeat("b", 8<<10)},
						app.Connection{ID: "c2", Owner: "eve", State: app.StateConnected, Banner: fmt.Sprint(n, strings.Repeat("b", 8<<10))})
				}
				change(0)
				var ours []net.Conn
				var theirs []*droppable
				start := time.Now()
				for range 4 {
					c, service := dialAs(p, peer{name: "eve", id: "1002", mayConnect: true})
					ours, theirs = append(ours, c), append(theirs, service)
					go slow(c)
				}
				watchWell(t, p, backend, change)
				for _, c := range theirs {
					select {
					case <-c.dropped:
					default:
						t.Errorf("not dropped after %v", time.Since(start))
					}
				}
				for _, c := range ours {
					c.Close()
				}
			})
		})
	}
}

// watchWell is a user who watches and asks for half a minute, with a change each second.
func watchWell(t *testing.T, p *pipes, backend *fakeBackend, change func(int)) {
	t.Helper()
	root := peer{name: "root", id: rootUser, admin: true, mayConnect: true}
	stream, _ := dialAs(p, root)
	defer stream.Close()
	go io.WriteString(stream, "GET /v1/events"+head)
	resp, err := http.ReadResponse(bufio.NewReader(stream), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() { // reads on at once, as a program does
		for all := bufio.NewScanner(resp.Body); all.Scan(); {
			lines <- all.Text()
		}
		close(lines)
	}()
	for n := range 30 {
		start := time.Now()
		if n > 0 { // the first line is what stands
			change(n)
		}
		if line := <-lines; !strings.Contains(line, fmt.Sprintf(`"banner":"%db`, n)) {
			t.Fatalf("change %d: %.100s", n, line)
		}
		c, _ := dialAs(p, root)
		go io.WriteString(c, "GET /v1/status"+head)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		c.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("change %d came after %v", n, d)
		}
		time.Sleep(time.Second)
	}
}

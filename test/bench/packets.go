//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// How many packets one call of the generator and of the counter moves, and the headers of
// UDP over IPv4 in bytes.
const (
	packetsAtOnce = 64
	udpHeaders    = 28
)

// runFlood is the program "flood": it sends packets of a size, with headers, for a while.
func runFlood(args []string) error {
	if len(args) != 3 {
		return errors.New("flood ADDRESS:PORT BYTES LENGTH")
	}
	size, err1 := strconv.Atoi(args[1])
	length, err2 := time.ParseDuration(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if size < udpHeaders {
		return fmt.Errorf("a packet of %d bytes has no room for its headers", size)
	}
	c, err := net.Dial("udp4", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	batch := ipv4.NewPacketConn(c.(*net.UDPConn))
	messages := make([]ipv4.Message, packetsAtOnce)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, size-udpHeaders)}
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		if _, err := batch.WriteBatch(messages, 0); err != nil && !isFull(err) {
			return err
		}
	}
	return nil
}

// isFull says that a queue on the way had no room, as queues have under a flood.
func isFull(err error) bool { return errors.Is(err, unix.ENOBUFS) }

// runCount is the program "count": it counts packets on a port for a while, and prints
// how many came, and between the first and the last in how many seconds.
func runCount(args []string) error {
	if len(args) != 2 {
		return errors.New("count PORT LENGTH")
	}
	length, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("udp4", ":"+args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	if err := holdMuch(c.(*net.UDPConn)); err != nil {
		return err
	}
	batch := ipv4.NewPacketConn(c)
	messages := make([]ipv4.Message, packetsAtOnce)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	if err := c.SetReadDeadline(time.Now().Add(length)); err != nil {
		return err
	}
	packets := 0
	var first, last time.Time
	for {
		n, err := batch.ReadBatch(messages, 0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			return err
		}
		last = time.Now()
		if first.IsZero() {
			first = last
		}
		packets += n
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"packets": packets, "seconds": last.Sub(first).Seconds()})
}

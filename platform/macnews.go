package platform

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"
)

// newsPause is how long it takes until a routing socket that has failed is opened again.
const newsPause = time.Second

// routeHints has a value whenever a routing socket tells of one of these kinds of messages
// (rtm_type of route(4)), until ctx ends. One that fails is opened again; what it would have
// told meanwhile is taken for news.
func routeHints(ctx context.Context, log *slog.Logger, open func() (io.ReadCloser, error), kinds []byte) (<-chan struct{}, error) {
	socket, err := open()
	if err != nil {
		return nil, err
	}
	hints, hint := newHints()
	go func() {
		for {
			err := readNews(ctx, socket, kinds, hint)
			for err != nil {
				if ctx.Err() != nil {
					return
				}
				log.Warn("network: the routing socket fails, and is opened again", "error", err)
				select {
				case <-ctx.Done():
					return
				case <-time.After(newsPause):
				}
				socket, err = open()
			}
			hint()
		}
	}()
	return hints, nil
}

// readNews reads a routing socket until it fails or ctx ends, and closes it.
func readNews(ctx context.Context, socket io.ReadCloser, kinds []byte, hint func()) error {
	end := sync.OnceFunc(func() { socket.Close() })
	defer end()
	defer context.AfterFunc(ctx, end)()
	message := make([]byte, 1<<12)
	for {
		n, err := socket.Read(message)
		// ENOBUFS says that messages were lost, which is a hint too.
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return err
		}
		if err != nil || n >= 4 && slices.Contains(kinds, message[3]) {
			hint()
		}
	}
}

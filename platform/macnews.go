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

// newsPause is how long it takes until a source of news that has failed is opened again.
const newsPause = time.Second

// routeNews are the routing socket's messages (rtm_type of route(4)) about changes. The
// others are about packets that had no route, and what somebody has asked.
var routeNews = []byte{
	1,   // RTM_ADD
	2,   // RTM_DELETE
	3,   // RTM_CHANGE
	6,   // RTM_REDIRECT
	0xc, // RTM_NEWADDR
	0xd, // RTM_DELADDR
	0xe, // RTM_IFINFO
}

func isRouteNews(message []byte) bool {
	return len(message) >= 4 && slices.Contains(routeNews, message[3])
}

// newsHints has a value whenever a message counts that is read from what open opens, until
// ctx ends. What fails is opened again; what it would have told meanwhile is taken for news.
func newsHints(ctx context.Context, log *slog.Logger, open func() (io.ReadCloser, error), counts func(message []byte) bool) (<-chan struct{}, error) {
	source, err := open()
	if err != nil {
		return nil, err
	}
	hints, hint := newHints()
	go func() {
		for {
			err := readNews(ctx, source, counts, hint)
			for err != nil {
				if ctx.Err() != nil {
					return
				}
				log.Warn("network: what tells of changes fails, and is opened again", "error", err)
				select {
				case <-ctx.Done():
					return
				case <-time.After(newsPause):
				}
				source, err = open()
			}
			hint()
		}
	}()
	return hints, nil
}

// readNews reads messages until that fails or ctx ends, and closes their source.
func readNews(ctx context.Context, source io.ReadCloser, counts func(message []byte) bool, hint func()) error {
	end := sync.OnceFunc(func() { source.Close() })
	defer end()
	defer context.AfterFunc(ctx, end)()
	message := make([]byte, 1<<12)
	for {
		n, err := source.Read(message)
		// ENOBUFS says that messages were lost, which is a hint too.
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return err
		}
		if err != nil || counts(message[:n]) {
			hint()
		}
	}
}

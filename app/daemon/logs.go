package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"wayfarer/app"
)

// Bounds of what of the log is kept for readers, for each level by itself: a flood of
// details must not push out what is grave. Of the level trace each connection has its own:
// what gateways say is to be found whatever others do meanwhile.
const (
	maxLogRecords   = 1000
	maxLogBytes     = 256 << 10          // of texts and attributes
	maxLogText      = 4 << 10            // bytes of one text or attribute; the rest is cut off
	maxLogAttribute = 32                 // of one record; the rest is left out
	maxTracedLogs   = maxConnections + 1 // and what is of none
)

// Keys of attributes that say whose a record is.
const (
	connectionKey = "connection"
	ownerKey      = "owner"
)

// Logs is the handler of a service's log. It passes records on to another handler, and
// keeps the newest of each level, down to [app.LevelTrace], for those who read them by
// the local API. A record is a user's if it has the attribute owner.
type Logs struct {
	next   slog.Handler
	kept   *keptLogs
	prefix string // of the groups that are open
	attrs  []slog.Attr
}

// NewLogs makes a handler that passes on to next what next wants.
func NewLogs(next slog.Handler) *Logs {
	return &Logs{next: next, kept: &keptLogs{levels: map[levelKey]*keptLevel{}}}
}

var _ slog.Handler = (*Logs)(nil)

// Enabled implements slog.Handler.
func (l *Logs) Enabled(_ context.Context, level slog.Level) bool { return level >= app.LevelTrace }

// Handle implements slog.Handler. The error is that of the handler it passes to.
func (l *Logs) Handle(ctx context.Context, r slog.Record) error {
	l.keep(r)
	if !l.next.Enabled(ctx, r.Level) {
		return nil
	}
	return l.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l *Logs) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *l
	with.next = l.next.WithAttrs(attrs)
	with.attrs = slices.Clip(l.attrs)
	for _, a := range attrs {
		a.Key = l.prefix + a.Key
		with.attrs = append(with.attrs, a)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (l *Logs) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	with := *l
	with.next = l.next.WithGroup(name)
	with.prefix = l.prefix + name + "."
	return &with
}

func (l *Logs) keep(r slog.Record) {
	out := app.LogRecord{
		Time:       r.Time.UTC(),
		Level:      app.LogLevelName(r.Level),
		Message:    cut(r.Message),
		Attributes: map[string]string{},
	}
	for _, a := range l.attrs {
		put(&out, "", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		put(&out, l.prefix, a)
		return true
	})
	l.kept.add(out)
}

// put adds an attribute to a record. Values that hide themselves, such as secrets,
// stay hidden.
func put(to *app.LogRecord, prefix string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range value.Group() {
			put(to, prefix, member)
		}
		return
	}
	text := cut(value.String())
	switch key := prefix + a.Key; {
	case key == connectionKey:
		to.Connection = text
	case key == ownerKey:
		to.Owner = text
	case key != "" && len(to.Attributes) < maxLogAttribute:
		to.Attributes[cut(key)] = text
	}
}

func cut(text string) string { return text[:min(len(text), maxLogText)] }

// Since lists the kept records of at least a level that came after the one with the
// given number, oldest first, and gives the number of the newest record of all. The
// first has the number 1. The caller must not change the attributes.
func (l *Logs) Since(after uint64, least slog.Level) (_ []app.LogRecord, newest uint64) {
	return l.kept.since(after, least)
}

// Watch returns a channel that gets a value (coalesced) after each new record, and a
// function that ends the watch.
func (l *Logs) Watch() (changes <-chan struct{}, stop func()) { return l.kept.watchers.watch() }

// keptLogs are the records that can be read.
type keptLogs struct {
	watchers watchers

	mu     sync.Mutex
	newest uint64
	levels map[levelKey]*keptLevel
}

// levelKey is a level, and of the level trace the connection.
type levelKey struct{ level, connection string }

func keyOf(r *app.LogRecord) levelKey {
	if r.Level == app.LogLevelName(app.LevelTrace) {
		return levelKey{r.Level, r.Connection}
	}
	return levelKey{level: r.Level}
}

// keptLevel are the records of one level, oldest first.
type keptLevel struct {
	records []keptRecord
	bytes   int
}

type keptRecord struct {
	app.LogRecord
	number uint64
	bytes  int
}

func (k *keptLogs) add(r app.LogRecord) {
	bytes := len(r.Connection) + len(r.Owner) + len(r.Message)
	for key, value := range r.Attributes {
		bytes += len(key) + len(value)
	}
	defer k.watchers.notify()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.newest++
	key := keyOf(&r)
	level := k.levels[key]
	if level == nil {
		level = &keptLevel{}
		k.levels[key] = level
		k.forget()
	}
	level.records = append(level.records, keptRecord{r, k.newest, bytes})
	level.bytes += bytes
	for len(level.records) > maxLogRecords || level.bytes > maxLogBytes {
		level.bytes -= level.records[0].bytes
		level.records[0] = keptRecord{} // which the array would hold until it is copied
		level.records = level.records[1:]
	}
}

// forget drops the trace that has been still for longest when there are too many; the
// newest is still empty.
func (k *keptLogs) forget() {
	traces, oldest := 0, levelKey{}
	for key, level := range k.levels {
		if key.level != app.LogLevelName(app.LevelTrace) {
			continue
		}
		traces++
		if len(level.records) > 0 && (oldest.level == "" || level.last() < k.levels[oldest].last()) {
			oldest = key
		}
	}
	if traces > maxTracedLogs {
		delete(k.levels, oldest)
	}
}

// last is the number of the newest record.
func (l *keptLevel) last() uint64 { return l.records[len(l.records)-1].number }

func (k *keptLogs) since(after uint64, least slog.Level) ([]app.LogRecord, uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found []keptRecord
	for key, level := range k.levels {
		if is, _ := app.ParseLogLevel(key.level); is < least {
			continue
		}
		first, _ := slices.BinarySearchFunc(level.records, after+1, func(r keptRecord, n uint64) int { return cmp.Compare(r.number, n) })
		found = append(found, level.records[first:]...)
	}
	slices.SortFunc(found, func(a, b keptRecord) int { return cmp.Compare(a.number, b.number) })
	records := make([]app.LogRecord, len(found))
	for i, r := range found {
		records[i] = r.LogRecord
	}
	return records, k.newest
}

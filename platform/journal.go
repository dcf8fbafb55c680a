package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	journalFile = "network.journal"
	lockFile    = "network.lock"

	// journalVersion is the form of the lines that this program writes and reads.
	journalVersion = 1
	// maxJournal bounds the journal, in bytes. A wish with a thousand routes takes
	// a twentieth of it.
	maxJournal = 8 << 20
)

// errTooLong is of a journal above maxJournal.
var errTooLong = fmt.Errorf("the journal would be larger than %d bytes", maxJournal)

// journal lists, in a file, the changes that stand on the host or may stand there: a
// change is in it before it is made, and until it is undone. It is always replaced as
// a whole, so a crash leaves the list from before or the one from after.
//
// Owned by the Network, under its lock.
type journal struct {
	log  *slog.Logger
	dir  string
	boot string   // of this run of the computer; empty if it cannot be told
	lock *os.File // held for as long as this process may change the network
	// foreign: somebody with fewer rights than this process could have written the
	// journal. Files are not touched in his name then, nor are lines kept that a
	// newer version might take for root's.
	foreign bool

	// sync makes what was written to a file last: (*os.File).Sync.
	sync func(*os.File) error

	written []byte   // the file's content
	lasting bool     // there is something in it that a restart of the computer does not undo
	left    []record // of an earlier process, not undone yet, in the order of application
	kept    []string // lines of a newer version, which only that can undo
}

// record is one line: a change as data.
type record struct {
	Version int             `json:"v"`
	Boot    string          `json:"boot,omitempty"`
	Kind    string          `json:"kind"`
	Change  json.RawMessage `json:"change"`
}

// BusyError says that another process, usually the running service, has the host's
// network.
type BusyError struct {
	PID int // 0 if it cannot be told
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return "another process controls the host's network"
	}
	return fmt.Sprintf("process %d controls the host's network already", e.PID)
}

// dirMode lets other users' programs pass, who shall read a file whose name they know
// (Samba's), but not look around.
const dirMode = 0o711

// openJournal makes dir if it is missing, makes sure that nobody but its owner can write
// to it and that no other process has its journal, and reads it.
func openJournal(log *slog.Logger, dir, boot string) (*journal, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, err
	}
	foreign, err := checkOwner(dir)
	if err != nil {
		return nil, err
	}
	lock, err := lockPath(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	j := &journal{log: log, dir: dir, boot: boot, lock: lock, foreign: foreign, sync: (*os.File).Sync}
	os.Remove(j.temp()) // of a write that was cut short
	if err := j.read(); err != nil {
		lock.Close()
		return nil, err
	}
	return j, nil
}

// close lets other processes in.
func (j *journal) close() error { return j.lock.Close() }

func (j *journal) path() string { return filepath.Join(j.dir, journalFile) }

// temp is where a new content is prepared.
func (j *journal) temp() string { return j.path() + ".new" }

func (j *journal) read() error {
	file, foreign, err := openOwn(j.path(), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	j.foreign = j.foreign || foreign
	j.written, err = io.ReadAll(io.LimitReader(file, maxJournal+1))
	if err != nil {
		return err
	}
	if len(j.written) > maxJournal {
		return fmt.Errorf("%s: %w", j.path(), errTooLong)
	}
	j.lasting = len(j.written) > 0 // as far as is known
	for line := range strings.Lines(string(j.written)) {
		text, whole := strings.CutSuffix(line, "\n")
		var r record
		switch err := json.Unmarshal([]byte(text), &r); {
		case err != nil && !whole: // cut off while it was written: nothing was done yet
			j.log.Warn("network: the journal's last line is cut off", "file", j.path())
		case (err != nil || r.Version != journalVersion) && j.foreign:
			j.log.Warn("network: the journal has a line that is not understood", "file", j.path())
		case err != nil || r.Version != journalVersion:
			j.kept = append(j.kept, text)
		default:
			j.left = append(j.left, r)
		}
	}
	return nil
}

// keep makes the journal list, beside what an earlier process left, exactly these
// changes. It returns when that outlives the process, and when it is on the disk if there
// is something that outlives the computer's run: a restart undoes the rest, and its lines
// with it.
func (j *journal) keep(changes []change) error {
	lines := slices.Clone(j.kept)
	for _, r := range j.left {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		lines = append(lines, string(line))
	}
	for _, c := range changes {
		data, err := json.Marshal(c)
		if err != nil {
			return err
		}
		line, err := json.Marshal(record{journalVersion, j.boot, c.kind(), data})
		if err != nil {
			return err
		}
		lines = append(lines, string(line))
	}
	var content bytes.Buffer
	seen := map[string]bool{}
	for _, line := range lines {
		if !seen[line] {
			content.WriteString(line + "\n")
			seen[line] = true
		}
	}
	switch {
	case bytes.Equal(content.Bytes(), j.written):
		return nil
	case content.Len() > maxJournal:
		return errTooLong
	}
	lasting := len(j.left)+len(j.kept) > 0 || slices.ContainsFunc(changes, change.survives)
	if err := j.replace(content.Bytes(), lasting || j.lasting); err != nil {
		return err
	}
	j.written, j.lasting = content.Bytes(), lasting
	return nil
}

// replace writes the file anew, with sync so that it is on the disk. A journal without
// lines is no file.
func (j *journal) replace(content []byte, sync bool) error {
	err := j.write(content, sync)
	if err == nil && sync {
		err = syncDir(j.dir, j.sync)
	}
	return err
}

func (j *journal) write(content []byte, sync bool) error {
	if len(content) == 0 {
		return removeFile(j.path())
	}
	temp := j.temp()
	if err := removeFile(temp); err != nil {
		return err
	}
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = giveToOwner(file, j.dir)
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil && sync {
		err = j.sync(file)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = moveFile(temp, j.path())
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// recover undoes what an earlier process left, the newest first. What cannot be
// undone stays in the journal, and so does what only a newer version understands.
// With keepBlock a leak block stays on the host, and is returned.
func (j *journal) recover(ctx context.Context, h host, keepBlock bool) (standing []change, err error) {
	var failed []error
	var left []record
	for _, r := range slices.Backward(j.left) {
		c, err := h.decode(r.Kind, r.Change)
		_, files := c.(interface{ onFiles() })
		switch {
		case err != nil:
			line, _ := json.Marshal(r)
			j.kept = append(j.kept, string(line))
			j.log.Warn("network: the journal has an entry that is not understood", "kind", r.Kind, "error", err)
			continue
		case files && j.foreign:
			j.log.Warn("network: root does not touch files because another user says so", "file", j.path())
			continue
		case r.Boot != j.boot && !c.survives():
			continue // the computer was restarted, which undid it
		case keepBlock && c.blocks():
			standing = append(standing, c)
			continue
		}
		if err := undo(ctx, j.log, c); err != nil {
			failed = append(failed, &Error{c.part(), err})
			left = append(left, r)
		}
	}
	slices.Reverse(left)
	slices.Reverse(standing)
	j.left = left
	if len(j.kept) > 0 {
		failed = append(failed, &Error{PartJournal, fmt.Errorf("%s has %d entries of another version of this program; only that can undo them", j.path(), len(j.kept))})
	}
	if err := j.keep(standing); err != nil {
		failed = append(failed, &Error{PartJournal, err})
	}
	return standing, first(failed)
}

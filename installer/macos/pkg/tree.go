package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// Kinds of entries in st_mode, as cpio and BOM have them.
const (
	modeKind = 0o170000
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

// groupAdmin is the group that macOS has some folders belong to, which must stay so.
const groupAdmin = 80

// shared are folders of the system's own, with the rights that they have there.
var shared = map[string]struct {
	mode  uint16
	group uint32
}{
	"Applications":                {modeDir | 0o775, groupAdmin},
	"Library/Application Support": {modeDir | 0o755, groupAdmin},
}

// entry is a file, directory or symbolic link of what is installed.
type entry struct {
	path   string // from the root; "." is that
	mode   uint16 // st_mode
	group  uint32
	data   []byte // a file's contents, a link's target
	id     uint32 // from 1
	parent uint32 // its id; the root has none, 0
	items  int    // of a directory
}

// read lists a directory's contents breadth first, siblings by their names, which is the
// order that a BOM has. Rights are 0755 for what somebody may execute and for directories,
// else 0644; all belongs to root.
func read(dir string) ([]*entry, error) {
	list := []*entry{{path: ".", mode: modeDir | 0o755, id: 1}}
	for i := 0; i < len(list); i++ {
		parent := list[i]
		if parent.mode&modeKind != modeDir {
			continue
		}
		found, err := os.ReadDir(filepath.Join(dir, parent.path))
		if err != nil {
			return nil, err
		}
		parent.items = len(found)
		for _, item := range found {
			e := &entry{path: path.Join(parent.path, item.Name()), id: uint32(len(list) + 1), parent: parent.id}
			if err := e.fill(filepath.Join(dir, e.path)); err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

func (e *entry) fill(file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		e.mode = modeFile | 0o644
		if info.Mode()&0o111 != 0 {
			e.mode = modeFile | 0o755
		}
		e.data, err = os.ReadFile(file)
	case fs.ModeDir:
		e.mode = modeDir | 0o755
		if own, ok := shared[e.path]; ok {
			e.mode, e.group = own.mode, own.group
		}
	case fs.ModeSymlink:
		var target string
		e.mode = modeLink | 0o755
		target, err = os.Readlink(file)
		e.data = []byte(target)
	default:
		return fmt.Errorf("%s is neither file, directory nor symbolic link", file)
	}
	return err
}

// size is what macOS counts for an entry, in bytes.
func (e *entry) size() uint32 {
	if e.mode&modeKind == modeDir {
		return 32 * uint32(e.items+2)
	}
	return uint32(len(e.data))
}

// archive is a compressed cpio archive in the portable format of POSIX (odc), as a package
// has its payload and its scripts.
func archive(list []*entry, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	put := func(id uint32, mode uint16, group uint32, links int, when int64, name string, data []byte) {
		fmt.Fprintf(w, "070707%06o%06o%06o%06o%06o%06o%06o%011o%06o%011o%s\x00", 0, id, mode, 0, group, links, 0, when, len(name)+1, len(data), name)
		_, _ = w.Write(data) // to memory
	}
	for _, e := range list {
		name, links := "./"+e.path, 1
		if e.path == "." {
			name = "."
		}
		if e.mode&modeKind == modeDir {
			links = 2
		}
		put(e.id, e.mode, e.group, links, at.Unix(), name, e.data)
	}
	put(0, 0, 0, 1, 0, "TRAILER!!!", nil)
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

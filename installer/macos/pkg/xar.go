package main

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"strings"
	"time"
)

// file is one in a xar archive, or a directory with files.
type file struct {
	name   string
	data   []byte
	files  []file
	stored bool // it is compressed already
}

// Elements of a xar archive's table of contents.
type (
	tocFile struct {
		ID    int        `xml:"id,attr"`
		Name  string     `xml:"name"`
		Type  string     `xml:"type"`
		Mode  string     `xml:"mode"`
		UID   int        `xml:"uid"`
		User  string     `xml:"user"`
		GID   int        `xml:"gid"`
		Group string     `xml:"group"`
		CTime string     `xml:"ctime"`
		MTime string     `xml:"mtime"`
		ATime string     `xml:"atime"`
		Data  *tocData   `xml:"data"`
		Files []*tocFile `xml:"file"`
	}
	tocData struct {
		Length    int         `xml:"length"` // in the heap
		Offset    int         `xml:"offset"`
		Size      int         `xml:"size"`
		Encoding  tocStyle    `xml:"encoding"`
		Archived  tocChecksum `xml:"archived-checksum"`
		Extracted tocChecksum `xml:"extracted-checksum"`
	}
	tocStyle struct {
		Style string `xml:"style,attr"`
	}
	tocChecksum struct {
		Style string `xml:"style,attr"`
		Sum   string `xml:",chardata"`
	}
	tocPlace struct {
		Style  string `xml:"style,attr"`
		Offset int    `xml:"offset"`
		Size   int    `xml:"size"`
	}
	toc struct {
		XMLName  xml.Name   `xml:"xar"`
		Checksum tocPlace   `xml:"toc>checksum"`
		Created  string     `xml:"toc>creation-time"`
		Files    []*tocFile `xml:"toc>file"`
	}
)

// SHA-1 is what installers of all versions of macOS know in these places. It tells damage;
// who made a package is told by its signature.
const xarSHA1 = 1

func checksum(data []byte) tocChecksum {
	sum := sha1.Sum(data)
	return tocChecksum{"sha1", hex.EncodeToString(sum[:])}
}

func compress(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := zlib.NewWriterLevel(&out, zlib.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// xar is an archive with these files. Its heap begins with the checksum of its table.
func xar(files []file, at time.Time) ([]byte, error) {
	heap := make([]byte, sha1.Size)
	moment := at.UTC().Format("2006-01-02T15:04:05")
	id := 0
	var list func([]file) ([]*tocFile, error)
	list = func(files []file) (out []*tocFile, err error) {
		for _, f := range files {
			id++
			e := &tocFile{
				ID: id, Name: f.name, Type: "directory", Mode: "0755", User: "root", Group: "wheel",
				CTime: moment + "Z", MTime: moment + "Z", ATime: moment + "Z",
			}
			out = append(out, e)
			if f.files != nil {
				if e.Files, err = list(f.files); err != nil {
					return nil, err
				}
				continue
			}
			data, style := f.data, "application/octet-stream"
			if !f.stored {
				style = "application/x-gzip" // so is zlib's format called
				if data, err = compress(f.data); err != nil {
					return nil, err
				}
			}
			e.Type, e.Mode = "file", "0644"
			e.Data = &tocData{len(data), len(heap), len(f.data), tocStyle{style}, checksum(data), checksum(f.data)}
			heap = append(heap, data...)
		}
		return out, nil
	}
	entries, err := list(files)
	if err != nil {
		return nil, err
	}
	text, err := xml.Marshal(toc{Checksum: tocPlace{"sha1", 0, sha1.Size}, Created: moment, Files: entries})
	if err != nil {
		return nil, err
	}
	var plain strings.Builder
	plain.WriteString(xml.Header)
	plain.Write(text)
	packed, err := compress([]byte(plain.String()))
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(packed)
	copy(heap, sum[:])
	out := number([]byte("xar!"), uint16(28), 1)
	out = binary.BigEndian.AppendUint64(out, uint64(len(packed)))
	out = binary.BigEndian.AppendUint64(out, uint64(plain.Len()))
	return append(append(number(out, uint32(xarSHA1)), packed...), heap...), nil
}

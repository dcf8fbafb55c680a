package main

import (
	"encoding/binary"
	"path"
	"time"
)

// Numbers of a bill of materials (bom(5) has no more than its name; the form is that which
// lsbom and mkbom of macOS and bomutils share).
const (
	bomHeader   = 512 // bytes
	bomLeaf     = 256 // entries of a leaf, at most
	bomArch     = 15  // of entries: any processor
	bomFile     = 1
	bomDir      = 2
	bomLink     = 3
	bomTreeSize = 4096 // of a page, as noted in a tree
)

// cksum is the CRC of POSIX cksum(1), of the data and its length.
func cksum(data []byte) uint32 {
	var sum uint32
	step := func(b byte) {
		sum ^= uint32(b) << 24
		for range 8 {
			if sum>>31 != 0 {
				sum = sum<<1 ^ 0x04c11db7
			} else {
				sum <<= 1
			}
		}
	}
	for _, b := range data {
		step(b)
	}
	for n := len(data); n > 0; n >>= 8 {
		step(byte(n))
	}
	return ^sum
}

// number are big-endian integers of the format, appended one after another.
func number[T uint8 | uint16 | uint32](out []byte, values ...T) []byte {
	for _, v := range values {
		var err error
		if out, err = binary.Append(out, binary.BigEndian, v); err != nil {
			panic(err) // they have a fixed size
		}
	}
	return out
}

// store collects numbered blocks, and names of some.
type store struct {
	blocks [][]byte // the first is block 1
	names  []byte
	named  uint32
}

func (s *store) add(block []byte) uint32 {
	s.blocks = append(s.blocks, block)
	return uint32(len(s.blocks))
}

func (s *store) name(block uint32, name string) {
	s.names = append(number(number(s.names, block), uint8(len(name))), name...)
	s.named++
}

// tree is a search tree's head.
func (s *store) tree(child, page, count uint32) uint32 {
	return s.add(number(number(append([]byte(nil), "tree"...), 1, child, page, count), uint8(0)))
}

func (s *store) empty() uint32 { return s.add(make([]byte, 12)) }

// leaves lists pairs of blocks in order, in pages that know their neighbours, below one
// branch if there are several.
func (s *store) leaves(pairs [][2]uint32) uint32 {
	count := (len(pairs) + bomLeaf - 1) / bomLeaf
	first := uint32(len(s.blocks)) + 1
	branch := number(number([]byte(nil), uint16(0), uint16(count)), uint32(0), 0)
	for i := range count {
		page := pairs[i*bomLeaf : min((i+1)*bomLeaf, len(pairs))]
		var next, previous uint32
		if i+1 < count {
			next = first + uint32(i) + 1
		}
		if i > 0 {
			previous = first + uint32(i) - 1
		}
		leaf := number(number([]byte(nil), uint16(1), uint16(len(page))), next, previous)
		for _, p := range page {
			leaf = number(leaf, p[0], p[1])
		}
		branch = number(branch, s.add(leaf), page[len(page)-1][1])
	}
	if count == 1 {
		return first
	}
	return s.add(branch)
}

// bytes is the whole store: header, names, blocks, and their table with an empty free list.
func (s *store) bytes() []byte {
	names := append(number([]byte(nil), s.named), s.names...)
	table := number([]byte(nil), uint32(len(s.blocks)+1), 0, 0)
	at := uint32(bomHeader + len(names))
	var body []byte
	for _, b := range s.blocks {
		table = number(table, at+uint32(len(body)), uint32(len(b)))
		body = append(body, b...)
	}
	table = append(table, make([]byte, 20)...)
	out := number([]byte("BOMStore"), uint32(1), uint32(len(s.blocks)), at+uint32(len(body)), uint32(len(table)), bomHeader, uint32(len(names)))
	out = append(out, make([]byte, bomHeader-len(out))...)
	return append(append(append(out, names...), body...), table...)
}

// bom is the bill of materials of what is installed.
func bom(list []*entry, at time.Time) []byte {
	var s store
	var total uint32
	pairs := make([][2]uint32, len(list))
	for i, e := range list {
		if e.mode&modeKind == modeFile {
			total += e.size()
		}
		record := s.add(e.record(at))
		pairs[i] = [2]uint32{s.add(number([]byte(nil), e.id, record)), s.add(append(append(number([]byte(nil), e.parent), path.Base(e.path)...), 0))}
	}
	s.name(s.add(number([]byte(nil), uint32(1), uint32(len(list)+1), 1, 0, 0, total, 0)), "BomInfo")
	s.name(s.tree(s.leaves(pairs), bomTreeSize, uint32(len(list))), "Paths")
	s.name(s.tree(s.empty(), bomTreeSize, 0), "HLIndex")
	s.name(s.add(number(number([]byte(nil), uint32(1), s.tree(s.empty(), 128, 0), 0), uint8(0))), "VIndex")
	s.name(s.tree(s.empty(), bomTreeSize, 0), "Size64")
	return s.bytes()
}

// record is what the bill says of one entry.
func (e *entry) record(at time.Time) []byte {
	kind, sum, target := uint8(bomFile), cksum(e.data), []byte(nil)
	rest := 4 // zeros at the end
	switch e.mode & modeKind {
	case modeDir:
		kind, sum, rest = bomDir, 0, 0
	case modeLink:
		kind, target, rest = bomLink, append(append(target, e.data...), 0), 8
	}
	out := number([]byte(nil), kind, 1)
	out = number(out, uint16(bomArch), e.mode)
	out = number(out, uint32(0), e.group, uint32(at.Unix()), e.size())
	out = number(number(out, uint8(1)), sum, uint32(len(target)))
	return append(append(out, target...), make([]byte, rest)...)
}

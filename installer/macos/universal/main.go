// Command universal joins programs of macOS for several processors into one, as lipo does,
// on any system: "universal OUT FILE...".
package main

import (
	"bytes"
	"debug/macho"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// Programs begin at multiples of a page of Apple's processors (2^14), as those want it.
const alignment = 14

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "universal:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: universal OUT FILE, and more of them")
	}
	programs := make([][]byte, len(args)-1)
	for i, name := range args[1:] {
		var err error
		if programs[i], err = os.ReadFile(name); err != nil {
			return err
		}
	}
	out, err := join(programs)
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], out, 0o755)
}

// join is the programs behind a table of them (mach-o/fat.h).
func join(programs [][]byte) ([]byte, error) {
	header := []uint32{macho.MagicFat, uint32(len(programs))}
	var body []byte
	at := func() int { return 1<<alignment + len(body) }
	for _, p := range programs {
		file, err := macho.NewFile(bytes.NewReader(p))
		if err != nil {
			return nil, err
		}
		body = append(body, make([]byte, -len(body)&(1<<alignment-1))...)
		header = append(header, uint32(file.Cpu), file.SubCpu, uint32(at()), uint32(len(p)), alignment)
		body = append(body, p...)
	}
	out, err := binary.Append(nil, binary.BigEndian, header)
	if err != nil {
		return nil, err
	}
	if len(out) > 1<<alignment {
		return nil, errors.New("too many programs")
	}
	return append(append(out, make([]byte, 1<<alignment-len(out))...), body...), nil
}

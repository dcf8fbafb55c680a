// Command version says of programs and libraries for Windows what its installer compares:
// "version FILE..." writes a line for each of them, the four numbers and the language, such
// as "1.2.3.10000 1033", or "-" if it has no version.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tc-hib/winres"
	"github.com/tc-hib/winres/version"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "version:", err)
		os.Exit(1)
	}
}

func run(files []string, out io.Writer) error {
	if len(files) == 0 {
		return errors.New("usage: version FILE, and more of them")
	}
	for _, name := range files {
		line, err := describe(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintln(out, line)
	}
	return nil
}

// describe is the line of one file.
func describe(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	set, err := winres.LoadFromEXESingleType(file, winres.RT_VERSION)
	if errors.Is(err, winres.ErrNoResources) {
		return "-", nil
	}
	if err != nil {
		return "", err
	}
	line := "-"
	set.WalkType(winres.RT_VERSION, func(_ winres.Identifier, language uint16, data []byte) bool {
		var info *version.Info
		if info, err = version.FromBytes(data); err == nil {
			v := info.FileVersion
			line = fmt.Sprintf("%d.%d.%d.%d %d", v[0], v[1], v[2], v[3], language)
		}
		return false // one is all that a file has
	})
	return line, err
}

package platform

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Sibling is the path of a program that is installed beside this one, by its name without
// Windows' ".exe". The error says that it is not there.
func Sibling(name string) (string, error) {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not installed beside this program: %w", name, err)
	}
	return path, nil
}

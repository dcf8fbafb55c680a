package platform

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSibling(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(filepath.Base(self), ".exe")
	if got, err := Sibling(name); err != nil || got != self {
		t.Errorf("got %q, %v; want %q", got, err, self)
	}
	if got, err := Sibling("absent"); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "absent") {
		t.Errorf("got %q, %v", got, err)
	}
}

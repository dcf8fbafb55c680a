package platform

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadOwned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose files it is about")
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		name   string
		mode   os.FileMode
		uid    int
		access Access
		size   int
		says   string // empty: it is read
	}{
		{"private", 0o600, 0, Private, 8, ""},
		{"read-only", 0o400, 0, Private, 8, ""},
		{"empty", 0o600, 0, Private, 0, ""},
		{"public", 0o644, 0, OthersMayRead, 8, ""},
		{"the group may read", 0o640, 0, Private, 8, "others may read it (mode 0640)"},
		{"others may read", 0o604, 0, Private, 8, "others may read it (mode 0604)"},
		{"others may execute", 0o601, 0, Private, 8, "others may read it"},
		{"the group may write", 0o620, 0, OthersMayRead, 8, "others may write to it (mode 0620)"},
		{"everybody may write", 0o646, 0, OthersMayRead, 8, "others may write to it"},
		{"somebody's", 0o600, 12345, Private, 8, "it belongs to uid 12345"},
		{"somebody's, public", 0o644, 12345, OthersMayRead, 8, "it belongs to uid 12345"},
		{"too large", 0o600, 0, Private, 9, "larger than 8 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "file")
			want := bytes.Repeat([]byte("x"), tt.size)
			run(t, "write", os.WriteFile(path, want, 0o600))
			run(t, "chown", os.Chown(path, tt.uid, 0))
			run(t, "chmod", os.Chmod(path, tt.mode))
			got, err := ReadOwned(path, tt.access, 8)
			switch {
			case tt.says == "" && (err != nil || !bytes.Equal(got, want)):
				t.Errorf("read %q, %v", got, err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path)):
				t.Errorf("error %v, want %s", err, tt.says)
			}
			run(t, "remove", os.Remove(path))
		})
	}
	if _, err := ReadOwned(dir, Private, 8); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	run(t, "pipe", unix.Mkfifo(pipe, 0o600))
	for _, path := range []string{pipe, "/dev/zero"} {
		_, owned := ReadOwned(path, Private, 8)
		_, bounded := readBounded(path)
		for _, err := range []error{owned, bounded} {
			if err == nil || !strings.Contains(err.Error(), path+" is no regular file") {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if _, err := ReadOwned(filepath.Join(dir, "missing"), Private, 8); !os.IsNotExist(err) {
		t.Errorf("nothing: %v", err)
	}
}

// TestHiddenHomes: the unit of the service hides users' directories from it, and the error
// of a file there says so.
func TestHiddenHomes(t *testing.T) {
	for path, hidden := range map[string]bool{
		"/root/no such file": true, "/home/no such user/secret": true, "/run/user/99999/secret": true, "/etc/../root/no such file": true,
		"/etc/no such file": false, "/rooted/secret": false, "/homes/secret": false,
	} {
		_, err := ReadOwned(path, Private, 8)
		if !os.IsNotExist(errors.Unwrap(err)) && !os.IsNotExist(err) || strings.Contains(err.Error(), "a systemd unit with ProtectHome hides") != hidden {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := explainHidden("/root/secret", os.ErrPermission); !strings.Contains(err.Error(), "below /etc/wayfarer") {
		t.Error(err)
	}
}

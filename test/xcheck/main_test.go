package main

import (
	"errors"
	"strings"
	"testing"
)

// A check that finds nothing is no proof.
func TestCheck(t *testing.T) {
	bad, n, err := check("darwin/arm64", []string{"./testdata/good"})
	if err != nil || len(bad) > 0 || n < 10 {
		t.Errorf("%d packages, %v, %v", n, bad, err)
	}
	bad, _, err = check("darwin/arm64", []string{"./testdata/bad"})
	if text := errors.Join(bad...); err != nil || len(bad) != 1 || !strings.Contains(text.Error(), "bad_darwin.go:6:27: cannot use good.Of()") {
		t.Errorf("%v, %v", bad, err)
	}
	// Linux has neither, which only the go command can tell.
	if bad, _, err = check("linux/amd64", []string{"./testdata/good"}); err != nil || len(bad) != 1 {
		t.Errorf("%v, %v", bad, err)
	}
	if _, _, err := check("darwin", nil); err == nil {
		t.Error("that is no target")
	}
}

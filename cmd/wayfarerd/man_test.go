package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"wayfarer/app"
)

var manDir = flag.String("man", "", "write the manual page to this folder")

// TestManualPage: the page has all flags. "make man" writes it, from what --help shows.
func TestManualPage(t *testing.T) {
	cmd := &cobra.Command{Use: "wayfarerd", Short: "The service of Wayfarer", Long: about, Run: func(*cobra.Command, []string) {}}
	cmd.Flags().AddFlagSet(new(options).flags(io.Discard))
	cmd.DisableAutoGenTag = true
	var page bytes.Buffer
	err := doc.GenMan(cmd, &doc.GenManHeader{Title: "WAYFARERD", Section: "8", Source: "Wayfarer " + app.Version(), Manual: "Wayfarer"}, &page)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"socket", "state-dir", "log-level"} {
		if !strings.Contains(page.String(), `\fB--`+f+`\fP`) {
			t.Errorf("no flag %s in\n%s", f, &page)
		}
	}
	if *manDir != "" {
		if err := os.WriteFile(filepath.Join(*manDir, "wayfarerd.8"), page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

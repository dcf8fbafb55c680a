package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"wayfarer/app"
)

var manDir = flag.String("man", "", "write the manual pages to this folder")

// TestManualPages: each command that help lists has a page, with all its flags. "make
// man" writes them, from what help is made of.
func TestManualPages(t *testing.T) {
	dir := *manDir
	if dir == "" {
		dir = t.TempDir()
	}
	root := newRoot(systemEnv())
	root.InitDefaultCompletionCmd()
	header := doc.GenManHeader{Title: "WAYFARER", Section: "1", Source: "Wayfarer " + app.Version(), Manual: "Wayfarer"}
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(root, &header, dir); err != nil {
		t.Fatal(err)
	}
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		page, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Error(err)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(string(page), `\fB--`+f.Name+`\fP`) {
				t.Errorf("%s.1 does not have --%s", name, f.Name)
			}
		})
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() && sub.Name() != "help" {
				check(sub)
			}
		}
	}
	check(root)
}

package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"
)

const propertyList = "../../installer/macos/io.github.wayfarer.wayfarerd.plist"

// flatten reads a property list as lines "key.key: value".
func flatten(t *testing.T, file string) map[string][]string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(strings.NewReader(string(content)))
	values := map[string][]string{}
	var keys []string
	var text string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return values
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			text = ""
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			at := strings.Join(keys, ".")
			switch name := token.Name.Local; name {
			case "key":
				keys = append(keys, text)
			case "string", "integer":
				values[at] = append(values[at], text)
			case "true", "false":
				values[at] = append(values[at], name)
			}
			// A value ends its key, and a list after all of its values.
			if name := token.Name.Local; name != "key" && (name != "string" || at != "ProgramArguments") && len(keys) > 0 {
				keys = keys[:len(keys)-1]
			}
		}
	}
}

// TestPropertyList: what launchd is told is what the program does.
func TestPropertyList(t *testing.T) {
	values := flatten(t, propertyList)
	for key, want := range map[string]string{
		"RunAtLoad": "true", "KeepAlive.SuccessfulExit": "false", "HardResourceLimits.Core": "0", "SoftResourceLimits.Core": "0",
		"ProcessType": "Interactive", "Umask": strconv.Itoa(0o022), "WorkingDirectory": "/",
		"Label": strings.TrimSuffix(path.Base(propertyList), ".plist"),
	} {
		if got := strings.Join(values[key], " "); got != want {
			t.Errorf("%s: %q instead of %q", key, got, want)
		}
	}
	if seconds, err := strconv.Atoi(strings.Join(values["ExitTimeOut"], " ")); err != nil || time.Duration(seconds)*time.Second <= closeTime {
		t.Errorf("launchd kills after %d s, %v", seconds, err)
	}
	program := values["ProgramArguments"]
	if len(program) == 0 || !path.IsAbs(program[0]) || path.Base(program[0]) != "wayfarerd" {
		t.Fatalf("%q is no program", program)
	}
	if _, err := parse(program[1:], io.Discard); err != nil {
		t.Errorf("%q: %v", program, err)
	}
	// Any user can write there where a package manager has been given the folder.
	if strings.HasPrefix(program[0], "/usr/local/") || strings.HasPrefix(program[0], "/opt/") {
		t.Errorf("%s may be another user's", program[0])
	}
	if text := fmt.Sprint(values); strings.Contains(text, "EnvironmentVariables") {
		t.Error(text)
	}
}

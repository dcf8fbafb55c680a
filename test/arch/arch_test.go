package arch

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestImportDirections(t *testing.T) {
	found, err := Check(os.DirFS("../.."), "wayfarer")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// A checker that finds nothing is no proof: each row is a module with one file.
func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name, file, src string
		want            string // part of the violation; empty: none
	}{
		{"down", "ike/dial.go", `package ike; import _ "m/ike/esp"`, ""},
		{"up", "ike/esp/esp.go", `package esp; import _ "m/ike"`, "against the import direction"},
		{"sideways", "ike/isakmp/a.go", `package isakmp; import _ "m/ike/esp"`, "against the import direction"},
		{"engine to words", "ike/a.go", `package ike; import _ "m/app"`, "against the import direction"},
		{"engine to tun", "ike/a.go", `package ike; import _ "m/tun"`, "against the import direction"},
		{"tun to platform", "tun/a.go", `package tun; import _ "m/platform"`, "against the import direction"},
		{"platform to ike", "platform/a.go", `package platform; import _ "m/ike"`, "against the import direction"},
		{"gateway to ike", "ike/gateway/a.go", `package gateway; import _ "m/ike"`, "against the import direction"},
		{"gateway to wire format", "ike/gateway/a.go", `package gateway; import _ "m/ike/isakmp"`, ""},
		{"daemon knows all", "app/daemon/a.go", `package daemon; import (_ "m/ike"; _ "m/tun"; _ "m/platform")`, ""},
		{"control to daemon", "app/control/a.go", `package control; import _ "m/app/daemon"`, "against the import direction"},
		{"gui to daemon", "app/gui/a.go", `package gui; import _ "m/app/daemon"`, "against the import direction"},
		{"service to engine", "cmd/wayfarerd/main.go", `package main; import _ "m/ike"`, "against the import direction"},
		{"command to gateway", "cmd/wayfarer/main.go", `package main; import _ "m/ike/gateway"`, ""},
		{"test helpers in the program", "tun/a.go", `package tun; import _ "m/test/lab"`, "against the import direction"},
		{"own subfolder", "tun/a.go", `package tun; import _ "m/tun/netstack"`, ""},

		{"app and a module", "app/a.go", `package app; import _ "golang.org/x/text"`, "standard library"},
		{"app and its store", "app/a.go", `package app; import _ "m/app/store"`, "against the import direction"},
		{"store and a module", "app/store/a.go", `package store; import _ "github.com/zalando/go-keyring"`, ""},
		{"fyne in gui", "app/gui/view/a.go", `package view; import _ "fyne.io/fyne/v2"`, ""},
		{"fyne's driver", "cmd/wayfarer-gui/main.go", `package main; import _ "fyne.io/fyne/v2/app"`, ""},
		{"fyne in the service", "cmd/wayfarerd/main.go", `package main; import _ "fyne.io/fyne/v2"`, "Fyne"},
		{"fyne in store", "app/store/a.go", `package store; import _ "fyne.io/fyne/v2"`, "Fyne"},
		{"exec in platform", "platform/a.go", `package platform; import _ "os/exec"`, ""},
		{"exec in daemon", "app/daemon/a.go", `package daemon; import _ "os/exec"`, "started in platform"},
		{"exec by another name", "tun/a.go", `package tun; import run "os/exec"`, "started in platform"},

		{"other system's file", "ike/a_windows.go", `package ike`, "suffix _windows"},
		{"other system's import", "ike/a_darwin.go", "package ike\nimport _ \"m/platform\"", "against the import direction"},
		{"architecture", "ike/esp/a_amd64.go", `package esp`, "suffix _amd64"},
		{"constraint", "ike/a.go", "// Words.\n\n//go:build linux\n\npackage ike", "build constraint //go:build linux"},
		{"constraint allowed", "tun/a.go", "//go:build linux\n\npackage tun", ""},
		{"constraint in the text", "ike/a.go", "package ike\n\n// a line of prose:\n//go:build linux\nvar x int", ""},
		{"kernel", "ike/esp/aescbc.go", "//go:build amd64\n\npackage esp", ""},
		{"kernel upwards", "ike/esp/aescbc.go", "//go:build amd64\n\npackage esp\n\nimport _ \"m/ike\"", "against the import direction"},
		{"kernel in assembly", "ike/esp/aescbc_arm64.s", "not Go at all", ""},
		{"more assembly", "ike/esp/sha_amd64.s", "not Go at all", "assembly outside"},
		{"assembly elsewhere", "tun/sum_amd64.s", "not Go at all", "assembly outside"},
		{"no suffix", "ike/linux.go", `package ike`, ""},

		{"new folder", "util/a.go", `package util`, "no place in the layout"},
		{"test file", "ike/a_test.go", `package ike; import _ "m/app"`, ""},
		{"below test", "test/lab/a.go", `package lab; import (_ "os/exec"; _ "m/ike")`, ""},
		{"testdata", "ike/testdata/a.go", `not Go at all`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := Check(fstest.MapFS{tc.file: {Data: []byte(tc.src)}}, "m")
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, v := range found {
				lines = append(lines, v.String())
			}
			got := strings.Join(lines, "\n")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestCheckUnreadable(t *testing.T) {
	if _, err := Check(fstest.MapFS{"ike/a.go": {Data: []byte("pack age")}}, "m"); err == nil {
		t.Error("a file that is not Go passed")
	}
}

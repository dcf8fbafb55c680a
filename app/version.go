package app

import (
	"runtime/debug"
	"strings"
)

// version is set when a release is built: -ldflags "-X wayfarer/app.version=1.2.3".
var version string

// Version is the program's version: the release's, else the one that names the
// commit (which the go command records in a checkout), else "devel".
func Version() string {
	info, _ := debug.ReadBuildInfo()
	return versionOf(version, info)
}

func versionOf(release string, info *debug.BuildInfo) string {
	if release != "" {
		return release
	}
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

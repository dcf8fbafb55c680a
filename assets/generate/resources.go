package main

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tc-hib/winres"
	"github.com/tc-hib/winres/version"
)

// programs are those of Windows, each in a folder of its name.
var programs = []struct {
	name        string
	description string // what Windows calls it, as in the Task Manager
	manifest    winres.AppManifest
}{
	{"wayfarer", "Wayfarer VPN: command line", plainManifest},
	{"wayfarerd", "Wayfarer VPN: service", plainManifest},
	{"wayfarer-gui", "Wayfarer", windowManifest},
}

// Manifests. None asks for more rights than whoever starts the program has.
var (
	plainManifest = winres.AppManifest{
		Compatibility:  winres.Win10AndAbove,
		ExecutionLevel: winres.AsInvoker,
		LongPathAware:  true,
	}
	// The window draws itself for the display that it is on.
	windowManifest = winres.AppManifest{
		Compatibility:       winres.Win10AndAbove,
		ExecutionLevel:      winres.AsInvoker,
		DPIAwareness:        winres.DPIPerMonitorV2,
		LongPathAware:       true,
		UseCommonControlsV6: true,
	}
)

// iconName is the icon that Windows shows for a program, and the one that GLFW gives its
// windows.
const iconName = winres.Name("GLFW_ICON")

// languageEnglish is that of the texts, as Windows numbers them.
const languageEnglish = 0x409

// writeResources writes what the linker puts into each program, for each architecture.
func writeResources(dir, release string) error {
	numbers, err := versionNumbers(release)
	if err != nil {
		return err
	}
	icon, err := windowsIcon()
	if err != nil {
		return err
	}
	for _, p := range programs {
		var set winres.ResourceSet
		if err := set.SetIcon(iconName, icon); err != nil {
			return err
		}
		p.manifest.Description = p.description
		p.manifest.Identity = winres.AssemblyIdentity{Name: name + "." + p.name, Version: numbers}
		set.SetManifest(p.manifest)
		info := version.Info{FileVersion: numbers, ProductVersion: numbers}
		for key, value := range map[string]string{
			version.ProductName: "Wayfarer", version.CompanyName: "Wayfarer", version.LegalCopyright: "Apache License 2.0",
			version.FileDescription: p.description, version.InternalName: p.name, version.OriginalFilename: p.name + ".exe",
			version.FileVersion: release, version.ProductVersion: release,
		} {
			if err := info.Set(languageEnglish, key, value); err != nil {
				return err
			}
		}
		set.SetVersionInfo(info)
		for _, arch := range []winres.Arch{winres.ArchAMD64, winres.ArchARM64} {
			var object bytes.Buffer
			if err := set.WriteObject(&object, arch); err != nil {
				return err
			}
			if err := write(filepath.Join(dir, p.name, "resource_windows_"+string(arch)+".syso"), object.Bytes()); err != nil {
				return err
			}
		}
	}
	return nil
}

// versionForm is what installer/version says: 1.2.3, ~rc1 behind it before it is released,
// and behind a plus sign how many commits later.
var versionForm = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)(?:~(alpha|beta|rc)?\.?(\d*)[^+]*)?(?:\+(\d+)\..*)?$`)

// What the fourth number begins with: that of a release is above those of all that came
// before it.
const (
	numberOfRelease = 10000
	numbersOfStage  = 3000
	numbersOfBuild  = 100 // for what comes between, such as rc1 and rc2
)

var stages = []string{"alpha", "beta", "rc"}

// versionNumbers are the four of Windows. Its installer removes a file, and puts none in
// its place, where a later version has a lower number. What is beyond a part's numbers has
// its highest.
func versionNumbers(release string) (numbers [4]uint16, err error) {
	parts := versionForm.FindStringSubmatch(release)
	if parts == nil {
		return numbers, fmt.Errorf("%q is no version: one is 1.2.3", release)
	}
	for i, part := range parts[1:4] {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return numbers, fmt.Errorf("version %q: %w", release, err)
		}
		numbers[i] = uint16(n)
	}
	upTo := func(most uint64, digits string) uint16 {
		n, _ := strconv.ParseUint("0"+digits, 10, 64) // too many of them are the most, too
		return uint16(min(n, most))
	}
	stage, build, commits := parts[4], parts[5], parts[6]
	if !strings.Contains(release, "~") {
		numbers[3] = numberOfRelease + upTo(math.MaxUint16-numberOfRelease, commits)
		return numbers, nil
	}
	if stage != "" {
		numbers[3] = uint16(slices.Index(stages, stage))*numbersOfStage + upTo(numbersOfStage/numbersOfBuild-1, build)*numbersOfBuild
	}
	numbers[3] += upTo(numbersOfBuild-1, commits)
	return numbers, nil
}

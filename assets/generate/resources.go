package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"

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

// versionForm is what installer/version says: 1.2.3, and behind a plus sign how many
// commits later.
var versionForm = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)(?:~[^+]*)?(?:\+(\d+)\..*)?$`)

// versionNumbers are the four of Windows, by which installers tell what is newer.
func versionNumbers(release string) (numbers [4]uint16, err error) {
	parts := versionForm.FindStringSubmatch(release)
	if parts == nil {
		return numbers, fmt.Errorf("%q is no version: one is 1.2.3", release)
	}
	for i, part := range parts[1:] {
		if part == "" {
			continue
		}
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return numbers, fmt.Errorf("version %q: %w", release, err)
		}
		numbers[i] = uint16(n)
	}
	return numbers, nil
}

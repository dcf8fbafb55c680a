// Generate draws the program's icon in the forms that systems want, and makes what the
// programs of Windows have about them:
//
//	go run ./assets/generate -png FILE     256 × 256, for the window and for notifications
//	go run ./assets/generate -out DIR      DIR/hicolor for Linux, DIR/wayfarer.ico for Windows, DIR/wayfarer.icns for macOS
//	go run ./assets/generate -resources DIR -version VERSION
//	                                       DIR/PROGRAM/resource_windows_ARCH.syso: icon, version, manifest
package main

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"

	"github.com/tc-hib/winres"

	"wayfarer/assets"
)

const (
	name     = "io.github.wayfarer" // of the icon, in the themes of freedesktop.org
	pngSize  = 256
	iconMode = 0o644
)

// sizes are the folders of the hicolor theme.
var sizes = []int{16, 22, 24, 32, 48, 64, 128, 256, 512}

// icoSizes are those that Windows shows somewhere: small, middle and large icons at 100,
// 125, 150, 200 and 400 %.
var icoSizes = []int{16, 20, 24, 32, 40, 48, 64, 96, 128, 256}

func main() {
	file := flag.String("png", "", "write one picture to `FILE`")
	dir := flag.String("out", "", "write all forms to `DIR`")
	programs := flag.String("resources", "", "write what Windows's programs have about them to the folders of `DIR`")
	version := flag.String("version", "", "with -resources, the programs' `VERSION`")
	flag.Parse()
	err := run(*file, *dir)
	if err == nil && *programs != "" {
		err = writeResources(*programs, *version)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(file, dir string) error {
	if file != "" {
		if err := writePNG(file, pngSize); err != nil {
			return err
		}
	}
	if dir == "" {
		return nil
	}
	for _, size := range sizes {
		if err := writePNG(filepath.Join(dir, "hicolor", fmt.Sprintf("%dx%[1]d", size), "apps", name+".png"), size); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(dir, "hicolor", "scalable", "apps", name+".svg"), assets.AppSVG); err != nil {
		return err
	}
	if err := writeICO(filepath.Join(dir, "wayfarer.ico")); err != nil {
		return err
	}
	return writeICNS(filepath.Join(dir, "wayfarer.icns"))
}

// draw is the icon as PNG.
func draw(size int) ([]byte, error) {
	img, err := assets.Render(assets.AppSVG, size)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img)
	return b.Bytes(), err
}

func writePNG(file string, size int) error {
	data, err := draw(size)
	if err != nil {
		return err
	}
	return write(file, data)
}

// windowsIcon has all sizes that Windows asks for.
func windowsIcon() (*winres.Icon, error) {
	var images []image.Image
	for _, size := range icoSizes {
		img, err := assets.Render(assets.AppSVG, size)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return winres.NewIconFromImages(images)
}

func writeICO(file string) error {
	icon, err := windowsIcon()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := icon.SaveICO(&b); err != nil {
		return err
	}
	return write(file, b.Bytes())
}

func write(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, iconMode)
}

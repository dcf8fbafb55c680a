// Generate draws the program's icon in the forms that systems want:
//
//	go run ./assets/generate -png FILE     256 × 256, for the window and for notifications
//	go run ./assets/generate -out DIR      DIR/hicolor for Linux, DIR/wayfarer.ico for Windows
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

// sizes are the folders of the hicolor theme; those up to 256 stand in the .ico, too.
var sizes = []int{16, 22, 24, 32, 48, 64, 128, 256, 512}

func main() {
	file := flag.String("png", "", "write one picture to `FILE`")
	dir := flag.String("out", "", "write all forms to `DIR`")
	flag.Parse()
	if err := run(*file, *dir); err != nil {
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
	return writeICO(filepath.Join(dir, "wayfarer.ico"))
}

func writePNG(file string, size int) error {
	img, err := assets.Render(assets.AppSVG, size)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img); err != nil {
		return err
	}
	return write(file, b.Bytes())
}

// writeICO puts all sizes that Windows knows into one file.
func writeICO(file string) error {
	var images []image.Image
	for _, size := range sizes {
		if size > 256 {
			continue
		}
		img, err := assets.Render(assets.AppSVG, size)
		if err != nil {
			return err
		}
		images = append(images, img)
	}
	icon, err := winres.NewIconFromImages(images)
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

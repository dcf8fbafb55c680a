package main

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/tc-hib/winres"

	"wayfarer/assets"
)

// different counts the pixels of two pictures of one size that differ by more than
// rounding.
func different(a, b image.Image) int {
	n := 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r1, g1, b1, a1 := a.At(x, y).RGBA()
			r2, g2, b2, a2 := b.At(x, y).RGBA()
			for _, d := range []int{int(r1) - int(r2), int(g1) - int(g2), int(b1) - int(b2), int(a1) - int(a2)} {
				if d < -0x600 || d > 0x600 {
					n++
					break
				}
			}
		}
	}
	return n
}

func decode(t *testing.T, data []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// The embedded picture is the SVG's: run "go generate ./assets" after changing it.
func TestPictureIsUpToDate(t *testing.T) {
	want, err := assets.Render(assets.AppSVG, pngSize)
	if err != nil {
		t.Fatal(err)
	}
	got := decode(t, assets.AppPNG)
	if got.Bounds() != want.Bounds() {
		t.Fatalf("it is %v", got.Bounds())
	}
	if n := different(got, want); n > 0 {
		t.Errorf("%d pixels differ", n)
	}
}

func TestForms(t *testing.T) {
	dir := t.TempDir()
	if err := run("", dir); err != nil {
		t.Fatal(err)
	}
	pictures := 0
	err := filepath.WalkDir(filepath.Join(dir, "hicolor"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".png" {
			pictures++
		}
		return err
	})
	if err != nil || pictures != len(sizes) {
		t.Errorf("%d pictures, %v", pictures, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "hicolor", "48x48", "apps", name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	if got := decode(t, data).Bounds(); got != image.Rect(0, 0, 48, 48) {
		t.Errorf("48x48 is %v", got)
	}
	ico, err := os.ReadFile(filepath.Join(dir, "wayfarer.ico"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := winres.LoadICO(bytes.NewReader(ico)); err != nil {
		t.Error(err)
	}
	icns, err := os.ReadFile(filepath.Join(dir, "wayfarer.icns"))
	if err != nil {
		t.Fatal(err)
	}
	checkICNS(t, icns)
}

// checkICNS reads a file of macOS's: a header, and pictures with one each.
func checkICNS(t *testing.T, icns []byte) {
	t.Helper()
	if string(icns[:4]) != "icns" || int(binary.BigEndian.Uint32(icns[4:])) != len(icns) {
		t.Fatalf("%d bytes, header %x", len(icns), icns[:icnsHeader])
	}
	icns = icns[icnsHeader:]
	for _, want := range icnsSizes {
		if len(icns) < icnsHeader || string(icns[:4]) != want.kind {
			t.Fatalf("no %s", want.kind)
		}
		size := int(binary.BigEndian.Uint32(icns[4:]))
		if got := decode(t, icns[icnsHeader:size]).Bounds(); got != image.Rect(0, 0, want.size, want.size) {
			t.Errorf("%s is %v", want.kind, got)
		}
		icns = icns[size:]
	}
	if len(icns) > 0 {
		t.Errorf("%d bytes behind it", len(icns))
	}
}

// Each state is told from each other by its silhouette alone, at the smallest size.
func TestStatesDifferByShape(t *testing.T) {
	const size = 16
	states := map[string][]byte{
		"disconnected": assets.Disconnected, "connecting": assets.Connecting, "connected": assets.Connected,
		"blocked": assets.Blocked, "trouble": assets.Trouble,
	}
	for a, first := range states {
		for b, second := range states {
			if a >= b {
				continue
			}
			one, err := assets.Render(first, size)
			if err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			two, err := assets.Render(second, size)
			if err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if n := different(one, two); n < size*size/16 {
				t.Errorf("%s and %s differ in %d pixels", a, b, n)
			}
		}
	}
}

func TestTint(t *testing.T) {
	for _, icon := range [][]byte{assets.Disconnected, assets.Connecting, assets.Connected, assets.Blocked, assets.Trouble} {
		img, err := assets.Render(assets.Tint(icon, "#ff0000"), 32)
		if err != nil {
			t.Fatal(err)
		}
		seen := false
		for i := 0; i < len(img.Pix); i += 4 {
			if img.Pix[i+3] == 0xff {
				seen = true
				if p := img.Pix[i : i+3]; p[0] != 0xff || p[1] != 0 || p[2] != 0 {
					t.Fatalf("a pixel is %v", p)
				}
			}
		}
		if !seen {
			t.Error("nothing was drawn")
		}
	}
}

// Package assets is what the programs with a window carry in themselves: icons and
// translations.
//
// An icon of a state is a silhouette in black, and differs from the others by shape, so
// that it is told also by those who do not see colours, and in a macOS menu bar, which
// has none. Who shows it in colour replaces the black, see [Tint]. Parts are cut out, not
// drawn in white: what is behind shows through, light or dark. Lines are drawn as areas,
// because the library that draws SVG for Fyne does not scale their width.
//
// The program's own icon is drawn once, as SVG; generate makes of it what systems want.
package assets

import (
	"bytes"
	"embed"
	"fmt"
	"image"

	"github.com/fyne-io/oksvg"
	"github.com/srwiley/rasterx"
)

// Icons of states, SVG in black.
var (
	//go:embed icons/disconnected.svg
	Disconnected []byte // an empty shield
	//go:embed icons/connecting.svg
	Connecting []byte // a shield with three dots
	//go:embed icons/connected.svg
	Connected []byte // a full shield with a check mark
	//go:embed icons/blocked.svg
	Blocked []byte // a stop sign
	//go:embed icons/trouble.svg
	Trouble []byte // a triangle with an exclamation mark
)

// The program's icon.
var (
	//go:embed icons/wayfarer.svg
	AppSVG []byte
	//go:embed icons/wayfarer.png
	AppPNG []byte // 256 × 256, made by generate
)

//go:generate go run ./generate -png icons/wayfarer.png

// Translations has the folder translations, with a file LANGUAGE.json for each language.
// The keys are the English texts in the code; after a change of those,
//
//	go test ./app/gui -run TestCatalogues -update-english
//
// writes en.json, and the same test then names what the others lack or have too much.
//
//go:embed translations
var Translations embed.FS

// Tint is an icon of a state in a colour, such as "#1c8a3c".
func Tint(icon []byte, colour string) []byte {
	return bytes.ReplaceAll(icon, []byte(`"#000"`), []byte(`"`+colour+`"`))
}

// Render draws an SVG of the kind that this package has as a square of size pixels.
func Render(svg []byte, size int) (*image.RGBA, error) {
	icon, err := oksvg.ReadIconStream(bytes.NewReader(svg), oksvg.StrictErrorMode)
	if err != nil {
		return nil, fmt.Errorf("read the SVG: %w", err)
	}
	icon.SetTarget(0, 0, float64(size), float64(size))
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	icon.Draw(rasterx.NewDasher(size, size, rasterx.NewScannerGV(size, size, img, img.Bounds())), 1)
	return img, nil
}

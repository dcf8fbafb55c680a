#!/bin/sh
# Builds everything for macOS, on a Mac: universal binaries of service and command line, and
# the application with the window, into build/macos. Nothing is signed but ad hoc.
#
#	installer/macos/build.sh
set -eu

die() { echo "build.sh: $*" >&2; exit 1; }

[ "$(uname -s)" = Darwin ] || die "this needs a Mac: the window's C code needs Apple's headers (elsewhere, \"make test-cross\" checks its Go code, and builds service and command line)"
command -v go >/dev/null || die "missing: the go command, 1.21 or newer (https://go.dev/dl)"
for tool in xcrun lipo codesign plutil; do
	command -v $tool >/dev/null || die "missing: $tool, of Apple's command line tools: xcode-select --install"
done
xcrun --sdk macosx --show-sdk-path >/dev/null 2>&1 || die "missing: the SDK of Apple's command line tools: xcode-select --install"

cd "$(dirname "$0")/../.."
version=$(installer/version)
numbers=$(echo "$version" | sed 's/[^0-9.].*//')
out=build/macos
contents=$out/Wayfarer.app/Contents
export MACOSX_DEPLOYMENT_TARGET=12.0

rm -rf "$out"
mkdir -p "$contents/MacOS" "$contents/Resources" "$out/amd64" "$out/arm64"

# build ARCH CGO PACKAGE...
build() {
	arch=$1 cgo=$2
	shift 2
	GOOS=darwin GOARCH=$arch CGO_ENABLED=$cgo go build -trimpath -ldflags "-s -w -X wayfarer/app.version=$version" -o "$out/$arch/" "$@"
}
for arch in amd64 arm64; do
	echo "darwin/$arch"
	build "$arch" 0 ./cmd/wayfarer ./cmd/wayfarerd
	build "$arch" 1 ./cmd/wayfarer-gui # clang compiles for both
done
for program in wayfarer wayfarerd wayfarer-gui; do
	lipo -create -output "$out/$program" "$out/amd64/$program" "$out/arm64/$program"
done
rm -r "$out/amd64" "$out/arm64"

# The window starts its sibling for the demonstration.
mv "$out/wayfarer-gui" "$contents/MacOS/"
cp "$out/wayfarer" "$contents/MacOS/"
sed "s/@NUMBERS@/$numbers/; s/@VERSION@/$version/" installer/macos/Info.plist >"$contents/Info.plist"
plutil -lint -s "$contents/Info.plist"
CGO_ENABLED=0 go run ./assets/generate -out "$out/icons"
cp "$out/icons/wayfarer.icns" "$contents/Resources/"
rm -r "$out/icons"
cp installer/macos/io.github.wayfarer.wayfarerd.plist "$out/"

# Macs with Apple's processors run nothing without a signature.
codesign --force --sign - "$out/wayfarer" "$out/wayfarerd" "$contents/MacOS/wayfarer"
codesign --force --sign - "$out/Wayfarer.app"
echo "built: $out/Wayfarer.app, $out/wayfarer, $out/wayfarerd ($version)"

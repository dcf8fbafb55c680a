#!/bin/sh
# Builds everything for macOS into build/macos, and a package of it into build/packages. On a
# Mac: universal binaries of service and command line, and the application with the window.
# Elsewhere it does without the window, whose C code needs Apple's headers; the package's
# name says so. Run by "make packages-macos".
#
#	SIGN_MACOS_IDENTITY=NAME             on a Mac: signs the programs with "Developer ID
#	                                     Application: NAME" and the package with "Developer
#	                                     ID Installer: NAME", of the keychain
#	NOTARIZE_MACOS_PROFILE=PROFILE       then has Apple notarise the package, with what
#	                                     "xcrun notarytool store-credentials" has stored
set -eu

die() { echo "build.sh: $*" >&2; exit 1; }
say() { echo "build.sh: $*" >&2; }

GO=${GO:-go}
command -v "$GO" >/dev/null || die "missing: the go command, 1.21 or newer (https://go.dev/dl)"
if [ "$(uname -s)" = Darwin ]; then
	window=yes name=wayfarer
	for tool in xcrun codesign plutil; do
		command -v $tool >/dev/null || die "missing: $tool, of Apple's command line tools: xcode-select --install"
	done
	xcrun --sdk macosx --show-sdk-path >/dev/null 2>&1 || die "missing: the SDK of Apple's command line tools: xcode-select --install"
else
	window='' name=wayfarer-without-window
	say "the package has no window: its C code needs Apple's headers, and so a Mac"
	[ -z "${SIGN_MACOS_IDENTITY:-}" ] || die "SIGN_MACOS_IDENTITY: Apple's tools sign on a Mac only; unset it, or run this there"
fi
identity=${SIGN_MACOS_IDENTITY:-}
if [ -z "$identity" ]; then
	say "nothing is signed but ad hoc, which macOS warns of; SIGN_MACOS_IDENTITY does it"
	[ -z "${NOTARIZE_MACOS_PROFILE:-}" ] || die "NOTARIZE_MACOS_PROFILE: Apple notarises what is signed only: set SIGN_MACOS_IDENTITY, too"
fi

cd "$(dirname "$0")/../.."
version=$(installer/version)
numbers=$(echo "$version" | sed 's/[^0-9.].*//')
time=$(git log -1 --format=%ct)
out=build/macos
contents=$out/Wayfarer.app/Contents
export MACOSX_DEPLOYMENT_TARGET=12.0

rm -rf "$out"
mkdir -p "$out/amd64" "$out/arm64"

# build ARCH CGO PACKAGE...
build() {
	arch=$1 cgo=$2
	shift 2
	GOOS=darwin GOARCH=$arch CGO_ENABLED=$cgo $GO build -trimpath -buildvcs=false -ldflags "-s -w -X wayfarer/app.version=$version" -o "$out/$arch/" "$@"
}
programs="wayfarer wayfarerd${window:+ wayfarer-gui}"
for arch in amd64 arm64; do
	echo "darwin/$arch"
	build "$arch" 0 ./cmd/wayfarer ./cmd/wayfarerd
	[ -z "$window" ] || build "$arch" 1 ./cmd/wayfarer-gui # clang compiles for both
done
for program in $programs; do
	CGO_ENABLED=0 $GO run ./installer/macos/universal "$out/$program" "$out/amd64/$program" "$out/arm64/$program"
done
rm -r "$out/amd64" "$out/arm64"
cp installer/macos/io.github.wayfarer.wayfarerd.plist "$out/"

# Macs with Apple's processors run nothing without a signature, which go has given already.
sign() {
	[ -n "$window" ] || return 0
	if [ -n "$identity" ]; then
		codesign --force --options runtime --timestamp --sign "Developer ID Application: $identity" "$@"
	else
		codesign --force --sign - "$@"
	fi
}
sign "$out/wayfarer" "$out/wayfarerd"
if [ -n "$window" ]; then
	mkdir -p "$contents/MacOS" "$contents/Resources"
	# The window starts its sibling for the demonstration.
	mv "$out/wayfarer-gui" "$contents/MacOS/"
	cp "$out/wayfarer" "$contents/MacOS/"
	sed "s/@NUMBERS@/$numbers/; s/@VERSION@/$version/" installer/macos/Info.plist >"$contents/Info.plist"
	plutil -lint -s "$contents/Info.plist"
	CGO_ENABLED=0 $GO run ./assets/generate -out "$out/icons"
	cp "$out/icons/wayfarer.icns" "$contents/Resources/"
	rm -r "$out/icons"
	sign "$out/Wayfarer.app"
fi

# What the package installs, below /. Nobody but root can replace a program in tools.
root=$out/package/root tools=$out/package/root/Library/PrivilegedHelperTools
mkdir -p "$tools" "$root/Library/LaunchDaemons" "$root/usr/local/bin" "$out/package/resources"
cp "$out/wayfarer" "$out/wayfarerd" "$tools/"
cp installer/macos/uninstall.sh "$tools/wayfarer-uninstall"
cp installer/macos/io.github.wayfarer.wayfarerd.plist "$root/Library/LaunchDaemons/"
for link in wayfarer wayfarer-uninstall; do
	ln -s "/Library/PrivilegedHelperTools/$link" "$root/usr/local/bin/$link"
done
if [ -n "$window" ]; then
	mkdir "$root/Applications"
	cp -R "$out/Wayfarer.app" "$root/Applications/"
fi
mkdir -p "$root/usr/local/share/doc/wayfarer"
cp LICENSE "$root/usr/local/share/doc/wayfarer/"
GOOS=darwin GOARCH=arm64 CGO_ENABLED=1 installer/notices ./cmd/wayfarer ./cmd/wayfarerd ${window:+./cmd/wayfarer-gui} >"$root/usr/local/share/doc/wayfarer/NOTICES"
cp installer/macos/resources/welcome.txt "$out/package/resources/"
cp LICENSE "$out/package/resources/license.txt"

mkdir -p build/packages
rm -f build/packages/*.pkg
package=build/packages/${name}_${version}.pkg
CGO_ENABLED=0 $GO run ./installer/macos/pkg -root "$root" -scripts installer/macos/scripts -resources "$out/package/resources" \
	-id io.github.wayfarer.pkg -version "$numbers" -title "Wayfarer $version" -time "$time" -out "$package"
if [ -n "$identity" ]; then
	productsign --timestamp --sign "Developer ID Installer: $identity" "$package" "$package.signed"
	mv "$package.signed" "$package"
fi
if [ -n "${NOTARIZE_MACOS_PROFILE:-}" ]; then
	xcrun notarytool submit --wait --keychain-profile "$NOTARIZE_MACOS_PROFILE" "$package"
	xcrun stapler staple "$package"
fi
rm -r "$out/package"
echo "built: $package ($version)"

#!/bin/sh
# Removes Wayfarer from this Mac: disconnects, restores the network, and takes away all that
# the package installed and the service wrote. Profiles and rules that an administrator has
# placed stay, and what users keep in their keychains.
#
#	sudo wayfarer-uninstall
set -u
ROOT=${WAYFARER_ROOT:-} # for tests: of another system
service=io.github.wayfarer.wayfarerd
state="$ROOT/Library/Application Support/Wayfarer"
tools=$ROOT/Library/PrivilegedHelperTools

[ "$(id -u)" = 0 ] || { echo "wayfarer-uninstall: run it as root: sudo wayfarer-uninstall" >&2; exit 1; }

launchctl bootout system/$service 2>/dev/null # returns when the service has disconnected
"$tools/wayfarer" restore-network ||
	{ echo "wayfarer-uninstall: the network could not be restored; nothing was removed, try again" >&2; exit 1; }
pkill -x wayfarer-gui
rm -f "$ROOT/Library/LaunchDaemons/$service.plist" "$ROOT/var/log/wayfarerd.log" "$state/network.lock"
rm -f "$ROOT"/Users/*/Library/LaunchAgents/io.github.wayfarer.plist
for name in wayfarer wayfarer-uninstall; do
	[ ! -L "$ROOT/usr/local/bin/$name" ] || rm -f "$ROOT/usr/local/bin/$name"
done
rm -rf "$ROOT/usr/local/share/doc/wayfarer" "$ROOT/Applications/Wayfarer.app" "$ROOT/var/run/wayfarer"
rmdir "$state/profiles.d" "$state" 2>/dev/null
pkgutil --forget io.github.wayfarer.pkg >/dev/null 2>&1
rm -f "$tools/wayfarerd" "$tools/wayfarer" "$tools/wayfarer-uninstall"
echo "Wayfarer is removed."
[ ! -d "$state" ] || echo "What an administrator has placed is left in $state"

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

# The service disconnects, for which launchd gives it 30 s, and may not wait for the end of it.
launchctl bootout system/$service 2>/dev/null
seconds=0
while [ $seconds -lt 35 ] && launchctl print system/$service >/dev/null 2>&1; do
	sleep 1
	seconds=$((seconds + 1))
done
if ! "$tools/wayfarer" restore-network; then
	launchctl bootstrap system "$ROOT/Library/LaunchDaemons/$service.plist" 2>/dev/null
	echo "wayfarer-uninstall: the network could not be restored; nothing was removed, try again" >&2
	exit 1
fi
pkill -x wayfarer-gui
rm -f "$ROOT/Library/LaunchDaemons/$service.plist" "$ROOT/var/log/wayfarerd.log" "$state/network.lock"
rm -f "$ROOT"/Users/*/Library/LaunchAgents/io.github.wayfarer.plist
for name in wayfarer wayfarer-uninstall; do
	[ ! -L "$ROOT/usr/local/bin/$name" ] || rm -f "$ROOT/usr/local/bin/$name"
done
rm -rf "$ROOT/usr/local/share/doc/wayfarer" "$ROOT/Applications/Wayfarer.app" "$ROOT/var/run/wayfarer"
pkgutil --forget io.github.wayfarer.pkg >/dev/null 2>&1
rm -f "$tools/wayfarerd" "$tools/wayfarer" "$tools/wayfarer-uninstall"
# What the package has made for it, as its preinstall has noted, unless others use it now.
for dir in /usr/local/share/doc /usr/local/share /usr/local/bin /usr/local /Library/PrivilegedHelperTools; do
	! grep -qsx $dir "$state/directories" || rmdir "$ROOT$dir" 2>/dev/null
done
rm -f "$state/directories"
rmdir "$state/profiles.d" "$state" 2>/dev/null
echo "Wayfarer is removed."
[ ! -d "$state" ] || echo "What an administrator has placed is left in $state"

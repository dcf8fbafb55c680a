# shellcheck shell=bash
# Other releases' gateways, in root directories of their own. Sourced by lab.

# gw-root DIR: Debian 13 with strongSwan 6, for LAB_GW_ROOT.
cmd_gw_root() {
	debian_root "${1:?directory}" trixie charon-systemd strongswan-swanctl libcharon-extra-plugins \
		libcharon-extauth-plugins libstrongswan-standard-plugins libstrongswan-extra-plugins
}

# pluto-root DIR: Debian 12 with Libreswan 4, for "lab pluto".
cmd_pluto_root() {
	debian_root "${1:?directory}" bookworm libreswan libnss3-tools openssl
}

# debian_root DIR SUITE PACKAGES: a small Debian, from the mirror that apt uses here.
# What is there already is kept; a build that was interrupted begins again.
debian_root() {
	local dir=$1 suite=$2 mirror part; shift 2
	[ "$(id -u)" = 0 ] || die "must run as root"
	case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
	[ -e "$dir/etc/lab-root" ] && [ "$(<"$dir/etc/lab-root")" = "$suite $*" ] && { note "$dir is there"; return; }
	[ ! -e "$dir" ] || [ -e "$dir/etc/lab-root" ] || [ -z "$(ls -A "$dir")" ] ||
		die "$dir exists and is no root of the lab: name another directory, or remove it"
	command -v debootstrap >/dev/null || install debootstrap
	command -v debootstrap >/dev/null || die "missing package: debootstrap"
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
	part=$dir.part
	rm -rf "$part"
	note "$suite from ${mirror:=http://deb.debian.org/debian} to $dir, some minutes"
	debootstrap --variant=minbase "$suite" "$part" "$mirror" >"$dir.log" 2>&1 ||
		die "debootstrap failed: $(tail -n 1 "$dir.log") (all of it: $dir.log)"
	# its daemons stay off
	printf '#!/bin/sh\nexit 101\n' >"$part/usr/sbin/policy-rc.d"
	chmod +x "$part/usr/sbin/policy-rc.d"
	note "installing $*"
	DEBIAN_FRONTEND=noninteractive chroot "$part" sh -c '
		apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" && apt-get clean' sh "$@" \
		>>"$dir.log" 2>&1 || die "apt-get in $part failed: $(tail -n 1 "$dir.log") (all of it: $dir.log)"
	echo "$suite $*" >"$part/etc/lab-root"
	rm -rf "$dir" "$dir.log"
	mv "$part" "$dir"
	note "$dir is ready"
}

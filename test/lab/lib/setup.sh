# shellcheck shell=bash
# Packages, and the lab's life. Sourced by lab.

missing() {	# packages
	local miss="" c pkg
	while read -r c pkg; do
		command -v "$c" >/dev/null || miss+=" $pkg"
	done <<-P
		ip iproute2
		nft nftables
		unshare util-linux
		pki strongswan-pki
		charon-systemd charon-systemd
		swanctl strongswan-swanctl
		charon-cmd charon-cmd
		vpnc vpnc
		iperf3 iperf3
		dnsmasq dnsmasq-base
		dig dnsutils
		socat socat
		curl curl
		tcpdump tcpdump
		tshark tshark
		conntrack conntrack
		openssl openssl
		ping iputils-ping
		ps procps
		tc iproute2
		ethtool ethtool
	P
	[ -e /usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so ] || miss+=" libcharon-extra-plugins"
	[ -e /usr/lib/ipsec/plugins/libstrongswan-eap-mschapv2.so ] || miss+=" libcharon-extauth-plugins"
	[ -e /usr/lib/ipsec/plugins/libstrongswan-openssl.so ] || miss+=" libstrongswan-standard-plugins"
	[ -e /usr/lib/ipsec/plugins/libstrongswan-gcrypt.so ] || miss+=" libstrongswan-extra-plugins"
	tr ' ' '\n' <<<"$miss" | sort -u | xargs
}
optional() {	# packages without which a test or two are skipped
	command -v freeradius >/dev/null || echo freeradius
}
install() {	# PACKAGES: with apt, but keep their daemons off the host
	local policy=/usr/sbin/policy-rc.d
	if [ -e $policy ]; then
		policy=""
	else
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	note "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" || note "apt failed"
	[ -z "$policy" ] || { rm -f $policy; trap - EXIT; }
} >&2
cmd_prereqs() {
	local miss list
	[ "$(uname)" = Linux ] || die "needs Linux"
	[ "$(id -u)" = 0 ] || die "must run as root"
	[ -c /dev/net/tun ] || die "no /dev/net/tun"
	unshare --net --mount true || die "may not make namespaces"
	miss=$(missing)
	if [ -n "$miss$(optional)" ] && [ "${1:-}" = --install ] && command -v apt-get >/dev/null; then
		read -ra list <<<"$miss $(optional)"
		install "${list[@]}"
		miss=$(missing)
	fi
	[ -z "$miss" ] || die "missing packages: $miss"
}
cmd_up() {
	cmd_prereqs
	if ip netns list | grep -q "^$LAB-srv\b" && [ -e "$STATE/up" ]; then
		for ns in gw gw2; do cmd_gw start $ns; done
		return
	fi
	cmd_down
	mkdir -m 700 "$STATE" 2>/dev/null || true
	[ -d "$STATE" ] && [ ! -L "$STATE" ] && [ -O "$STATE" ] || die "$STATE: not a directory of root's"
	echo "${LAB_GW_ROOT:-}" >"$STATE/gw_root"
	bins
	pki_make
	echo "$PSK" >"$STATE/psk"
	topology
	( services )
	cmd_gw start gw
	cmd_gw start gw2
	wait_for 10 inns srv dig +short +time=1 +tries=1 srv.corp.lab.test @10.10.0.53
	touch "$STATE/up"
	note "up; try: $0 connect hybrid"
}
cmd_down() {
	local ns p
	rm -f "$STATE/up"
	( cmd_office down ) 2>/dev/null || true
	for ns in $ALL_NS; do
		ip netns list | grep -q "^$LAB-$ns\b" || continue
		# everything in the lab's own namespaces belongs to the lab
		for p in $(ip netns pids "$LAB-$ns"); do kill -CONT "$p" 2>/dev/null || true; kill "$p" 2>/dev/null || true; done
	done
	for ns in $ALL_NS; do
		ip netns list | grep -q "^$LAB-$ns\b" || continue
		for _ in 1 2 3 4 5 6 7 8 9 10; do [ -z "$(ip netns pids "$LAB-$ns")" ] && break; sleep 0.1; done
		for p in $(ip netns pids "$LAB-$ns"); do kill -KILL "$p" 2>/dev/null || true; done
		ip netns del "$LAB-$ns"
	done
	rm -rf "${STATE:?}/ns" "${STATE:?}/bin"          # certificates are kept
	[ "${1:-}" != --purge ] || rm -rf "${STATE:?}"
}
cmd_status() {
	local ns
	for ns in $ALL_NS; do
		ip netns list | grep -q "^$LAB-$ns\b" || { echo "$ns: absent"; continue; }
		echo "$ns: $(ip -n "$LAB-$ns" -o -4 addr | awk '$2!="lo"{printf "%s=%s ", $2, $4}')" \
				"$(for p in $(ip netns pids "$LAB-$ns"); do echo "$(cat "/proc/$p/comm" 2>/dev/null)($p)"; done | tr '\n' ' ')"
	done
}

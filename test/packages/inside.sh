# shellcheck shell=bash
# What the scripts that run inside of the container have in common; sourced by them.
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
rm -f /usr/sbin/policy-rc.d # of the root's making: services may start here
# systemd-nspawn mounts another boot ID over the kernel's, and the service's unit, with a
# /proc of its own, does not see that: what it leaves would be of another boot.
umount /proc/sys/kernel/random/boot_id 2>/dev/null || true

die() { echo "FAILED: $*"; exit 1; }
is() { [ "$2" = "$3" ] || die "$1 is '$2', want '$3'"; }

# Every file of the system, and what is in those of /etc, but for logs, caches and the package manager's books; and the
# users, without the one that stays.
files() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root -o -path /test \
		-o -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /var/lib/dpkg -o -path /var/lib/rpm -o -path /usr/lib/sysimage \
		-o -path /var/lib/systemd/random-seed -o -path /var/lib/systemd/timers \) -prune -o -not -name 'passwd-' -not -name '*shadow-' -not -name 'group-' \
		-printf '%p %y %m %u %g %l\n' | sort
	find /etc -type f -not -name 'passwd*' -not -name '*shadow*' -not -name 'group*' -exec sha256sum {} + | sort
	grep -v ^wayfarer: /etc/passwd
	sed 's/^wayfarer:.*//' /etc/group | grep .
}
# What a connection changes.
network() {
	ip -o link | sed 's/ qdisc.*//; s/^[0-9]*: //'
	ip -o addr | awk '{print $2, $3, $4}'
	ip rule; ip -6 rule
	ip route show table all; ip -6 route show table all
	nft list ruleset
	cat /etc/resolv.conf
	sysctl -a 2>/dev/null | grep -E 'rp_filter|src_valid_mark|disable_ipv6'
}
same() {	# WHAT BEFORE AFTER
	diff "$2" "$3" >/tmp/diff || { cat /tmp/diff; die "$1 before and after differ"; }
}
service() { systemctl show -p "$1" --value wayfarerd; }
serving() { # the service answers
	for _ in $(seq 50); do
		wayfarer status >/dev/null 2>&1 && return
		sleep 0.1
	done
	journalctl -u wayfarerd | tail -20
	die "the service does not answer"
}
connected() {
	# shellcheck disable=SC2086 # flags of the lab's profile
	wayfarer connect $WAYFARER --login alice --password-file /test/password "$@" </dev/null || {
		journalctl -u wayfarerd | tail -20
		die "connect: exit $?"
	}
	ping -n -c1 -W2 "$REACHABLE" >/dev/null || die "$REACHABLE is not reached through the tunnel"
}
# Kills the service and keeps systemd from starting it again: what it left stays.
crash() {
	mkdir -p /run/systemd/system/wayfarerd.service.d
	printf '[Service]\nRestart=no\n' >/run/systemd/system/wayfarerd.service.d/test.conf
	systemctl daemon-reload
	systemctl kill -s KILL wayfarerd
	while systemctl is-active -q wayfarerd; do sleep 0.1; done
	rm -r /run/systemd/system/wayfarerd.service.d
	systemctl daemon-reload
}

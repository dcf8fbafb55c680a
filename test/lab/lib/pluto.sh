# shellcheck shell=bash
# Libreswan's pluto as a gateway, in place of gw2's strongSwan. Sourced by lab.

# pluto_run [-d NAME] PROGRAM...: in the root directory and in gw2; -d as a daemon.
# Its files are in /run/pluto.
pluto_run() {
	local how=(inns gw2)
	[ "$1" != -d ] || { how=(daemon gw2 "$2"); shift 2; }
	"${how[@]}" sh -c '
		for d in dev proc sys run; do mount --rbind "/$d" "$0/$d"; done
		exec chroot "$0" "$@"' "$LAB_PLUTO_ROOT" "$@"
}
pluto_config() {
	local d=$STATE/ns/gw2/run/pluto login pw
	rm -rf "$d"
	mkdir -p "$d/nss"
	cp "$HERE/etc/pluto.conf" "$d/ipsec.conf"
	cp "$STATE/pki/ca.pem" "$STATE/pki/ca2.pem" "$d"
	echo ": PSK \"$PSK\"" >"$d/ipsec.secrets"
	while IFS=$'\t' read -r login pw; do
		case $login in '' | '#'* | *\\*) continue ;; esac
		printf '%s:%s\n' "$login" "$(openssl passwd -5 -stdin <<<"$pw")"
	done <"$HERE/etc/users" >"$d/passwd"
	openssl pkcs12 -export -in "$STATE/pki/gw2.pem" -inkey "$STATE/pki/gw2.key" \
		-name gw2 -passout pass: -out "$d/gw2.p12"
	pluto_run sh -ec '
		cd /run/pluto
		certutil -N -d sql:nss --empty-password
		pk12util -i gw2.p12 -d sql:nss -W ""
		for c in ca ca2; do certutil -A -d sql:nss -n $c -t CT,, -i $c.pem; done' \
		>"$d/nss.out" 2>&1 || die "pluto's certificates: $(tail -n 3 "$d/nss.out")"
}
cmd_pluto() {
	local d=$STATE/ns/gw2/run/pluto ipsec=/usr/libexec/ipsec a
	case ${1:-} in
	start)
		[ -x "${LAB_PLUTO_ROOT:-}$ipsec/pluto" ] ||
			die "no Libreswan in LAB_PLUTO_ROOT: make one with 'lab pluto-root DIR'"
		stop_daemon gw2 charon
		stop_daemon gw2 pluto
		pluto_config
		for a in 131 132; do
			ipn gw2 addr replace "198.51.100.$a/25" dev wan0
		done
		pluto_run -d pluto $ipsec/pluto --nofork --config /run/pluto/ipsec.conf \
			--ipsecdir /run/pluto --rundir /run/pluto --nssdir /run/pluto/nss \
			--secretsfile /run/pluto/ipsec.secrets --logfile /run/pluto/pluto.log </dev/null
		# it loads the connections by itself, and the secrets last
		wait_for 10 grep -q '"psk-am": added' "$d/pluto.log" && wait_for 5 grep -q "loading secrets" "$d/pluto.log" ||
			die "pluto: $(tail -n 5 "$STATE/ns/gw2/run/pluto.out" "$d/pluto.log" 2>/dev/null)"
		;;
	stop)
		stop_daemon gw2 pluto
		cmd_gw start gw2
		;;
	log) cat "$d/pluto.log" ;;
	*) die "pluto start|stop|log" ;;
	esac
}

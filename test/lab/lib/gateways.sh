# shellcheck shell=bash
# Certificates and strongSwan gateways. Sourced by lab.

# ---- certificates --------------------------------------------------------

pkiq() { pki "$@" 2>>"$STATE/pki/pki.log"; }
key()  {	# NAME [TYPE [SIZE]]
	[ -s "$1.key" ] || pkiq --gen --type "${2:-rsa}" --size "${3:-2048}" --outform pem >"$1.key"
}
issue() {	# CA NAME DN [pki --issue args]
	local ca=$1 name=$2 dn=$3; shift 3
	[ ! -s "$name.pem" ] || return 0
	pkiq --pub --in "$name.key" | pkiq --issue --cacert "$ca.pem" --cakey "$ca.key" \
		--dn "$dn" --outform pem "$@" >"$name.pem"
}
# Makes what is missing; all of it anew before it expires.
pki_make() (
	mkdir -p "$STATE/pki"
	cd "$STATE/pki" || exit
	[ -z "$(find . -name ca.pem -mtime +300)" ] || rm -f ./*
	srv=(--flag serverAuth --flag ikeIntermediate)
	for c in ca ca2 rogue-ca; do
		key $c
		[ -s $c.pem ] ||
			pkiq --self --ca --in $c.key --lifetime 3650 --dn "O=Lab, CN=$c" --outform pem >$c.pem
	done
	key sub rsa 4096
	issue ca sub "O=Lab, CN=sub-ca" --ca --lifetime 3000
	for c in gw gw-expired gw-rogue gw-wrongname gw2 alice; do key $c; done
	key gw-chain rsa 4096
	key alice-chain rsa 4096
	key gw-legacy rsa 1024
	issue ca gw "O=Lab, CN=gw.lab.test" "${srv[@]}" --san gw.lab.test --san 198.51.100.10 --san 2001:db8:100::10
	# every name is used once: charon looks its private key up by the ID
	issue ca gw-expired "O=Lab, CN=expired.lab.test" "${srv[@]}" --san expired.lab.test \
		--dateform "%Y-%m-%d" --not-before 2015-01-01 --not-after 2016-01-01
	issue rogue-ca gw-rogue "O=Lab, CN=rogue.lab.test" "${srv[@]}" --san rogue.lab.test
	issue ca gw-wrongname "O=Lab, CN=elsewhere.lab.test" "${srv[@]}" --san elsewhere.lab.test
	issue sub gw-chain "O=Lab, CN=chain.lab.test" "${srv[@]}" --san chain.lab.test
	issue ca gw-legacy "O=Lab, CN=legacy-gw" --digest sha1
	issue ca2 gw2 "O=Lab, CN=gw2.lab.test" "${srv[@]}" --san gw2.lab.test
	issue ca alice "O=Lab, CN=alice" --flag clientAuth --san alice@lab.test
	issue sub alice-chain "O=Lab, CN=alice-chain" --flag clientAuth --san alice-chain@lab.test
	for p in 256 384; do
		key gw-p$p ecdsa $p
		issue ca gw-p$p "O=Lab, CN=p$p.lab.test" "${srv[@]}" --san p$p.lab.test
		key alice-p$p ecdsa $p
		issue ca alice-p$p "O=Lab, CN=alice-p$p" --flag clientAuth --san alice-p$p@lab.test
	done
	[ -s alice.p12 ] || openssl pkcs12 -export -in alice.pem -inkey alice.key -certfile ca.pem \
		-name alice -passout pass:p12 -out alice.p12
	chmod 600 ./*.key
)

# Daemons run from copies of the binaries: Debian's AppArmor profiles are bound
# to the original paths and forbid other configuration directories.
bins() {
	mkdir -p "$STATE/bin"
	local b
	for b in charon-systemd swanctl; do cp "/usr/sbin/$b" "$STATE/bin/"; done
	cp "$HERE/etc/whoami.sh" "$STATE/bin/"
}
ss() {	# NS BINARY ARGS...: a strongSwan program with the namespace's own config
	local ns=$1 b=$2; shift 2
	inns "$ns" env STRONGSWAN_CONF=/run/strongswan/strongswan.conf \
		SWANCTL_DIR=/run/strongswan/swanctl "$STATE/bin/$b" "$@"
}
swan() { local ns=$1; shift; ss "$ns" swanctl "$@"; }

charon_start() {	# NS
	local root=""
	case $1 in gw*) root=$(cat "$STATE/gw_root") ;; esac
	rm -f "$STATE/ns/$1/run/charon.vici"
	if [ -z "$root" ]; then
		daemon "$1" charon env STRONGSWAN_CONF=/run/strongswan/strongswan.conf \
			"$STATE/bin/charon-systemd" </dev/null
	else	# another strongSwan, from a root directory
		daemon "$1" charon env STRONGSWAN_CONF=/run/strongswan/strongswan.conf sh -c '
			for d in dev proc sys run; do mount --rbind "/$d" "$0/$d"; done
			exec chroot "$0" /usr/sbin/charon-systemd' "$root" </dev/null
	fi
	wait_for 10 test -S "$STATE/ns/$1/run/charon.vici" ||
		{ tail -5 "$STATE/ns/$1/run/charon.out" >&2; die "charon in $1 did not start"; }
	swan "$1" --load-all >"$STATE/ns/$1/run/load.out" 2>&1 ||
		{ tail -20 "$STATE/ns/$1/run/load.out" >&2; die "swanctl --load-all failed in $1"; }
}
hex() { printf %s "$1" | od -An -v -tx1 | tr -d ' \n'; }
gw_config() {	# NS
	local d="$STATE/ns/$1/run/strongswan" n=0 login pw
	pki_make
	mkdir -p "$d/swanctl/"{x509,x509ca,private}
	cp "$HERE/etc/strongswan-gw.conf" "$d/strongswan.conf"
	cp "$HERE/etc/swanctl/$1.conf" "$d/swanctl/swanctl.conf"
	# secrets in hexadecimal: nothing to quote
	while IFS=$'\t' read -r login pw; do
		case $login in ''|'#'*) continue ;; esac
		n=$((n + 1))
		printf 'eap-%d {\n\tid = "%s"\n\tsecret = 0x%s\n}\n' $n "${login//\\/\\\\}" "$(hex "$pw")"
	done <"$HERE/etc/users" >"$d/swanctl/users.conf"
	case $1 in
	gw)
		cp "$STATE"/pki/gw{,-expired,-rogue,-wrongname,-chain,-legacy,-p256,-p384}.pem "$d/swanctl/x509/"
		cp "$STATE"/pki/gw{,-expired,-rogue,-wrongname,-chain,-legacy,-p256,-p384}.key "$d/swanctl/private/"
		cp "$STATE"/pki/{ca,sub}.pem "$d/swanctl/x509ca/"
		;;
	gw2)
		cp "$STATE/pki/gw2.pem" "$d/swanctl/x509/"
		cp "$STATE/pki/gw2.key" "$d/swanctl/private/"
		cp "$STATE/pki/ca2.pem" "$d/swanctl/x509ca/"
		;;
	esac
}
cmd_gw() {
	local act=${1:-} ns=${2:-gw} p
	case $act in
	start)   pid_of "$ns" charon >/dev/null || { gw_config "$ns"; charon_start "$ns"; } ;;
	stop)    stop_daemon "$ns" charon ;;
	restart) stop_daemon "$ns" charon; gw_config "$ns"; charon_start "$ns" ;;
	crash)   stop_daemon "$ns" charon KILL; gw_config "$ns"; charon_start "$ns" ;;	# no DELETE is sent
	kill)    stop_daemon "$ns" charon KILL ;;
	freeze)  p=$(pid_of "$ns" charon) && kill -STOP "$p" ;;
	thaw)    p=$(pid_of "$ns" charon) && kill -CONT "$p" ;;
	reload)  gw_config "$ns"; swan "$ns" --load-all --clear ;;
	sas)     swan "$ns" --list-sas ;;
	leases)  swan "$ns" --list-pools --leases ;;
	log)     cat "$STATE/ns/$ns/run/strongswan/charon.log" ;;
	version) swan "$ns" --version --daemon | awk '{print $2}' ;;
	delete-ike)	# all, or those of connection $3
		for p in $(swan "$ns" --list-sas | sed -n "s/^${3:-[^ ]*}: #\([0-9]*\),.*/\1/p"); do
			swan "$ns" --terminate --ike-id "$p" --timeout 5 || true
		done ;;
	delete-child) swan "$ns" --terminate --child "${3:-net}" --timeout 5 || true ;;
	rekey-child)  swan "$ns" --rekey --child "${3:-net}" ;;
	rekey-ike)    swan "$ns" --rekey --ike "${3:-hybrid}" ;;
	*) die "gw: unknown action '$act'" ;;
	esac
}

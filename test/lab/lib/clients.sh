# shellcheck shell=bash
# Profiles, and the clients that use them. Sourced by lab.

# ---- profiles ------------------------------------------------------------

load_profile() {
	local line
	line=$(awk -v n="$1" '!/^#/ && $1 == n' "$HERE/etc/profiles")
	[ -n "$line" ] || die "no profile '$1'"
	read -r P_NAME P_GW P_ID P_AUTH P_MODE P_UP P_IKE P_ESP P_REACH P_UNREACH <<<"$line"
	P_CA=$STATE/pki/ca.pem
	[ "$P_NAME" != other ] || P_CA=$STATE/pki/ca2.pem
}
password_of() { U=$1 awk -F'\t' '$1 == ENVIRON["U"] {print $2}' "$HERE/etc/users"; }
cmd_profile() {
	load_profile "${1:?profile}"
	cat <<-P
		NAME=$P_NAME
		GATEWAY=$P_GW
		REMOTE_ID=$P_ID
		AUTH=$P_AUTH
		MODE=$P_MODE
		EXPECT=$P_UP
		IKE_PROPOSAL=$P_IKE
		ESP_PROPOSAL=$P_ESP
		REACHABLE=$P_REACH
		UNREACHABLE=$P_UNREACH
		CA=$P_CA
		USER=alice
		PASSWORD=$(password_of alice)
		PSK=$PSK
		GROUP=labgroup
		CERT=$STATE/pki/alice.pem
		KEY=$STATE/pki/alice.key
		P12=$STATE/pki/alice.p12
	P
	case $P_NAME in radius | passcode | rounds)
		echo "RADIUS=$(pid_of srv radius >/dev/null && echo yes || echo no)" ;;
	esac
	[ "$P_AUTH" = eap ] || echo "WAYFARER=$(C_CA=$P_CA C_IKE=$P_IKE C_ESP=$P_ESP wayfarer_flags)"
}
profile_names() { awk '!/^#/{print $1}' "$HERE/etc/profiles"; }
cmd_profiles() { grep -v '^# [an]' "$HERE/etc/profiles" | awk '!/^#/{print $1, $2, $4, $5, $6}' | column -t; }

# ---- reference clients ---------------------------------------------------

client_conf() {	# NS: directories and strongswan.conf of a reference client
	local d="$STATE/ns/$1/run/strongswan"
	mkdir -p "$d/swanctl/"{x509,x509ca,private}
	cp "$HERE/etc/strongswan-client.conf" "$d/strongswan.conf"
	rm -rf "$d/client.log" "$d/conf.d" "$d"/swanctl/*/*
}

connect_charon_cmd() {
	local a=(--host "$P_GW" --remote-identity "$P_ID" --cert "$C_CA"
		--ike-proposal "$C_IKE" --esp-proposal "$C_ESP") prof
	case $P_AUTH-$P_MODE in
	hybrid-main) prof=ikev1-hybrid ;;
	hybrid-aggr) prof=ikev1-hybrid-am ;;
	psk-main)    prof=ikev1-xauth-psk ;;
	psk-aggr)    prof=ikev1-xauth-psk-am ;;
	rsa-main)    prof=ikev1-xauth ;;
	rsa-aggr)    prof=ikev1-xauth-am ;;
	eap-v2)      prof=ikev2-eap ;;
	*) die "charon-cmd cannot do $P_AUTH/$P_MODE" ;;
	esac
	case $P_AUTH in
	eap) a+=(--identity "$C_USER" --eap-identity "$C_USER") ;;
	rsa) a+=(--identity alice@lab.test --cert "$STATE/pki/alice.pem" --rsa "$STATE/pki/alice.key") ;;
	psk) a+=(--identity "keyid:labgroup") ;;
	*)   a+=(--identity "$C_USER") ;;
	esac
	[ "$P_AUTH" = eap ] || a+=(--xauth-username "$C_USER")
	client_conf "$C_NS"
	# charon-cmd prompts once per secret and, without a terminal, reads stdin
	{ [ "$P_AUTH" != psk ] || echo "$PSK"; echo "$C_PASS"; } >"$STATE/ns/$C_NS/secrets"
	daemon "$C_NS" client env STRONGSWAN_CONF=/run/strongswan/strongswan.conf \
		charon-cmd "${a[@]}" --profile "$prof" <"$STATE/ns/$C_NS/secrets"
}

connect_swanctl() {
	local d="$STATE/ns/$C_NS/run/strongswan"
	local v=1 aggr=no pull=yes l1 l2="" r
	case $P_MODE in aggr) aggr=yes ;; v2) v=2 ;; push) pull=no ;; esac
	case $P_AUTH in
	hybrid) l1="auth = xauth
			xauth_id = \"${C_USER//\\/\\\\}\"" r=pubkey ;;
	psk)    l1="auth = psk
			id = keyid:labgroup" r=psk ;;
	rsa)    l1="auth = pubkey
			certs = alice.pem
			id = alice@lab.test" r=pubkey ;;
	eap)    l1="auth = eap-mschapv2
			eap_id = \"${C_USER//\\/\\\\}\"
			id = \"${C_USER//\\/\\\\}\"" r=pubkey ;;
	esac
	case $P_AUTH in psk | rsa) l2="local-2 {
			auth = xauth
			xauth_id = \"${C_USER//\\/\\\\}\"
		}" ;; esac
	local running=no
	pid_of "$C_NS" charon >/dev/null && running=yes
	[ $running = yes ] || client_conf "$C_NS"
	cp "$C_CA" "$d/swanctl/x509ca/$P_NAME-ca.pem"
	cp "$STATE/pki/alice.pem" "$d/swanctl/x509/"
	cp "$STATE/pki/alice.key" "$d/swanctl/private/"
	mkdir -p "$d/conf.d"
	cat >"$d/conf.d/$P_NAME.conf" <<-C
	connections {
		$P_NAME {
			version = $v
			remote_addrs = $P_GW
			aggressive = $aggr
			pull = $pull
			vips = 0.0.0.0
			proposals = $C_IKE
			dpd_delay = 10s
			dpd_timeout = 30s
			rekey_time = ${LAB_IKE_REKEY:-4h}
			rand_time = 0s
			local-1 {
				$l1
			}
			$l2
			remote {
				auth = $r
				id = "$P_ID"
			}
			children {
				$P_NAME {
					remote_ts = 0.0.0.0/0
					esp_proposals = $C_ESP
					rekey_time = ${LAB_ESP_REKEY:-1h}
					life_time = ${LAB_ESP_LIFE:-2h}
					rand_time = 0s
					dpd_action = ${LAB_DPD_ACTION:-restart}
				}
			}
		}
	}
	secrets {
		eap-$P_NAME {
			id = "${C_USER//\\/\\\\}"
			secret = 0x$(hex "$C_PASS")
		}
		ike-$P_NAME {
			secret = $PSK
		}
	}
	C
	echo "include /run/strongswan/conf.d/*.conf" >"$d/swanctl/swanctl.conf"
	if [ $running = no ]; then
		charon_start "$C_NS"
	else
		swan "$C_NS" --load-all >/dev/null 2>&1
	fi
	daemon "$C_NS" client env STRONGSWAN_CONF=/run/strongswan/strongswan.conf \
		SWANCTL_DIR=/run/strongswan/swanctl "$STATE/bin/swanctl" --initiate --child "$P_NAME" \
		--timeout "$C_TIME" </dev/null
}

connect_vpnc() {
	local mode
	case $P_AUTH-$P_MODE in
	hybrid-aggr) mode=hybrid ;;
	psk-aggr) mode=psk ;;
	*) die "vpnc cannot do $P_AUTH/$P_MODE (aggressive mode only)" ;;
	esac
	local dh=dh14
	local weak=""
	case $C_IKE in *modp1024) dh=dh2 ;; esac
	case $C_IKE in 3des*) weak="Enable weak encryption" ;; esac
	mkdir -p "$STATE/ns/$C_NS/run/vpnc"
	rm -f "$STATE/ns/$C_NS/run/strongswan/client.log"
	cat >"$STATE/ns/$C_NS/run/vpnc.conf" <<-C
	IPSec gateway $P_GW
	IPSec ID labgroup
	IPSec secret $PSK
	IKE Authmode $mode
	IKE DH Group $dh
	Perfect Forward Secrecy nopfs
	CA-File $C_CA
	Xauth username $C_USER
	Xauth password $C_PASS
	NAT Traversal Mode ${LAB_VPNC_NATT:-natt}
	Pidfile /run/vpnc/pid
	Interface name tun0
	$weak
	Debug ${LAB_VPNC_DEBUG:-1}
	No Detach
	${LAB_VPNC_EXTRA:-}
	C
	daemon "$C_NS" client vpnc --non-inter /run/vpnc.conf </dev/null
}

# The flags of "wayfarer connect" for the loaded profile; none needs quoting.
wayfarer_flags() {
	local cert f=(--gateway "$P_GW" --remote-id "$P_ID" --ike "$C_IKE" --esp "$C_ESP")
	case $P_AUTH in
	psk) f+=(--auth xauth-psk --group-secret-file "$STATE/psk" --group-id labgroup) ;;
	rsa) f+=(--auth xauth-rsa --ca "$C_CA" --cert "$STATE/pki/alice.pem" --key "$STATE/pki/alice.key") ;;
	site-psk)
		f+=(--auth psk --group-secret-file "$STATE/psk" --group-id labgroup) ;;
	site-*)
		cert=alice-${P_AUTH#site-}
		f+=(--auth rsa --ca "$C_CA" --cert "$STATE/pki/${cert%-rsa}.pem" --key "$STATE/pki/${cert%-rsa}.key") ;;
	*)   f+=(--auth "$P_AUTH" --ca "$C_CA") ;;
	esac
	case $P_MODE in
	aggr) f+=(--exchange aggressive) ;;
	push) f+=(--exchange main --set mode_config=push) ;;
	*)    f+=(--exchange main) ;;
	esac
	case $P_AUTH in site-*)
		f+=(--set local_networks=10.55.0.0/24 --set "remote_networks=10.10.0.0/24,10.10.1.0/24,10.10.2.0/24") ;;
	esac
	case $P_NAME in
	legacy-md5) f+=(--allow-weak "3des,md5,modp1024,rsa1024,sha1-cert") ;;
	legacy*)    f+=(--allow-weak "3des,modp1024,rsa1024,sha1-cert") ;;
	*psk-am)    f+=(--allow-weak psk-aggressive) ;;
	esac
	echo "${f[@]}"
}
connect_wayfarer() {
	local flags
	[ "$P_AUTH" != eap ] || die "wayfarer knows IKEv1 only"
	echo "$PSK" >"$STATE/psk"
	[ -x "$BIN/wayfarer" ] && [ -x "$BIN/wayfarerd" ] || die "no wayfarer or wayfarerd in $BIN: make build"
	mkdir -p "$STATE/ns/$C_NS/run/wayfarer"
	daemon "$C_NS" wayfarerd "$BIN/wayfarerd" --socket /run/wayfarer/wayfarerd.sock \
		--state-dir /run/wayfarer/state --log-level debug </dev/null
	wait_for 5 test -S "$STATE/ns/$C_NS/run/wayfarer/wayfarerd.sock" ||
		{ tail -5 "$STATE/ns/$C_NS/run/wayfarerd.out" >&2; die "wayfarerd does not listen"; }
	read -ra flags <<<"$(wayfarer_flags)"
	case $P_AUTH in site-*) ;; *) flags+=(--login "$C_USER" --password-file -) ;; esac
	printf '%s\n' "$C_PASS" |
		inns "$C_NS" "$BIN/wayfarer" connect "${flags[@]}" --timeout "${C_TIME}s" >>"$STATE/ns/$C_NS/run/client.out" 2>&1 ||
		echo "exit $?" >>"$STATE/ns/$C_NS/run/client.out"
}

reach_once() { ip netns exec "$LAB-$1" ping -n -c1 -W"${3:-1}" "$2" >/dev/null 2>&1; }	# NS ADDR [SECS]

client_log() { (cd "$STATE/ns/$1/run" && cat wayfarerd.out client.out strongswan/client.log 2>/dev/null) || true; }

# The client's inside address(es)
vip_of() { ipn "$1" -o -4 addr | awk '{split($4,a,"/"); if (a[1] ~ /^10\.(9[89]|55)\./) print a[1]}'; }

cmd_connect() {
	local OPTIND o t0 first end wait=${LAB_PING_WAIT:-0.03} client=charon-cmd
	C_NS=rw C_USER=alice C_PASS="" C_CA="" C_IKE="" C_ESP="" C_TIME=30
	while getopts c:n:u:p:a:i:e:t: o; do
		case $o in
		c) client=$OPTARG ;; n) C_NS=$OPTARG ;; u) C_USER=$OPTARG ;; p) C_PASS=$OPTARG ;;
		a) C_CA=$OPTARG ;; i) C_IKE=$OPTARG ;; e) C_ESP=$OPTARG ;; t) C_TIME=$OPTARG ;;
		*) usage; exit 2 ;;
		esac
	done
	shift $((OPTIND - 1))
	load_profile "${1:?profile}"
	: "${C_PASS:=$(password_of "$C_USER")}" "${C_CA:=$P_CA}" "${C_IKE:=$P_IKE}" "${C_ESP:=$P_ESP}"
	[ "$client" = swanctl ] || cmd_disconnect -n "$C_NS"
	first=${P_REACH%%,*}
	[ "$first" != - ] || first=10.10.0.2
	: >"$STATE/ns/$C_NS/run/client.out"
	rm -f "$STATE/ns/$C_NS/run/wayfarerd.out"
	t0=$(now)
	case $client in
	charon-cmd) connect_charon_cmd ;;
	swanctl) connect_swanctl ;;
	vpnc) connect_vpnc ;;
	wayfarer) connect_wayfarer ;;
	*) die "unknown client '$client'" ;;
	esac
	end=$((SECONDS + C_TIME))
	while ((SECONDS < end)); do
		((end - SECONDS > C_TIME - 3)) || wait=0.5     # first look often, then be patient
		if reach_once "$C_NS" "$first" "$wait"; then
			echo "up $(since "$t0") $(vip_of "$C_NS" | xargs)"
			return 0
		fi
		pid_of "$C_NS" client >/dev/null && continue
		# these end when the tunnel is up, the others when it fails
		case $client in
		swanctl) grep -q "initiate completed successfully" "$STATE/ns/$C_NS/run/client.out" || break ;;
		wayfarer) ! grep -q "^exit " "$STATE/ns/$C_NS/run/client.out" || break ;;
		*) break ;;
		esac
	done
	echo "failed $(since "$t0")"
	client_log "$C_NS" | tail -n "${LAB_TAIL:-8}" >&2
	return 1
}

cmd_disconnect() {
	local ns=rw d
	[ "${1:-}" != -n ] || ns=$2
	stop_daemon "$ns" client
	stop_daemon "$ns" charon
	if pid_of "$ns" wayfarerd >/dev/null; then
		inns "$ns" "$BIN/wayfarer" disconnect >>"$STATE/ns/$ns/run/client.out" 2>&1 || true
		stop_daemon "$ns" wayfarerd
	fi
	# a killed client may leave its interface, rules and routes behind
	for d in ipsec0 tun0 wayfarer0; do ipn "$ns" link del "$d" 2>/dev/null || true; done
	ipn "$ns" route flush table 220 2>/dev/null || true
	ipn "$ns" route flush root 198.51.100.0/24 2>/dev/null || true
	uplink "$ns"
	reset_dns "$ns"
}

# office NS: a satellite office behind NS, with one computer (namespace "branch",
# 10.55.0.2) in 10.55.0.0/24. Gone with "office down".
cmd_office() {
	local p
	if ip netns list | grep -q "^$LAB-branch\b"; then
		for p in $(ip netns pids "$LAB-branch"); do kill -KILL "$p" 2>/dev/null || true; done
		ip netns del "$LAB-branch"
		for p in $CLIENTS; do inns "$p" sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'; done
	fi
	[ "${1:?namespace}" != down ] || return 0
	ip netns add "$LAB-branch"
	mkdir -p "$STATE/ns/branch/run"
	ipn branch link set lo up
	veth "$1" office branch lan0
	addr "$1" office 10.55.0.1/24
	addr branch lan0 10.55.0.2/24
	ipn branch route add default via 10.55.0.1
	inns "$1" sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
}

# probe [-n NS] PROFILE: TAP-like lines, status 1 if anything is wrong
cmd_probe() {
	local ns=rw a rc=0 vips body
	[ "${1:-}" != -n ] || { ns=$2; shift 2; }
	load_profile "${1:?profile}"
	vips=$(vip_of "$ns")
	for a in ${P_REACH//,/ }; do
		[ "$a" != - ] || continue
		if reach_once "$ns" "$a"; then echo "ok ping $a"; else echo "not ok ping $a"; rc=1; fi
	done
	for a in ${P_UNREACH//,/ }; do
		[ "$a" != - ] || continue
		if reach_once "$ns" "$a"; then echo "not ok $a must be unreachable"; rc=1; else echo "ok $a unreachable"; fi
	done
	a=${P_REACH%%,*}
	body=$(inns "$ns" curl -s -m 5 "http://$a/" || true)
	a=${body##*peer=}
	case " ${vips//$'\n'/ } " in
	*" $a "*) echo "ok http from $a" ;;
	*) echo "not ok http: '$body', inside address '$vips'"; rc=1 ;;
	esac
	return $rc
}

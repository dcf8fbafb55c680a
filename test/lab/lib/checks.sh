# shellcheck shell=bash
# Tests of the lab itself, and of clients by way of the lab (TAP). Sourced by lab.

T_N=0 T_BAD=0
t() {	# NAME CMD...
	local name=$1 out line; shift
	T_N=$((T_N + 1))
	if out=$("$@" 2>&1); then
		echo "ok $T_N - $name${out:+ ($(tail -1 <<<"$out" | cut -c1-60))}"
	else
		T_BAD=$((T_BAD + 1))
		echo "not ok $T_N - $name"
		tail -12 <<<"$out" | while IFS= read -r line; do echo "# $line"; done
	fi
}
not() { ! "$@"; }
done_testing() { echo "1..$T_N"; [ $T_BAD = 0 ] || { echo "# $T_BAD failed"; return 1; }; }

# What a client cannot do for reasons of its own, or without somebody to ask
unsupported() {	# CLIENT PROFILE-NAME
	case $1-$P_AUTH-$P_MODE-$2 in
	charon-cmd-*-push-* | charon-cmd-*-hybrid6) return 0 ;;
	vpnc-hybrid-aggr-* | vpnc-psk-aggr-*) return 1 ;;
	vpnc-*) return 0 ;;
	wayfarer-eap-*) return 0 ;;
	wayfarer-site-*) return 1 ;;
	*-site-* | *-passcode | *-rounds) return 0 ;;
	*-radius) ! pid_of srv radius >/dev/null; return ;;
	esac
	return 1
}
# what the client says when it must fail
why() {	# CLIENT REASON
	case $1-$2 in
	wayfarer-no-proposal-*) echo "^exit 6" ;;
	wayfarer-*) echo "^exit 4" ;;
	*-expired-cert) echo "subject certificate invalid" ;;
	*-untrusted-ca) echo "no issuer certificate found" ;;
	*-wrong-name) echo "does not match to" ;;
	*-no-proposal-*) echo "received NO_PROPOSAL_CHOSEN" ;;
	esac
}
check_one() {	# CLIENT PROFILE
	load_profile "$2"
	case $P_AUTH in site-*) cmd_office rw ;; esac
	if [ "$P_UP" = yes ]; then
		cmd_connect -c "$1" -t 15 "$2" && cmd_probe "$2" >/dev/null || { cmd_probe "$2"; return 1; }
	else
		! cmd_connect -c "$1" -t 8 "$2" || { echo "connected, but must not: $P_UP"; return 1; }
		client_says "$(why "$1" "$P_UP")" || { echo "failed for another reason"; return 1; }
	fi 2>/dev/null
}
cmd_check() {
	local c p
	[ $# -gt 0 ] || set -- charon-cmd swanctl vpnc
	for c; do
		for p in $(profile_names); do
			load_profile "$p"
			! unsupported "$c" "$p" || continue
			cmd_disconnect
			t "$c $p ($P_UP)" check_one "$c" "$p"
		done
		cmd_disconnect
	done
	cmd_office down
	done_testing
}

up() { cmd_connect -t 12 "$@"; }
pings() { reach_once "${2:-rw}" "${1:-10.10.0.2}" 1; }
pings_within() { wait_for "$1" pings "${2:-10.10.0.2}" "${3:-rw}"; }
gw_says() { grep -aq "$1" "$STATE/ns/gw/run/strongswan/charon.log"; }
client_says() { client_log rw | grep -aq "$1"; }
no_leases() { swan gw --list-pools | grep -q "^$1 .*1 / 0 / 0"; }
mbit() {	# NS iperf3-args: megabits per second at the receiver
	local ns=$1; shift
	inns "$ns" iperf3 -f m "$@" | awk '/receiver/{print $7}'
}
slower_than() { awk -v a="$1" -v b="$2" 'BEGIN{exit !(a > 0 && a < b)}'; }

cmd_faults_check() {
	local ns
	for ns in $CLIENTS; do cmd_disconnect -n "$ns"; done
	cmd_fault clear
	cmd_gw restart gw

	t "wrong password is refused"            not up -p nope hybrid
	t "... with swanctl as well"             not up -c swanctl -p nope hybrid
	cmd_disconnect
	t "... by the gateway"                   gw_says "XAuth authentication of 'alice' failed"
	t "unknown user is refused"              not up -u mallory -p x hybrid
	t "wrong CA: the client refuses"         not up -a "$STATE/pki/ca2.pem" hybrid
	t "wrong PSK is refused"                 wrong_psk

	t "pool of one: first client"            up tiny
	t "pool of one: second client refused"   not up -n rw2 -u bob tiny
	cmd_disconnect -n rw2
	t "pool of one: first client unharmed"   pings
	cmd_disconnect

	cmd_fault drop-frags
	t "drop-frags: large certificate fails"  not up chain
	t "drop-frags: IKE fragmentation helps"  up chain-frag
	cmd_fault clear
	t "without the fault it works"           up chain
	cmd_disconnect

	cmd_fault drop-esp
	t "drop-esp: no traffic"                 not up -t 4 hybrid
	t "drop-esp: but IKE is up"              gw_says "IKE_SA hybrid.* established"
	cmd_fault clear
	t "drop-esp: traffic after clear"        pings_within 3
	cmd_fault drop-ike
	t "drop-ike: existing tunnel works"      pings
	t "drop-ike: no new tunnel"              not up -t 4 -n rw2 hybrid
	cmd_fault clear
	cmd_disconnect -n rw2
	cmd_disconnect
	cmd_fault drop-500
	t "drop-500"                             not up -c swanctl -t 4 hybrid
	cmd_fault clear; cmd_disconnect
	cmd_fault drop-4500
	t "drop-4500"                            not up -c swanctl -t 4 hybrid
	cmd_fault clear; cmd_disconnect
	cmd_fault reject
	t "reject (ICMP port unreachable)"       not up -c swanctl -t 4 hybrid
	cmd_fault clear; cmd_disconnect
	cmd_fault drop-from-gw
	t "drop-from-gw"                         not up -t 4 hybrid
	cmd_fault clear; cmd_disconnect

	cmd_fault loss 10
	t "loss 10: retransmissions"             up -t 60 hybrid
	cmd_fault clear
	cmd_fault dup
	t "dup: connects"                        up hybrid
	t "dup: replays are dropped"             no_dup_pings
	cmd_fault clear
	cmd_fault rate 2mbit
	t "rate 2mbit"                           slower_than "$(mbit rw -c 10.10.0.2 -t 3)" 2.4
	cmd_fault clear
	if (cmd_fault delay 100) 2>/dev/null; then
		t "delay 100: 200 ms round trip"     slow_ping
		t "delay 100: connects"              up hybrid
	else
		T_N=$((T_N + 1)); echo "ok $T_N # SKIP delay: neither netem nor python3"
	fi
	cmd_fault clear
	cmd_fault drop-big 1200
	t "drop-big: small packets pass"         pings
	t "drop-big: large ones vanish"          not inns rw ping -c2 -W1 -s 1300 10.10.0.2
	cmd_fault clear
	t "large ones pass without the fault"    inns rw ping -c1 -W1 -s 1300 10.10.0.2
	cmd_fault mtu 1300
	t "mtu 1300: path MTU discovery"         inns rw ping -c4 -i 0.3 -W1 -s 1300 10.10.0.2
	cmd_fault clear
	cmd_fault dns-down
	t "dns-down"                             not inns rw dig +time=1 +tries=1 gw.lab.test @203.0.113.53
	cmd_fault clear

	cmd_gw freeze
	t "freeze: the gateway is dead"          not pings
	cmd_gw thaw
	t "thaw: back again"                     pings_within 3
	cmd_gw delete-ike >/dev/null 2>&1
	t "delete-ike: the client hears of it"   wait_for 3 client_says "received DELETE for IKE_SA"
	t "delete-child"                         delete_child
	t "crash: SAs are gone"                  crash
	cmd_disconnect
	t "restart: connect"                     up hybrid
	cmd_gw restart
	t "restart: DELETE was sent"             wait_for 3 client_says "received DELETE for IKE_SA"
	cmd_disconnect
	t "gateway rekeys ESP"                   rekey_child

	cmd_disconnect
	t "nat-rebind: connect"                  up -c swanctl hybrid
	cmd_fault nat-rebind
	t "nat-rebind: cut off at first"         not pings
	t "nat-rebind: back after DPD, rekeying" pings_within 20
	cmd_fault nat-move
	t "nat-move: cut off at first"           not pings
	t "nat-move: back after DPD, rekeying"   pings_within 20
	cmd_fault clear; cmd_disconnect
	cmd_fault nat-ports
	t "nat-ports: connect"                   up -c swanctl hybrid
	t "nat-ports: two clients"               up -c swanctl -n rw3 -u bob hybrid
	t "nat-ports: both work"                 pings
	cmd_fault clear; cmd_disconnect; cmd_disconnect -n rw3
	cmd_fault nat-timeout 2
	t "nat-timeout: connect"                 up hybrid
	sleep 4
	t "nat-timeout: inbound is lost"         not pings "$(vip_of rw)" srv
	t "nat-timeout: back after own traffic"  nat_timeout_back
	cmd_fault clear
	cmd_fault link-down rw
	t "link-down"                            not pings
	cmd_fault link-up rw
	t "link-up: same address, goes on"       pings_within 5
	cmd_disconnect
	t "client-addr: connect"                 up -n rw2 hybrid
	cmd_fault client-addr
	t "client-addr: old SA is useless"       not pings 10.10.0.2 rw2
	cmd_fault clear
	cmd_disconnect -n rw2
	t "two clients behind one NAT, one not"  three_clients
	t "one client, two gateways"             two_gateways
	for ns in $CLIENTS; do cmd_disconnect -n "$ns"; done
	done_testing
}
wrong_psk() { ! PSK=wrong up psk-am && ! PSK=wrong up psk; }
slow_ping() { inns rw ping -c3 -i 0.3 -W1 10.10.0.2 | grep -q "min/avg.* = 2[0-9][0-9]\."; }
no_dup_pings() { ! inns rw ping -c3 -i 0.2 10.10.0.2 | grep -q DUP; }
delete_child() {
	up hybrid >/dev/null && cmd_gw delete-child >/dev/null 2>&1
	wait_for 3 client_says "received DELETE for ESP"
}
crash() { up hybrid && cmd_gw crash && ! pings; }
rekey_child() {
	up hybrid && cmd_gw rekey-child && sleep 0.5 && pings &&
		[ "$(client_log rw | grep -c "CHILD_SA.*established")" = 2 ]
}
nat_timeout_back() { pings && pings "$(vip_of rw)" srv; }
three_clients() {
	up -n rw hybrid && up -n rw3 -u bob hybrid && up -n rw2 -u carol hybrid &&
		cmd_probe -n rw hybrid && cmd_probe -n rw2 hybrid && cmd_probe -n rw3 hybrid
}
two_gateways() {
	cmd_disconnect
	up -c swanctl hybrid && up -c swanctl other && cmd_probe hybrid && reach_once rw 10.20.0.2
}

# shellcheck shell=bash
# Failures on the way. Sourced by lab.

fault_table() {	# reads rules of the forward chain from stdin
	{
		echo "table inet fault; delete table inet fault; table inet fault {"
		echo "chain forw { type filter hook forward priority 0;"
		cat
		printf '}\n}\n'
	} | tr ';' '\n' | inns wan nft -f -
}

fault_list() {
	cat <<-L
	drop-ike            IKE on 500 and 4500, ESP passes
	drop-esp            ESP (UDP-encapsulated and protocol 50), IKE passes
	drop-esp-raw        protocol 50 only
	drop-500            UDP 500
	drop-4500           UDP 4500: no NAT traversal
	drop-frags          all IPv4 fragments
	drop-big BYTES      IPv4 packets longer than BYTES, silently: a PMTU black hole
	drop-from-gw        gateway -> client only (one-way loss)
	blackhole           everything between client and gateway
	reject              the same, with ICMP port unreachable
	loss PERCENT        random loss to and from the gateways
	dup                 every packet to the gateways twice
	mtu BYTES           MTU of the link to the gateway, with ICMP
	rate RATE           e.g. 2mbit, to and from the gateways (tbf)
	delay MS            each way, to and from the gateways (netem, else delay.py)
	nat-flush           the NAT box forgets its state, same ports afterwards
	nat-rebind          the NAT box forgets its state, other ports afterwards
	nat-move            the NAT box gets another public address
	nat-timeout SECS    NAT entries live SECS only
	nat-ports           no port preservation from the start: 500 and 4500 become others
	client-addr         rw2 gets another address (roaming)
	link-down NS        NS loses its link; link-up NS
	dns-down            the Internet provider's DNS does not answer
	clear               remove all faults
	L
}

cmd_fault() {
	local f=${1:-list} arg=${2:-} i
	case $f in
	list) fault_list ;;
	drop-ike) fault_table <<-R
		udp dport 500 drop; udp sport 500 drop
		udp dport 4500 @th,64,32 0 drop; udp sport 4500 @th,64,32 0 drop
		R
		;;
	drop-esp) fault_table <<-R
		udp dport 4500 @th,64,32 != 0 drop; udp sport 4500 @th,64,32 != 0 drop
		meta l4proto esp drop
		R
		;;
	drop-esp-raw) fault_table <<<"meta l4proto esp drop" ;;
	drop-500) fault_table <<<"udp dport 500 drop; udp sport 500 drop" ;;
	drop-4500) fault_table <<<"udp dport 4500 drop; udp sport 4500 drop" ;;
	drop-frags) fault_table <<<"ip frag-off & 0x3fff != 0 drop" ;;
	drop-big) fault_table <<<"ip length > ${arg:?bytes} drop" ;;
	drop-from-gw) fault_table <<<"iifname { to-gw, to-gw2 } drop" ;;
	blackhole) fault_table <<<"iifname { to-gw, to-gw2 } drop; oifname { to-gw, to-gw2 } drop" ;;
	reject) fault_table <<<"oifname { to-gw, to-gw2 } reject with icmpx type port-unreachable" ;;
	loss) fault_table <<-R
		iifname { to-gw, to-gw2 } numgen random mod 100 < ${arg:?percent} drop
		oifname { to-gw, to-gw2 } numgen random mod 100 < $arg drop
		R
		;;
	dup) inns wan nft -f - <<-R
		table ip fault4
		delete table ip fault4
		table ip fault4 {
			chain forw {
				type filter hook forward priority 0
				oifname "to-gw" dup to ip daddr device "to-gw"
			}
		}
		R
		;;
	mtu)
		ipn wan link set to-gw mtu "${arg:?bytes}"
		ipn gw link set wan0 mtu "$arg" ;;
	rate)
		for i in to-gw to-gw2 to-nat to-rw2; do
			inns wan tc qdisc replace dev $i root tbf rate "${arg:?rate}" burst 32kb latency 100ms
		done ;;
	delay)
		arg=${arg%ms}
		if inns wan tc qdisc replace dev to-gw root netem delay "${arg:?milliseconds}ms" 2>/dev/null; then
			for i in to-gw2 to-nat to-rw2; do
				inns wan tc qdisc replace dev $i root netem delay "${arg}ms"
			done
		else
			command -v python3 >/dev/null || die "delay needs netem in the kernel, or python3"
			cmd_fault no-delay
			daemon wan delay python3 "$HERE/etc/delay.py" later "$arg" </dev/null
			wait_for 5 ipn wan link set later up || die "delay.py does not run"
			ipn wan route add default dev later table 77
			for i in to-gw to-gw2 to-nat to-rw2; do ipn wan rule add iif $i lookup 77; done
		fi ;;
	no-delay)
		stop_daemon wan delay
		for i in to-gw to-gw2 to-nat to-rw2; do
			ipn wan rule del iif $i lookup 77 2>/dev/null || true
		done ;;
	nat-flush) inns nat conntrack -F 2>/dev/null ;;
	nat-rebind)	# below the ephemeral ports: a port in the range would be kept
		i=$((10000 + RANDOM % 19000))
		nat_rules 192.0.2.2 $i-$((i + 99)); inns nat conntrack -F 2>/dev/null ;;
	nat-move) nat_rules 192.0.2.3; inns nat conntrack -F 2>/dev/null ;;
	nat-ports) nat_rules 192.0.2.2 10000-29999; inns nat conntrack -F 2>/dev/null ;;
	nat-timeout)
		inns nat sh -c "for f in udp_timeout udp_timeout_stream; do
			echo ${arg:?seconds} > /proc/sys/net/netfilter/nf_conntrack_\$f; done"
		inns nat conntrack -F 2>/dev/null ;;
	client-addr)
		ipn rw2 addr flush dev wan0 to 192.0.2.32/27
		ipn rw2 addr add "${arg:-192.0.2.35}/27" dev wan0
		uplink rw2 ;;
	link-down) ipn "${arg:?ns}" link set wan0 down ;;
	link-up)
		ipn "${arg:?ns}" link set wan0 up
		uplink "$arg" ;;
	dns-down) inns wan nft -f - <<-R
		table inet faultdns
		delete table inet faultdns
		table inet faultdns {
			chain inp {
				type filter hook input priority 0
				udp dport 53 drop
			}
		}
		R
		;;
	clear)
		for i in "inet fault" "ip fault4" "inet faultdns"; do
			inns wan nft delete table "${i% *}" "${i#* }" 2>/dev/null || true
		done
		for i in to-gw to-gw2 to-nat to-rw2; do
			inns wan tc qdisc del dev $i root 2>/dev/null || true
		done
		cmd_fault no-delay
		ipn wan link set to-gw mtu 1500
		ipn gw link set wan0 mtu 1500
		[ -n "$(ipn gw -6 addr show dev wan0 to 2001:db8:100::10)" ] || { gw_addr6; uplink gw; }
		nat_rules
		inns nat sh -c "echo 30 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout
			echo 120 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream"
		inns nat conntrack -F 2>/dev/null
		ipn rw2 -o addr | grep -q 192.0.2.34/ || cmd_fault client-addr 192.0.2.34
		cmd_gw thaw gw || true
		cmd_gw thaw gw2 || true ;;
	*) die "unknown fault '$f'" ;;
	esac
}

# shellcheck shell=bash
# Namespaces, links, addresses, NAT, and the servers behind them. Sourced by lab.

veth() {	# NS-A IF-A NS-B IF-B
	ip link add "$2" netns "$LAB-$1" type veth peer name "$4" netns "$LAB-$3"
	ipn "$1" link set "$2" up
	ipn "$3" link set "$4" up
}
addr() {	# NS IF ADDR...
	local ns=$1 dev=$2 a; shift 2
	for a; do
		case $a in
		*:*) ipn "$ns" addr add "$a" dev "$dev" nodad ;;
		*) ipn "$ns" addr add "$a" dev "$dev" ;;
		esac
	done
}

# The link to the gateway loses its IPv6 addresses while its MTU is below 1280.
gw_addr6() {
	ipn wan -6 addr replace 2001:db8:100::1/64 dev to-gw nodad
	ipn gw -6 addr replace 2001:db8:100::10/64 dev wan0 nodad
}
uplink() {	# NS: default routes (again)
	local r
	case $1 in
	nat) r="192.0.2.1 2001:db8:2::1" ;;
	rw)  r="192.168.50.1 2001:db8:50::1" ;;
	rw2) r="192.0.2.33 2001:db8:34::1" ;;
	rw3) r="192.168.51.1 2001:db8:51::1" ;;
	gw)  r="198.51.100.1 2001:db8:100::1" ;;
	gw2) r="198.51.100.129" ;;
	*)   return 0 ;;
	esac
	local g
	# As every DHCP client does, with the interface: a full tunnel would claim the router.
	for g in $r; do ipn "$1" route replace default via "$g" dev wan0; done
}

topology() {
	local ns
	for ns in $ALL_NS; do
		ip netns add "$LAB-$ns"
		mkdir -p "$STATE/ns/$ns/run/lock" "$STATE/ns/$ns/run/strongswan"
		ipn "$ns" link set lo up
		inns "$ns" sh -c '
			for i in all default; do
				echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter
				echo 0 > /proc/sys/net/ipv4/conf/$i/send_redirects
				echo 0 > /proc/sys/net/ipv4/conf/$i/accept_redirects
				echo 0 > /proc/sys/net/ipv6/conf/$i/accept_ra
				echo 1 > /proc/sys/net/ipv6/conf/$i/keep_addr_on_down
				echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad
			done
			echo 0 > /proc/sys/net/ipv4/icmp_ratelimit'
	done
	for ns in nat wan gw gw2; do
		inns "$ns" sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward
			echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
	done

	# The WAN router has one link per party, so faults can be put on each.
	veth nat wan0 wan to-nat
	veth rw2 wan0 wan to-rw2
	veth gw  wan0 wan to-gw
	veth gw2 wan0 wan to-gw2
	veth rw  wan0 nat to-rw
	veth rw3 wan0 nat to-rw3
	veth srv corp gw  lan0
	veth srv other gw2 lan0

	addr wan to-nat 192.0.2.1/27 2001:db8:2::1/64
	addr wan to-rw2 192.0.2.33/27 2001:db8:34::1/64
	addr wan to-gw  198.51.100.1/25
	addr wan to-gw2 198.51.100.129/25
	addr wan lo 203.0.113.53/32 203.0.113.80/32 2001:db8:80::80/128   # "the internet"

	addr nat wan0 192.0.2.2/27 192.0.2.3/27 2001:db8:2::2/64
	addr nat to-rw  192.168.50.1/24 2001:db8:50::1/64
	addr nat to-rw3 192.168.51.1/24 2001:db8:51::1/64
	addr rw  wan0 192.168.50.2/24 2001:db8:50::2/64
	addr rw3 wan0 192.168.51.2/24 2001:db8:51::2/64
	addr rw2 wan0 192.0.2.34/27 2001:db8:34::2/64
	for ns in nat rw rw2 rw3; do uplink $ns; done
	ipn wan route add 2001:db8:50::/64 via 2001:db8:2::2      # IPv6 is routed, not NATed
	ipn wan route add 2001:db8:51::/64 via 2001:db8:2::2

	local i
	gw_addr6
	for i in $(seq 10 50); do addr gw wan0 "198.51.100.$i/25"; done
	addr gw2 wan0 198.51.100.130/25
	uplink gw
	uplink gw2

	addr gw lan0 10.10.0.1/24 10.10.1.1/24 10.10.2.1/24 10.10.3.1/24 192.168.50.1/24
	addr srv corp 10.10.0.2/24 10.10.1.2/24 10.10.2.2/24 10.10.3.2/24 \
		10.10.0.53/24 10.10.1.53/24 192.168.50.80/24
	addr gw2 lan0 10.20.0.1/24
	addr srv other 10.20.0.2/24 10.20.0.53/24
	ipn srv route add default via 10.10.0.1
	ipn srv route add 10.98.0.0/16 via 10.20.0.1

	nat_rules
	inns gw nft -f - <<-N
		table ip lab {
			chain post {
				type nat hook postrouting priority 100;
				ip saddr 10.99.0.0/16 oifname "wan0" masquerade
			}
		}
	N
	for ns in $CLIENTS; do
		cp -a /etc "$STATE/ns/$ns/etc"
		# as whom the service runs
		grep -q ^wayfarer: /etc/passwd ||
			echo "wayfarer:x:61190:61190::/:/usr/sbin/nologin" >>"$STATE/ns/$ns/etc/passwd"
		reset_dns "$ns"
	done
}

reset_dns() {	# NS: resolv.conf is a plain file with the provider's server
	rm -f "$STATE/ns/$1/etc/resolv.conf"
	echo "nameserver 203.0.113.53" >"$STATE/ns/$1/etc/resolv.conf"
}

# nat_rules [PUBLIC-ADDRESS [PORT-RANGE]]
nat_rules() {
	local to="snat to ${1:-192.0.2.2}${2:+:$2}"
	inns nat nft -f - <<-N
		table ip lab
		delete table ip lab
		table ip lab {
			chain post {
				type nat hook postrouting priority 100;
				oifname "wan0" meta l4proto { tcp, udp } $to
				oifname "wan0" snat to ${1:-192.0.2.2}
			}
			# as home routers do; else unsolicited packets would occupy a port
			chain inp {
				type filter hook input priority 0;
				iifname "wan0" ct state new drop
			}
		}
	N
}

services() {
	exec </dev/null
	local dns=(dnsmasq -k --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --user=root --bind-interfaces)
	daemon wan dns "${dns[@]}" --listen-address=203.0.113.53 \
		--host-record=gw.lab.test,198.51.100.10 --host-record=gw2.lab.test,198.51.100.130 \
		--host-record=www.internet.test,203.0.113.80,2001:db8:80::80
	daemon srv dns "${dns[@]}" --listen-address=10.10.0.53,10.10.1.53 \
		--host-record=srv.corp.lab.test,10.10.0.2 --host-record=srv1.corp.lab.test,10.10.1.2 \
		--host-record=www.internet.test,203.0.113.80
	daemon srv dns2 "${dns[@]}" --listen-address=10.20.0.53 --host-record=srv.other.lab.test,10.20.0.2
	daemon wan http socat TCP4-LISTEN:80,fork,reuseaddr EXEC:"$STATE/bin/whoami.sh internet"
	daemon wan http6 socat TCP6-LISTEN:80,ipv6only=1,fork,reuseaddr EXEC:"$STATE/bin/whoami.sh internet"
	daemon srv http socat TCP4-LISTEN:80,fork,reuseaddr EXEC:"$STATE/bin/whoami.sh corp"
	# optional: checks the logins of the profiles radius, passcode and rounds
	! command -v freeradius >/dev/null ||
		daemon srv radius freeradius -f -d "$HERE/etc" -n radiusd -D /usr/share/freeradius
	daemon wan iperf3 iperf3 -s
	daemon srv iperf3 iperf3 -s
}

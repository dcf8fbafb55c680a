# shellcheck shell=bash
# Measurements. Sourced by lab.

median() { sort -n | awk '{a[NR]=$1} END{if (!NR) print "-"; else if (NR%2) print a[(NR+1)/2]; else print (a[NR/2]+a[NR/2+1])/2}'; }
cpu_of() { awk '{print $14+$15}' "/proc/$1/stat"; }
rss_of() { awk '/^Vm(RSS|HWM)/{printf "%s %.1f MiB ", $1, $2/1024}' "/proc/$1/status"; }
client_pid() {	# the process that moves the packets
	case $1 in swanctl) pid_of rw charon ;; *) pid_of rw client ;; esac
}
bench_flow() {	# LABEL CLIENT-PID GW-PID RUNS SECS: up and down through the tunnel
	local label=$1 p=$2 g=$3 runs=$4 secs=$5 dir reverse=() i c0 g0 t0 r dt cp gp m
	for dir in up down; do
		[ $dir = up ] || reverse=(-R)
		r="" cp="" gp=""
		for ((i = 0; i < runs; i++)); do
			t0=$(now)
			[ -z "$p" ] || { c0=$(cpu_of "$p"); g0=$(cpu_of "$g"); }
			m=$(mbit rw -c 10.10.0.2 -t "$secs" "${reverse[@]}")
			dt=$(since "$t0")
			r+="$m"$'\n'
			[ -z "$p" ] || {
				cp+="$(awk -v a="$c0" -v b="$(cpu_of "$p")" -v t="$dt" 'BEGIN{printf "%.0f", (b-a)/t}')"$'\n'
				gp+="$(awk -v a="$g0" -v b="$(cpu_of "$g")" -v t="$dt" 'BEGIN{printf "%.0f", (b-a)/t}')"$'\n'
			}
		done
		# Mbit per second of client CPU time holds even when others use the machine
		printf '%-28s %-4s %8s Mbit/s, CPU client %4s%% gateway %4s%%, %s Mbit per client CPU second\n' \
			"$label" $dir "$(printf %s "$r" | median)" "$(printf %s "$cp" | median)" \
			"$(printf %s "$gp" | median)" "$(paste <(printf %s "$r") <(printf %s "$cp") | awk '$2{printf "%.0f\n", $1*100/$2}' | median)"
	done
	[ -z "$p" ] || printf '%-28s memory %s\n' "$label" "$(rss_of "$p")"
}
busy() {	# percent of all CPUs in use during one second
	{ head -1 /proc/stat; sleep 1; head -1 /proc/stat; } |
		awk '{i=$5+$6; t=0; for (n=2; n<=9; n++) t+=$n; if (NR==2) printf "%.0f", 100-100*(i-i0)/(t-t0); i0=i; t0=t}'
}
cmd_bench() {
	local OPTIND o runs=5 secs=5 c prof esp i times
	while getopts r:s: o; do
		case $o in r) runs=$OPTARG ;; s) secs=$OPTARG ;; *) usage; exit 2 ;; esac
	done
	cmd_disconnect
	cmd_fault clear
	echo "# $(nproc) CPUs, $(busy)% busy before the start, $runs runs of $secs s each, medians"

	# the same path without a tunnel
	ipn wan route replace 10.10.0.0/24 via 198.51.100.10
	bench_flow "no VPN, through the NAT" "" "" "$runs" "$secs"
	ipn wan route del 10.10.0.0/24

	# from starting the client to the first answered ping
	while read -r c prof; do
		times=""
		for ((i = 0; i < runs; i++)); do
			cmd_disconnect
			times+=$(cmd_connect -c "$c" "$prof" 2>/dev/null | awk '$1 == "up" {print $2}')$'\n'
			sleep 0.3
		done
		printf '%-28s up in %s s (median; max %s)\n' "$c $prof" "$(printf %s "$times" | median)" \
			"$(printf %s "$times" | sort -n | tail -1)"
	done <<-B
		charon-cmd hybrid
		charon-cmd hybrid-am
		charon-cmd psk-am
		charon-cmd legacy
		charon-cmd ecp
		charon-cmd ikev2
		swanctl hybrid
		vpnc hybrid-am
		vpnc psk-am
	B

	while read -r c prof esp; do
		cmd_disconnect
		cmd_connect -c "$c" -e "$esp" "$prof" >/dev/null 2>&1 || { echo "$c $prof $esp: no connection"; continue; }
		bench_flow "$c $esp" "$(client_pid "$c")" "$(pid_of gw charon)" "$runs" "$secs"
	done <<-B
		charon-cmd hybrid aes128-sha1
		charon-cmd hybrid aes256-sha256
		charon-cmd hybrid aes128gcm16
		charon-cmd hybrid aes256gcm16
		charon-cmd hybrid 3des-sha1
		vpnc hybrid-am aes128-sha1
	B
	cmd_disconnect
}

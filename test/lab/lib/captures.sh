# shellcheck shell=bash
# Captures, and what decrypts them. Sourced by lab.

# On the gateways' side of the WAN router: one copy of each packet. tshark loses
# the IV chain of IKEv1 when it sees packets twice.
cmd_capture() {
	local f=${2:-$STATE/lab.pcap}
	case ${1:-} in
	start)
		stop_daemon wan tcpdump
		rm -f "$f"
		# keys are read from the log: begin with a fresh one
		[ -z "$(pid_of gw charon)" ] || : >"$STATE/ns/gw/run/strongswan/charon.log"
		daemon wan tcpdump tcpdump -i "${LAB_CAPTURE_IF:-to-gw}" --immediate-mode -U -s0 -Z root -w "$f" </dev/null
		wait_for 5 test -s "$f" || die "tcpdump: $(cat "$STATE/ns/wan/run/tcpdump.out")"
		;;
	stop) sleep 0.2; stop_daemon wan tcpdump INT; echo "$f" ;;
	*) die "capture start|stop [FILE.pcap]" ;;
	esac
}
cmd_decrypt() {
	local f=$STATE/lab.pcap o
	case ${1:-} in '' | -*) ;; *) f=$1; shift ;; esac
	if [ -s "${f%.pcap}.keys" ]; then
		mapfile -t o <"${f%.pcap}.keys"
	else
		mapfile -t o < <(awk -f "$HERE/etc/keys.awk" "$STATE/ns/gw/run/strongswan/charon.log")
	fi
	tshark -r "$f" -o esp.enable_encryption_decode:TRUE "${o[@]}" "$@" 2> >(grep -v "Running as user" >&2)
}

# record DIR NAME [connect options] PROFILE: a capture with everything needed to
# replay it in a unit test: NAME.pcap, NAME.keys (tshark options), NAME.log (all
# intermediate values: DH secret, SKEYID*, keys, IVs, inputs of the hashes)
cmd_record() {
	local dir=${1:?directory} name=${2:?name}
	shift 2
	mkdir -p "$dir"
	cmd_disconnect
	cmd_capture start "$STATE/record.pcap"
	cmd_connect "$@" || true
	inns rw ping -c3 -i 0.2 10.10.0.2 >/dev/null || true
	sleep "${LAB_RECORD_SECS:-0}"
	cmd_disconnect
	cmd_capture stop "$STATE/record.pcap" >/dev/null
	cp "$STATE/record.pcap" "$dir/$name.pcap"
	cp "$STATE/ns/gw/run/strongswan/charon.log" "$dir/$name.log"
	cp "$STATE/pki/ca.pem" "$dir/ca.pem"
	awk -f "$HERE/etc/keys.awk" "$dir/$name.log" >"$dir/$name.keys"
}

# shellcheck shell=bash
# Errors and times; processes in namespaces. Sourced by lab.

die()  { echo "lab: $*" >&2; exit 1; }
note() { echo "lab: $*" >&2; }
ipn()  { local ns=$1; shift; ip -n "$LAB-$ns" "$@"; }
now()  { date +%s.%N; }
since(){ awk -v a="$1" -v b="$(now)" 'BEGIN{printf "%.3f", b-a}'; }

# enter NS CMD...: exec CMD in NS. Same pid as the caller, so that "$!" of a
# background enter is the daemon itself. Each namespace has its own /run, and the
# clients their own writable /etc: they persist between calls, so that a client
# and its control program meet, and the host's resolv.conf is never touched.
enter() {
	local ns=$1; shift
	exec ip netns exec "$LAB-$ns" unshare --mount --propagation private -- \
		sh -c '
			mount --bind "$0/run" /run
			[ -L /var/run ] || mount --bind "$0/run" /var/run
			[ ! -d "$0/etc" ] || mount --bind "$0/etc" /etc
			exec "$@"' "$STATE/ns/$ns" "$@"
}
inns() { ( enter "$@" ); }

# daemon NS NAME CMD...: start in the background, remember the pid. The output
# goes to NAME.out. Standard input is passed on: redirect it.
daemon() {
	local ns=$1 name=$2; shift 2
	( enter "$ns" setsid "$@" ) <&0 >>"$STATE/ns/$ns/run/$name.out" 2>&1 &
	echo $! >"$STATE/ns/$ns/$name.pid"
	disown
	# wait until it has entered the namespace, for pid_of
	while [ -d "/proc/$!" ] && ! [ "/proc/$!/ns/net" -ef "/run/netns/$LAB-$ns" ]; do sleep 0.002; done
}
pid_of() {	# NS NAME -> pid, if it still runs in that namespace
	local f="$STATE/ns/$1/$2.pid" p
	[ -s "$f" ] || return 1
	p=$(<"$f")
	[ "/proc/$p/ns/net" -ef "/run/netns/$LAB-$1" ] && echo "$p"
}
stop_pid() {	# PID [SIGNAL]: stop and wait
	local p=$1 sig=${2:-TERM} i
	kill -CONT "$p" 2>/dev/null || true
	kill -"$sig" "$p" 2>/dev/null || return 0
	for ((i = 0; i < 60; i++)); do
		[ -d "/proc/$p" ] || return 0
		[ "$(awk '{print $3}' "/proc/$p/stat" 2>/dev/null)" = Z ] && return 0
		sleep 0.1
	done
	kill -KILL "$p" 2>/dev/null || true
}
stop_daemon() {
	local p
	p=$(pid_of "$1" "$2") && stop_pid "$p" "${3:-TERM}"
	rm -f "$STATE/ns/$1/$2.pid"
}
wait_for() {	# SECONDS CMD...
	local end=$((SECONDS + $1)); shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

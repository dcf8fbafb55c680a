#!/bin/bash
# The Debian packages in a Debian with systemd, in the lab's client namespace: installed,
# upgraded from an older version, removed with a connection, purged after a crash.
. /test/inside.sh
new=/test/packages/wayfarer_${VERSION}-1_$ARCH.deb gui=/test/packages/wayfarer-gui_${VERSION}-1_$ARCH.deb
old=/test/old/wayfarer_${OLD}-1_$ARCH.deb oldgui=/test/old/wayfarer-gui_${OLD}-1_$ARCH.deb

files >/tmp/files
network >/tmp/network

echo "# install"
dpkg -i "$old" "$oldgui" || die "dpkg -i"
is "the service" "$(systemctl is-enabled wayfarerd) $(systemctl is-active wayfarerd)" "enabled active"
serving
pid=$(service MainPID)
child=$(pgrep -P "$pid")
is "the service's user" "$(ps -o user= -p "$child")" wayfarer
is "its capabilities" "$(awk '/^CapEff/ {print $2}' "/proc/$child/status")" 0000000000001000 # CAP_NET_ADMIN
is "the socket" "$(stat -c %a /run/wayfarer/wayfarerd.sock)" 666
is "the state" "$(stat -c %a:%U /var/lib/wayfarer)" 711:root
is "the profiles" "$(stat -c %a:%U /etc/wayfarer/profiles.d)" 755:root
rc=0
setpriv --reuid nobody --regid nogroup --clear-groups wayfarer connect --gateway 192.0.2.1 --login x --password-file /test/password >/tmp/out 2>&1 || rc=$?
is "a stranger's exit code" $rc 8
pkaction --action-id io.github.wayfarer.connect >/dev/null || die "polkit does not know the action"
bash -c '. /usr/share/bash-completion/bash_completion; . /usr/share/bash-completion/completions/wayfarer; complete -p wayfarer' >/dev/null || die "no completion for bash"
# shellcheck disable=SC2016 # zsh's
zsh -fc 'autoload -U compinit && compinit -D && [[ $_comps[wayfarer] = _wayfarer ]] && autoload +X _wayfarer' || die "no completion for zsh"
fish -c 'complete -C "wayfarer sta"' | grep -q ^status || die "no completion for fish"
man -w wayfarer wayfarer-connect wayfarerd wayfarer-gui >/dev/null || die "no manual pages"
desktop-file-validate /usr/share/applications/io.github.wayfarer.desktop
grep -q cisco-vpn-settings /usr/share/mime/globs2 || die "the kinds of files are not known"
ldd /usr/bin/wayfarer-gui | grep "not found" && die "libraries are missing"

echo "# connect"
connected
wayfarer disconnect
network >/tmp/after
same "the network" /tmp/network /tmp/after

echo "# upgrade"
echo "# an administrator's" >/etc/wayfarer/profiles.d/README
dpkg -i "$new" "$gui" || die "upgrade"
[ "$(service MainPID)" != "$pid" ] || die "the service was not started again"
serving
is "the version" "$(wayfarer version | awk 'NR == 1 {print $2}')" "$VERSION"
is "the service's version" "$(wayfarer status --json | jq -r .version)" "$VERSION"
[ -e /etc/wayfarer/profiles.d/README ] || die "a file of the administrator's is gone"
systemctl disable --now wayfarerd 2>/dev/null
dpkg -i "$new" || die "installed again"
is "a service that was disabled" "$(systemctl is-enabled wayfarerd) $(systemctl is-active wayfarerd)" "disabled inactive"
systemctl enable --now wayfarerd 2>/dev/null
serving

echo "# managed"
cp /test/ca.pem /etc/wayfarer/profiles.d/
cat >/etc/wayfarer/profiles.d/lab.toml <<-T
	gateway = "$GATEWAY"
	remote_id = "$REMOTE_ID"
	login = "alice"
	ca = ["ca.pem"]
T
echo "forbid_adding_gateways = true" >/etc/wayfarer/policy.toml
systemctl restart wayfarerd
serving
setpriv --reuid nobody --regid nogroup --clear-groups wayfarer profile list >/tmp/out 2>/dev/null || die "profile list of a stranger: exit $?"
grep -q "lab .*the administrator's" /tmp/out || die "a stranger sees: $(cat /tmp/out)"
grep -q "policy: only the administrator's profiles" /tmp/out || die "a stranger is not told of the policy: $(cat /tmp/out)"
rc=0
# shellcheck disable=SC2086 # flags of the lab's profile
wayfarer connect $WAYFARER --login alice --password-file /test/password >/tmp/out 2>&1 || rc=$?
is "the exit code of a forbidden gateway" $rc 12
wayfarer connect lab --password-file /test/password >/dev/null || die "the administrator's profile: exit $?"
ping -n -c1 -W2 "$REACHABLE" >/dev/null || die "$REACHABLE is not reached through the administrator's profile"
rm /etc/wayfarer/policy.toml /etc/wayfarer/profiles.d/{lab.toml,ca.pem}
systemctl restart wayfarerd
serving

echo "# remove, connected"
connected --block-outside
dpkg -r wayfarer-gui wayfarer || die "remove"
network >/tmp/after
same "the network" /tmp/network /tmp/after
[ -e /etc/wayfarer/profiles.d/README ] || die "a file of the administrator's is gone"
[ ! -e /run/wayfarer ] || die "/run/wayfarer is left"

echo "# purge, crashed"
dpkg -i "$new" "$gui" || die "install"
serving
connected --block-outside
crash
network >/tmp/after
! diff -q /tmp/network /tmp/after >/dev/null || die "a service that was killed left nothing: the comparison proves nothing"
dpkg -P wayfarer-gui wayfarer 2>&1 | tee /tmp/out
network >/tmp/after
same "the network" /tmp/network /tmp/after
[ -e /etc/wayfarer/profiles.d/README ] || die "a file of the administrator's is gone"
rm -r /etc/wayfarer
files >/tmp/after
same "the files" /tmp/files /tmp/after

echo "# install and purge"
dpkg -i "$new" >/dev/null
dpkg -P wayfarer
files >/tmp/after
same "the files" /tmp/files /tmp/after

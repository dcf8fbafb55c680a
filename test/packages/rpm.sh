#!/bin/bash
# The RPM packages, with rpm's own database in a Debian: dependencies are not looked at. In
# the lab's client namespace: installed, upgraded, erased with a connection and after a
# crash; and installed into another root.
. /test/inside.sh
new=/test/packages/wayfarer-${VERSION}-1.$RPMARCH.rpm gui=/test/packages/wayfarer-gui-${VERSION}-1.$RPMARCH.rpm
old=/test/old/wayfarer-${OLD}-1.$RPMARCH.rpm

for package in "$new" "$gui"; do
	rpm -qip "$package" | grep -q '^License *: Apache-2.0' || die "rpm -qip $package"
	rpm -K --nosignature "$package" || die "the digests of $package"
done
# Fedora's package filesystem has these.
mkdir -p /usr/share/licenses /usr/share/fish/vendor_completions.d /usr/share/zsh/site-functions /usr/share/metainfo
files >/tmp/files
network >/tmp/network

echo "# install"
rpm -i --nodeps "$old" || die "rpm -i"
is "the service" "$(systemctl is-enabled wayfarerd) $(systemctl is-active wayfarerd)" "enabled active"
serving
pid=$(service MainPID)
rpm -V --nodeps wayfarer || die "rpm -V"

echo "# upgrade"
rpm -U --nodeps "$new" || die "rpm -U"
serving
[ "$(service MainPID)" != "$pid" ] || die "the service was not started again"
is "the version" "$(wayfarer status --json | jq -r .version)" "$VERSION"
is "the service" "$(systemctl is-enabled wayfarerd)" enabled
rpm -i --nodeps "$gui" || die "rpm -i"
rpm -e --nodeps wayfarer-gui || die "rpm -e"

echo "# erase, connected"
connected --block-outside
rpm -e wayfarer || die "rpm -e"
network >/tmp/after
same "the network" /tmp/network /tmp/after
files >/tmp/after
same "the files" /tmp/files /tmp/after

echo "# erase, crashed"
rpm -i --nodeps "$new" || die "rpm -i"
serving
connected --block-outside
crash
network >/tmp/after
! diff -q /tmp/network /tmp/after >/dev/null || die "a service that was killed left nothing: the comparison proves nothing"
rpm -e wayfarer || die "rpm -e"
network >/tmp/after
same "the network" /tmp/network /tmp/after
files >/tmp/after
same "the files" /tmp/files /tmp/after

echo "# a preset of the administrator's"
mkdir -p /etc/systemd/system-preset
echo "disable wayfarerd.service" >/etc/systemd/system-preset/10-site.preset
rpm -i --nodeps "$new" || die "rpm -i"
is "the service" "$(systemctl is-enabled wayfarerd) $(systemctl is-active wayfarerd)" "disabled inactive"
rpm -e wayfarer || die "rpm -e"
rm /etc/systemd/system-preset/10-site.preset

echo "# another root"
root=/tmp/other # the same programs, and nothing else yet
mkdir -p $root/{etc,var,usr,dev,proc} /run/{upper,work}
mount --rbind /dev $root/dev
mount -t proc proc $root/proc
mount -t overlay -o lowerdir=/usr,upperdir=/run/upper,workdir=/run/work overlay $root/usr
for dir in bin sbin lib lib64; do ln -s usr/$dir $root/$dir; done
rpm --root $root -i --nodeps "$new" || die "rpm --root"
[ -x $root/usr/sbin/wayfarerd ] || die "there is no service in the other root"
grep -q ^wayfarer: $root/etc/passwd || die "there is no user in the other root"
[ -L $root/etc/systemd/system/multi-user.target.wants/wayfarerd.service ] || die "the service is not enabled in the other root"
is "the state" "$(stat -c %a $root/var/lib/wayfarer)" 711
rpm --root $root -e wayfarer || die "rpm --root -e"
for path in /usr/sbin/wayfarerd /etc/wayfarer /var/lib/wayfarer; do
	[ ! -e $root$path ] || die "$path is left in the other root"
done
network >/tmp/after
same "the network" /tmp/network /tmp/after

#!/usr/bin/env bash
# The package for Windows under Wine, in a namespace of the lab: installed, upgraded, not
# downgraded, removed; files, registry and services are compared before and after. The
# packages are made by the same installer/windows/pack, of the programs in three versions
# (test/wine/run).
#
#	windows.sh OUT GATEWAY REMOTE-ID USER IKE ESP
#
# OUT has old.msi, new.msi, next.msi (the commit after; both with a stand-in for the window), and
# Wine's prefix as it is before, with ca.pem and password.txt.
set -euo pipefail
OUT=$1 GATEWAY=$2 REMOTE=$3 LOGIN=$4 IKE=$5 ESP=$6
DISK=$OUT/prefix/drive_c
PROGRAMS="C:\\Program Files\\Wayfarer"
export WINEPREFIX=$OUT/prefix WINEDEBUG=-all PATH=$PATH:/usr/lib/wine
export WINEDLLOVERRIDES=winemenubuilder.exe=d # it writes to the home of whoever runs this
cd "$DISK"
ip link set lo up
fail() { echo "test/packages: $*" >&2; exit 1; }
step() { echo "# $*"; }

# Wine's server runs as long as this does: what it starts keeps the output of the first
# program open.
# shellcheck disable=SC2034 # its input stays open
coproc AWAKE { wine cmd >/dev/null 2>&1; }
trap 'wineserver -k || true' EXIT
sleep 3

msi() { timeout 180 wine msiexec "$@" /qn /l*v 'C:\msi.log' >/dev/null 2>&1; }
query() { timeout 60 wine reg query "$@" 2>/dev/null | tr -d '\r'; }
state() { timeout 60 wine sc query wayfarerd 2>/dev/null | tr -d '\r' | awk '/STATE/ {print $4}'; }
process() { # PROGRAM
	local id
	for id in $(pgrep -f "^\"?C:.Program Files.Wayfarer.$1.exe"); do
		tr '\0' '\n' <"/proc/$id/environ" 2>/dev/null | grep -qxF "WINEPREFIX=$WINEPREFIX" && echo "$id"
	done
	return 0 # there are other Wines
}
# awaited takes away a sign of the window's program, for which it waits.
awaited() {
	for _ in $(seq 20); do [ -e "$1" ] && break; sleep .5; done
	rm "$1"
}
client() { timeout 90 wine "$PROGRAMS\\wayfarer.exe" "$@"; }
serving() {
	for _ in $(seq 40); do client status --json 2>/dev/null | grep -q '"connections"' && return; sleep .5; done
	fail "the service does not answer: $(state), $(client status 2>&1)"
}
# The registry, a line for each value.
registry() {
	sleep 2 && wine reg export HKLM 'C:\hklm.reg' /y >/dev/null 2>&1 && wine reg export HKCU 'C:\hkcu.reg' /y >/dev/null 2>&1
	iconv -f UTF-16 -t UTF-8 hklm.reg hkcu.reg | tr -d '\r' | sed -e ':a' -e '/\\$/{N;s/\\\n *//;ba' -e '}' | awk '/^\[/ {key = $0} NF {print key " " $0}' | grep -vE "$NOISE" | sort
	rm -f hklm.reg hkcu.reg
	# Wine leaves a semicolon where it removes something from there.
	query "$ENVIRONMENT" /v PATH | sed 's/;;*/;/g; s/;$//'
}
files() { find . \( -path './windows/temp' -o -path './users/*/Temp' -o -path './users/*/AppData/Local/Temp' \) -prune -o -not -name '*.log' -printf '%y %p\n' | grep -vx 'd ./windows/Installer' | sort; }
NOISE='"DriverDateData"=|\\ServiceCurrent\]|\\Control\\Video\\|Session Manager\\Environment\] "PATH"='
# Keys without anything in them: Windows's installer makes some for itself when it is used for
# the first time, and takes others away with the last value, which only Wine has as few.
NOISE+='|^\[[^]]*\\(Installer|Installer\\(Features|Products|UpgradeCodes|UserData)|UserData\\S-1-5-18(\\(Components|Products))?|CurrentVersion\\(Run|Explorer\\StartupApproved(\\Run)?)|Eventlog)\] \['
# An interface's keys stay, as Windows keeps its own, with nothing in them.
NOISE+='|^\[[^]]*\\(Dnscache(\\Parameters(\\DnsPolicyConfig)?)?|NetBT(\\Parameters(\\Interfaces(\\Tcpip_[^]]*)?)?)?|Tcpip6?\\Parameters\\Interfaces)\] \[|\\Tcpip6?\\Parameters\\Interfaces\\[^]]*\] (\[|"(NameServer|SearchList)"=""$)'
has() { query "$1" ${2:+/v "$2"} | grep -qF -- "$3" || fail "registry: $1 $2 is not $3: $(query "$1" /v "$2")"; }
hasnot() { ! query "$@" | grep -q REG_ || fail "registry: there is $*"; }
same() { diff "$OUT/$1-before" "$OUT/$1-after" || fail "$1 are others than before"; }
look() { registry >"$OUT/registry-$1"; files >"$OUT/files-$1"; }

ENVIRONMENT='HKLM\System\CurrentControlSet\Control\Session Manager\Environment'
RUN='HKLM\Software\Microsoft\Windows\CurrentVersion\Run'
UNINSTALL='HKLM\Software\Microsoft\Windows\CurrentVersion\Uninstall'

step before
# A service that was not installed has registered itself.
wine reg delete 'HKLM\System\CurrentControlSet\Services\EventLog\Wayfarer' /f >/dev/null 2>&1 || true
msi /i 'C:\nothing.msi' || true # the service of Windows's installer has been started once
look before

step install
msi /i 'C:\old.msi' || fail "install: $(iconv -f UTF-16 -t UTF-8 msi.log 2>/dev/null | tail -n 20)"
serving
has "$RUN" Wayfarer "\"$PROGRAMS\\wayfarer-gui.exe\" --hidden"
# Windows's own installer quotes the path.
has 'HKLM\System\CurrentControlSet\Services\wayfarerd' ImagePath "$PROGRAMS\\wayfarerd.exe service"
has 'HKLM\System\CurrentControlSet\Services\wayfarerd' Start 0x2
has 'HKLM\System\CurrentControlSet\Services\EventLog\Wayfarer' CustomSD 'O:BAG:SYD:(A;;0xf0007;;;SY)(A;;0x7;;;BA)'
has 'HKLM\System\CurrentControlSet\Services\EventLog\Wayfarer\wayfarerd' EventMessageFile EventCreate.exe
has 'HKLM\Software\Classes\Wayfarer.Profile\shell\open\command' '' "\"$PROGRAMS\\wayfarer-gui.exe\" \"%1\""
has 'HKLM\Software\Classes\.pcf' '' Wayfarer.Profile
has "$ENVIRONMENT" PATH "C:\\Program Files\\Wayfarer\\"
find . -path '*Start Menu*' -name 'Wayfarer.lnk' | grep -q . || fail "nothing in the Start menu"
query "$UNINSTALL" /s | grep -q 'DisplayName.*Wayfarer' || fail "it is not in the list of programs"
du -sk "Program Files/Wayfarer" | sed 's/\t.*/ KiB installed/'

step upgrade
printf 'version = 1\ngateway = "vpn.example.test"\nauth = "hybrid"\npin = "%064d"\n' 0 >ProgramData/Wayfarer/profiles.d/office.toml
cp ProgramData/Wayfarer/profiles.d/office.toml "$OUT/office.toml"
before=$(process wayfarerd)
msi /i 'C:\new.msi' || fail "upgrade"
serving
[ "$before" != "$(process wayfarerd)" ] || fail "the service was not started again"
cmp "$OUT/office.toml" ProgramData/Wayfarer/profiles.d/office.toml || fail "a profile is lost"
# It belongs to nobody whom Wine knows as an administrator.
client logs | grep -q 'left out.*office.toml' || fail "the service does not read the profile"
[ "$(query "$UNINSTALL" /s | grep -c 'DisplayName.*Wayfarer')" = 1 ] || fail "both versions are in the list of programs"
query "$UNINSTALL" /s | grep -q 'DisplayVersion.*1\.2\.0' || fail "the new version is not in the list of programs"
query "$ENVIRONMENT" /v PATH | grep -o 'Program Files.Wayfarer' | grep -c . | grep -qx 1 || fail "PATH has not exactly one entry"
awaited hidden || fail "the window has not come back to the tray"

step "a repair, as any user may ask for it"
mkdir -p evil && cp "$OUT/office.toml" evil/evil.toml
product=$(query "$UNINSTALL" /s | awk '/^HKEY/ {sub(/.*Uninstall./, ""); key = $0} /DisplayName.*Wayfarer/ {print key}')
window=$(process wayfarer-gui)
msi /i "$product" REINSTALL=ALL REINSTALLMODE=u 'PROFILES=C:\evil' || fail "repair of $product"
[ ! -e ProgramData/Wayfarer/profiles.d/evil.toml ] || fail "a repair places profiles"
awaited hidden || fail "the window has not come back to the tray"
{ [ "$window" != "$(process wayfarer-gui)" ] && [ "$(process wayfarer-gui | wc -l)" = 1 ]; } || fail "the window was not ended"
rm -r evil

step "no downgrade"
! msi /i 'C:\old.msi' || fail "a downgrade was not refused"
serving
query "$UNINSTALL" /s | grep -q 'DisplayVersion.*1\.2\.0' || fail "the new version is gone"

step "the same version, by a double click"
timeout 180 wine msiexec /i 'C:\next.msi' >/dev/null 2>&1 || fail "a later commit of the same version"
serving
client version | grep -qF '1.2.0+1.gabc1234' || fail "it is not the later commit: $(client version)"
[ "$(query "$UNINSTALL" /s | grep -c 'DisplayName.*Wayfarer')" = 1 ] || fail "both commits are in the list of programs"
awaited shown || fail "the window was not shown"
[ "$(process wayfarer-gui | wc -l)" = 1 ] || fail "not one window runs: $(process wayfarer-gui)"
[ ! -e hidden ] || fail "it was started in the tray, too"

step "uninstall, connected"
rm ProgramData/Wayfarer/profiles.d/office.toml
client connect --gateway "$GATEWAY" --remote-id "$REMOTE" --ike "$IKE" --esp "$ESP" --auth hybrid --ca 'C:\ca.pem' \
	--login "$LOGIN" --password-file 'C:\password.txt' --timeout 40s </dev/null || fail "no connection"
client status --json | grep -q '"state":"connected"' || fail "not connected"
login=Software\\Microsoft\\Windows\\CurrentVersion
wine reg add "HKCU\\$login\\Run" /v Wayfarer /d '"C:\\Program Files\\Wayfarer\\wayfarer-gui.exe" --hidden' /f >/dev/null 2>&1
wine reg add "HKCU\\$login\\Explorer\\StartupApproved\\Run" /v Wayfarer /t REG_BINARY /d 030000000000000000000000 /f >/dev/null 2>&1
rm -f driver-deleted # Wine tells no old version that it is replaced (UPGRADINGPRODUCTCODE)
msi /x 'C:\next.msi' || fail "uninstall"
rm driver-deleted || fail "wintun's driver is left"
[ -z "$(process wayfarer-gui)" ] || fail "the window still runs"
[ -z "$(state)" ] || fail "the service is left: $(state)"
tail -n 1 windows/temp/calls.txt | grep -qx 'interface - wayfarer0' || fail "the network was not given back: $(tail -n 1 windows/temp/calls.txt)"
look after
same registry
same files

step "silent, with properties"
mkdir -p preset && printf 'version = 1\ngateway = "vpn.example.test"\nauth = "hybrid"\npin = "%064d"\n' 0 >preset/site.toml
echo 'another' >preset/ca.pem
wine reg add 'HKLM\Software\Classes\.pcf' /ve /d Other.Program /f >/dev/null 2>&1
! msi /i 'C:\old.msi' 'PROFILES=C:\none' || fail "profiles of a directory that is not there were placed"
[ -z "$(state)" ] || fail "it was installed all the same"
msi /i 'C:\old.msi' AUTOSTART=0 'PROFILES=C:\preset' || fail "install"
serving
hasnot "$RUN" /v Wayfarer
has 'HKLM\Software\Classes\.pcf' '' Other.Program
client logs | grep -q 'left out.*site.toml' || fail "the preset profile is not read"
[ -e ProgramData/Wayfarer/profiles.d/ca.pem ] || fail "what lies beside the profile was not copied"
msi /i 'C:\next.msi' || fail "upgrade"
hasnot "$RUN" /v Wayfarer
client logs | grep -q 'left out.*site.toml' || fail "the preset profile is lost"
{ [ ! -e shown ] && [ ! -e hidden ]; } || fail "the window was started, which AUTOSTART=0 forbids"
rm -f driver-deleted
msi /x 'C:\next.msi' || fail "uninstall"
rm driver-deleted || fail "wintun's driver is left"
has 'HKLM\Software\Classes\.pcf' '' Other.Program
[ -e ProgramData/Wayfarer/profiles.d/site.toml ] || fail "the administrator's profile is gone"
rm -r ProgramData/Wayfarer preset
wine reg delete 'HKLM\Software\Classes\.pcf' /f >/dev/null 2>&1
look after
same registry
same files
echo "ok: installed, upgraded, not downgraded, removed while connected, nothing left"

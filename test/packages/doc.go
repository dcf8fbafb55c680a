// Package packages tests what installer makes. "make test" checks what stands in the
// sources; "make test-packages" the packages themselves: in a Debian with a real systemd,
// whose network is the lab's, they are installed, upgraded and removed, and the service
// connects to a gateway. prereqs makes that Debian; *.sh run in it, but for windows.sh,
// which does the same with the package for Windows under Wine (test/wine/run). The package
// for macOS is tested where it is written, in installer/macos.
//
// # What was not run
//
// Neither package was ever installed on a Windows or a Mac. An owner of a Windows 10 or 11 finds
// out in PowerShell as administrator:
//
//  1. Double-click on the package: it asks for an administrator's consent and nothing else, the
//     window opens, "Get-Service wayfarerd" runs, a new console knows "wayfarer status", and
//     the event log Wayfarer has entries of the source wayfarerd, which only an administrator
//     can read; Application has none of them.
//  2. Connect, close the window to the tray, and double-click on a newer package: it asks
//     neither to close programs nor for a restart, and the window opens again.
//  3. "msiexec /i" of the older one: it says that a newer one is installed.
//  4. Connect, and remove it in Settings, Apps: "Get-NetAdapter", "Get-DnsClientNrptRule",
//     "pnputil /enum-drivers" (wintun.inf), "Get-Service", C:\Program Files and the registry's
//     keys named in installer/windows/wayfarer.wxs have nothing of Wayfarer. What stays is
//     Wayfarer.evtx in C:\Windows\System32\winevt\Logs.
//  5. "msiexec /i FILE /qn AUTOSTART=0 PROFILES=C:\Preset", with a profile in that directory:
//     "wayfarer profile list" of an ordinary user has it, and "wayfarer logs" says nothing of it.
//
// And of a macOS 12 or newer: "sudo installer -pkg FILE -target /", "sudo launchctl print
// system/io.github.wayfarer.wayfarerd" runs, "wayfarer status" answers; the same again, and
// the service has another number; "pkgutil --files io.github.wayfarer.pkg" and "lsbom" of the
// receipt list the same; "sudo wayfarer-uninstall", and nothing of that list is left.
package packages

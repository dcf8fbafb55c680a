// Package packages tests what installer makes. "make test" checks what stands in the
// sources; "make test-packages" the packages themselves: in a Debian with a real systemd,
// whose network is the lab's, they are installed, upgraded and removed, and the service
// connects to a gateway. prereqs makes that Debian; *.sh run in it, but for windows.sh,
// which does the same with the package for Windows under Wine (test/wine/run). The package
// for macOS is tested where it is written, in installer/macos.
package packages

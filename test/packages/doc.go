// Package packages tests what installer makes. "make test" checks what stands in the
// sources; "make test-packages" the packages themselves: in a Debian with a real systemd,
// whose network is the lab's, they are installed, upgraded and removed, and the service
// connects to a gateway. prereqs makes that Debian; *.sh run in it.
package packages

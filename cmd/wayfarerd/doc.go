// Wayfarerd is the service of the VPN client: it owns connections and the changes
// they need of this computer's network (app/daemon), and serves the local API to the
// command line and the window (app/control). It reads no files of users and runs no
// other programs. On SIGTERM, SIGINT or SIGHUP it ends all connections, restores the
// network and ends with 0.
package main

// Wayfarerd is the service of the VPN client: it owns connections and the changes
// they need of this computer's network (app/daemon), and serves the local API to the
// command line and the window (app/control). It reads no files of users. On SIGTERM,
// SIGINT or SIGHUP it ends all connections, restores the network and ends with 0.
//
// # Rights on Linux
//
// Started as root it is two processes.
//
// The service itself runs as the user wayfarer with CAP_NET_ADMIN and nothing else: no
// other capability even in its bounding set, no_new_privs, no core dumps, memory that
// other processes of its user cannot look into, and a list of the system calls that it
// may make, none of which starts a program, mounts, traces, enters a namespace or
// signals another process. CAP_NET_RAW (plain ESP) and CAP_NET_BIND_SERVICE (a local
// port below 1024) it has only if a managed profile needs them, or if they are ambient
// capabilities of the program that was started. It inherits, opened, what it could not
// open: the API's socket, its state directory, and the managed profiles, whose secrets
// only root can read.
//
// The root process (supervise_linux.go) has prepared that. It keeps the capabilities that
// files and hooks of resolv.conf need, under a list of forbidden system calls, and does
// one thing: it changes name resolution where that needs root, as the service asks
// (platform.Network.ServeNames). The service tells servers and domains, never contents or
// paths, so whoever takes it over gets the host's network and its names, and no more. The
// root process ends as the service does. If it is killed, so is the service: what stands
// on the host, stays until the next start.
//
// The state directory is root's; the service has its own below it. What the service left
// there root undoes with the means of the network only (platform.Restore). The leak block
// that a service of one process has left becomes the service's, if an always-on profile
// wants it.
//
// Without a user wayfarer the service stays user 0, though without root's capabilities.
// Started as another user, or by a root that cannot become one, it is one process
// with the rights it was given. With none it serves all the same, and connecting fails.
//
// # Windows
//
// The service manager starts "wayfarerd service" as LocalSystem (service_windows.go). All
// privileges are removed then but the one to load a driver, which wintun needs; what is
// left are LocalSystem's rights to the registry, the network and its own directory. It is
// running when it serves; stop and shutdown end it as a signal does elsewhere, and it says
// for how long. At each start it tells the service manager to start it again after a crash
// or an error, and to wait for it before a shutdown (manager_windows.go). Its log goes to an
// event log of its own, Wayfarer, as events of the source wayfarerd, which only
// administrators can read: it names users and gateways, and everybody may read Application.
// That is where Windows puts events of a source that it does not know yet, so a new log is
// waited for, and what was logged meanwhile follows. What may take its time comes after the
// service's first sign of life.
// In a terminal of an administrator it runs without the argument.
//
// # macOS
//
// launchd starts it as root, with /var/log/wayfarerd.log, which the service closes to other
// users, for its log.
//
// # Libraries
//
// github.com/elastic/go-seccomp-bpf (Apache-2.0) and libcap's own Go package
// kernel.org/pub/linux/libs/security/libcap/cap (BSD), which reaches all threads.
// installer/linux has the unit, the user, and rule and policy for polkit.
package main

// Package platform is everything about the host that differs per operating system,
// the virtual interface itself aside: addresses, routes and DNS of tunnels, a block for
// all that does not go through them, sockets that stay outside of them, and what
// happens to the host meanwhile.
//
// # Wish, not command
//
// [Network.Set] takes a whole [Config], the wish, and makes the host so. It can be
// called again at any time: what is as wished is not touched, what somebody took
// away meanwhile comes back, what is no longer wished is undone. The zero Config
// restores the host. It should be called again after an [Event]: which networks are
// local, and which DNS servers are the host's own, is looked up by Set.
//
// A wish is turned into a list of changes (change.go), each with what it needs to
// be undone. They are applied in order, and undone in the reverse order. What a
// wish no longer contains is undone only after everything new stands, so a failure
// half way rolls back to exactly the wish before.
//
// # Journal
//
// A change is plain data, and stands in the journal (journal.go) before it is made and
// until it is undone: network.journal in the state directory, one line of JSON each,
// always replaced as a whole, and synced if it has something that a restart does not undo.
// A process that is killed leaves a list that [Network.Recover] or [Restore] undoes, the
// newest first. While one wish replaces
// another, both are in it. Undoing is conditional: an interface that has got a dead
// one's index, a file that somebody else has written since, a route without our protocol
// number stay as they are; so does everything that is in no journal, but for what can be told
// to be ours without it: Windows' filters and rules for names, macOS's rules of the packet
// filter and keys of the dynamic store, which [Network.Recover] removes, or takes into the
// journal again if it is to keep a block. It does so with the state directory of [StateDir]
// only: beside another one they may be a living process's.
//
// Each line has the name of the computer's run (boot_id): after a restart only files
// are put back, for the rest is gone. Lines of a newer version are kept for that, and
// reported. network.lock, locked by flock, holds the number of the process that has the
// host's network; it is locked for as long as that lives, and a second one gets a
// [BusyError].
//
// Root also undoes what a service with fewer rights has left. A journal that somebody
// else than root could have written is foreign: what it says of files and programs is not
// believed, and of the kernel's settings only those of the network. So it can have root
// do no more than its writer could.
//
// # Linux: routes
//
// Netlink goes through github.com/vishvananda/netlink: Apache-2.0, with releases, and
// it covers links, addresses, routes and rules with protocol and mark, where
// jsimonetti/rtnetlink is closer to the messages on the wire.
//
// All routes stand in a table of their own, 119, and never in main, so that no DHCP
// client (CVE-2024-3661), and no more specific route of the local network, competes with
// them. One rule per address family leads there:
//
//	30560: not fwmark 0x3766 lookup 119
//
// They have the scope of routes by a router (universe): a default route that somebody adds
// to main without naming an interface (ip route add default via ROUTER) is by the router's
// interface, as without a tunnel, and what is marked goes by it.
//
// A network that stays outside is a throw route in that table: the search goes on
// in main. Beside what the wish excludes these are (outsiders in home_linux.go)
//
//   - networks that end within the host, such as containers', beside a full tunnel;
//   - with AllowLocal, the local networks beside a full tunnel, if their addresses are
//     private: a network that hands out somebody's public addresses as its own would
//     see the packets to them (CVE-2023-36672);
//   - the local router, and local DNS servers that are still needed, where a company's
//     network has their addresses too. [Report] lists such overlaps.
//
// Sockets of [Network.ListenPacket], [Network.ListenESP] and [Network.Dialer] carry the
// mark, so packets to a gateway need no host route (CVE-2023-36673) and follow the host
// when it moves to another network. The mark needs CAP_NET_ADMIN, a raw socket
// CAP_NET_RAW, and a port below 1024 CAP_NET_BIND_SERVICE. Routes and rules carry the
// protocol number 119, by which they can be told from others'. The mark avoids the bits
// that Kubernetes (0x4000, 0x8000) and Tailscale (0xff0000) give a meaning.
//
// These sockets can find out how large datagrams to a gateway may be: they forbid
// fragmentation when they are told to, whatever the kernel believes of the path
// (IP_PMTUDISC_PROBE), and pass on what routers report (IP_RECVERR), which makes no call
// fail. UDP sockets move datagrams in runs, many with a call (UDP_SEGMENT, UDP_GRO), and
// each by itself, still many with a call, what the system or the link does not take so, and
// plain ESP, of which the kernel makes no runs (esp_linux.go). Amid a dense stream of large
// single datagrams (less than 125 µs apart, some 90 Mbit/s), and nowhere else, the reader
// looks a quarter of a millisecond later (pause_linux.go): a quarter to a half of its
// processor's time is saved. That is the one exception to what holds everywhere else, that no
// packet waits for a batch: there a small one, too, waits up to 0.3 ms. What comes
// meanwhile, or while the reader has much in hand, wakes nobody (watched_linux.go).
//
// With rp_filter=1 the kernel drops packets from a gateway whose address is routed
// into the tunnel: its check looks the source up without the mark. The sysctl
// src_valid_mark alone does not help, because packets that come in carry no mark;
// wg-quick adds firewall rules that give them one. Here
// net.ipv4.conf.all.rp_filter becomes 2 (loose) meanwhile, only if it is needed.
//
// # Linux: firewall
//
// The table inet wayfarer, through github.com/google/nftables (Apache-2.0, with
// releases, without the C library), is replaced in one transaction. Its chains are
//
//   - guard: packets for a tunnel's address that come in by another interface are
//     dropped (CVE-2019-14899). Always there while there is a tunnel;
//   - output, forward: with BlockOutside, all that does not leave by a tunnel is
//     rejected, but for marked packets, DHCP, neighbour discovery, what the host itself
//     sends to a Portal and then to its own DNS servers, and with AllowLocal the local
//     networks. Without it, and if the tunnels take all IPv4 but not all IPv6, the same
//     for IPv6, link-local addresses aside.
//
// What is rejected is answered with ICMP, so that programs need not wait. ARP, and what
// programs such as DHCP clients send by packet sockets, passes by the firewall. A rule's
// comment is its text, by which Set sees whether the table is as it should be. The block
// is the first change to come and the last to go. A kernel without nftables can have
// tunnels ([Report] has a warning), but no block.
//
// # Linux: DNS
//
// Who owns name resolution is found out as Tailscale does (detectDNS), and reported:
//
//   - systemd-resolved, if /etc/resolv.conf names its stub or the C library asks it
//     first, and it answers on the system bus: each tunnel's servers and domains belong
//     to its link.
//   - openresolv, if resolv.conf says so and the program is there: the tunnels have a
//     record, wayfarer, which is exclusive (-x), so that nobody else's counts. This is the
//     only program that is ever run; it has no other interface. It needs root.
//   - Debian's resolvconf, likewise: it has nothing that keeps the other records out,
//     and leaves resolv.conf alone if that is no link to its own file. So the link is
//     replaced.
//   - NetworkManager, if resolv.conf says so and it runs: it takes no servers for
//     interfaces that are not its own (since 1.26.6), so the file is replaced.
//   - otherwise the file is nobody's.
//
// /etc/resolv.conf is replaced, never written through a symlink, and put back as it was.
// If another program writes it meanwhile (NetworkManager, a DHCP client), that is an
// [Event], the next Set replaces it again, and what that program wrote last is what is put
// back. After five times in a minute the file is left to it for ten. Where it is a mount,
// as in containers, it is written in place. A process that may not replace it gets a
// [FileError].
//
// Only systemd-resolved can send some names here and others there. Elsewhere all names go
// to the tunnels' servers, those first that are to resolve all names. The servers from
// before are left out, because the resolver would ask them for a company's names whenever
// the company's servers do not answer.
//
// After each Set it is looked where names go now (verify), and [Report] says where not only
// to the tunnels: that the file is another program's, that it names other servers too (a
// resolver of openresolv's, a resolv.conf beside systemd-resolved that lists the servers
// behind it), that another link of systemd-resolved's has a tunnel's domain, or that names
// could not be told apart.
//
// # Linux: without root
//
// A service without root asks another process (names_linux.go), over an inherited socket:
// [Network.AskForNames] is its end, [Network.ServeNames] the other. A request has the
// interfaces, servers and domains of all tunnels. The root process checks them, plans
// with the code above, and has a journal of its own in a directory of root's; it restores
// when the service has gone. systemd-resolved the service reaches itself, if polkit lets
// its user.
//
// [Authorize] asks polkit whether a process may connect (polkit_linux.go): the policy that
// is shipped allows the active local session, and names the service's user as its owner,
// for only root and an owner may ask about other users' processes.
//
// [Network.LookupOutside] asks the host's own servers, past the tunnels, for the names
// of gateways. [Network.Conflicts] says which other VPN has the default route or all
// the names.
//
// # Linux: WINS
//
// Linux has no place for WINS servers. They are written to samba-wins.conf in the state
// directory, which is there while a tunnel has some and which every user's programs can
// read. An administrator who wants Samba to use them adds to the section [global] of
// smb.conf:
//
//	include = /var/lib/wayfarer/samba-wins.conf
//
// # Linux: events
//
// Netlink tells that something has changed; what has is seen by looking 250 ms later,
// so that one change of network is one [Event], and routes that are merely refreshed are
// none. Rules, routes and the firewall's table that another program removes (systemd-networkd
// when it starts, "flush ruleset") are one as well, EventTaken, for a full tunnel or the block
// leaks without them: half a second passes until the next Set has made them again. In the
// same way inotify tells that resolv.conf was written, by another program if it
// does not have our header.
//
// Sleep and wake are logind's to tell. Without it, and of a sleep that somebody brings about
// past it (rtcwake(8)), the kernel tells: a timer on CLOCK_REALTIME is cancelled when that
// jumps (clock_linux.go), as it does in a sleep. Then the clock that goes on during sleep
// (CLOCK_BOOTTIME) is compared with the one that does not (CLOCK_MONOTONIC), for a clock that
// was set is no sleep. Only where the kernel has no such timer they are compared every 30 s. A
// sleep in which neither clock stops (s2idle without an idle state for it) is told by logind
// alone.
//
// "make test-suspend" has a virtual machine sleep by S3 and by s2idle, without logind, and sets
// its clock: each sleep is told once, within milliseconds, the clock's setting never. So it was
// on Linux 5.10, 6.1 and 6.12 of Debian's, emulated, on amd64 with one processor; not seen were
// a sleep of a real computer, hibernation, and what logind tells of a real sleep.
//
// # The desktop
//
// What the program with the window needs of the user's desktop stands here, too, and is
// never the service's. [Autostart] is an entry among what starts at login: a desktop entry
// (Desktop Application Autostart Specification), a launch agent (launchd.plist(5), through
// howett.net/plist) or a value of the registry's key Run. Each form is plain code that any
// system can test; what the desktop's own settings switch off counts as off, but on macOS:
// there Login Items (macOS 13) and launchctl disable have a list of the system's, of which
// the agent's file does not tell. On Windows the installer may have an entry for all users,
// which each can decline: the program, started all the same, ends.
//
// [ClaimInstance] makes a process the one of its program in a session; a later one hands
// its arguments over, by a unix socket in XDG_RUNTIME_DIR or a named pipe, to nobody but a
// process of the same user. A socket that a dead process left is replaced. One that does
// not take the arguments in 10 s hangs: its place is taken, or, on Windows, the new one
// runs beside it. [TrayHost] says why an icon in the tray would not be seen.
//
// # Windows: routes
//
// All calls go through the fields of a winSystem, so that planning and undoing (win*.go) run
// and are tested on any system; the real ones (*_windows.go) are winipcfg of
// golang.zx2c4.com/wireguard/windows (MIT), x/sys, and our own declarations of
// fwpuclnt.dll. Interfaces come from wintun, with a GUID that follows from the name.
//
// Windows has one table of routes, in which the longest prefix decides, then the sum of the
// route's and the interface's metric; a tunnel's interface has the metric 0. So beside a
// tunnel's own routes there are
//
//   - one into the tunnel for each other route that a tunnel's route covers: the local
//     networks (CVE-2023-36672), and what a DHCP server has told (CVE-2024-3661), unless it
//     is to stay outside. Routes that come later are an [Event], after which Set does so;
//   - one past the tunnel, by the way that it has without, for each network that stays
//     outside (outsiders in home.go, Exclude) and has no route of its own.
//
// Windows answers by the interface that a packet came in by, and takes no packets for
// another's addresses (strong host), so that there is no guard.
//
// Routes and addresses go with the interface, which goes with the process; routes past a
// tunnel are in the journal. Windows' runs have no name there: a fast start keeps what a
// shutdown would remove, so all is undone, which does no harm where it is gone.
//
// Sockets are bound to the interface that leads to the gateway past the tunnels
// (IP_UNICAST_IF), and again whenever interfaces, addresses or routes change; without one,
// to the loopback interface, which refuses. Their ports are any: Windows' own IKEEXT has
// 500 and 4500, and takes all plain ESP, so [Network.ListenESP] fails.
//
// They send runs of datagrams, each with a call, where Windows can cut them
// (UDP_SEND_MSG_SIZE, Windows 10 2004), and one by one where it cannot; a run is what waits at
// the interface, as package tun reads ahead. They receive one by one: with UDP_RECV_MAX_COALESCED_SIZE some network drivers give several datagrams as one
// without a word of where they end (msquic's issue 4955; quinn has it switched off), and
// registered I/O, as golang.zx2c4.com/wireguard/conn has it, gives one with a call, too.
//
// # Windows: filters
//
// The leak block are filters of our own provider and sublayer in the Windows Filtering
// Platform, replaced in one transaction. They belong to no session and are not persistent:
// they outlive a killed service and are gone after a restart. A shutdown with fast startup
// hibernates session 0, so that they may be there still when the computer is switched on;
// the service undoes them when it starts. Where a program begins to send, where something
// comes in, and where the host is a router, all is blocked but what this program sends,
// loopback, the tunnels, DHCP, neighbour discovery, a Portal, and with AllowLocal the local
// networks. Other programs' blocks are not overruled. Without
// BlockOutside, a tunnel that takes all IPv4 but not all IPv6 holds IPv6 back, and one that
// takes all IPv4 and resolves all names holds back DNS (port 53) outside.
//
// A filter's name is its text, by which Set sees whether all are there. The engine tells of
// each filter that is removed (FwpmFilterSubscribeChanges0): if it was ours, that is an
// EventTaken, a quarter of a second later. An engine that is started again has forgotten
// filters and subscriptions; so while BlockOutside stands it is looked every ten seconds, too.
//
// # Windows: names
//
// Names of a tunnel's domains are looked up by rules of the name resolution policy table
// (NRPT, [MS-GPNRPT]) in the registry, with GUIDs of our own: the nth rule has always the
// same. A tunnel that resolves all names has a rule for all, and its servers at the
// interface; one with split DNS has no servers there, for Windows would ask them for all
// names. Search domains are the interface's. Where group policy has a table of rules, also an
// empty one, Windows heeds no others: then [Report] says that the names are taken. WINS servers are the interface's
// NetBT parameters, written before its addresses: NetBT reads them when an address comes, and
// those that change beside an address not until the next one. All of this outlives a restart, and is undone by the journal.
//
// # Windows: events
//
// NotifyIpInterfaceChange, NotifyUnicastIpAddressChange and NotifyRouteChange2 tell that
// something has changed, and RegNotifyChangeKeyValue that rules for names and
// interfaces' name servers may have; what has is seen by looking. Rules and name servers that
// another program takes away, and a table of group policy's that comes or goes, have Set
// called again; WINS servers wait for the next Set. Sleep and wake are told by
// PowerRegisterSuspendResumeNotification, the same events that a service gets.
//
// The state directory is closed to all but SYSTEM and Administrators each time it is
// opened. One that belongs to anybody else, or is a link, is refused, for below ProgramData
// everybody may make directories.
//
// # Windows: what was not run
//
// Under Wine ("make test-windows") run: the unit tests of all packages; the registry; lists
// of interfaces and routes; the service, its control, its privileges and its pipe; the
// keyring; the window and its icon in the notification area; the self-test; connections
// through a gateway with the programs as they are shipped, ended, killed and stopped. Stand-ins
// take the place of wintun, of what iphlpapi.dll sets and tells, and of the filtering engine
// (test/wine): all that they are asked for is compared line by line, the tunnel's packets go
// by nothing else, and filters are read with the structures of mingw-w64's headers. Wine
// cannot show that a second service is refused (TestSecondService), nor what a full
// service says before it hangs up (TestConnectionsAreBounded). On no Windows was run:
// wintun's driver, what the system itself makes of addresses, routes, metrics, DNS and
// filters, and when it tells of changes, what the DNS client and NetBT make of the
// registry, whether IP_UNICAST_IF holds beside a full tunnel, UDP_SEND_MSG_SIZE, power
// events, access control lists, also the event log's, whether the event log service knows a
// new log's source when it says that it knows the log, what the service manager does after a
// crash and before a shutdown, displays of several densities, anything on arm64, Windows
// Server 2016. An owner
// of a Windows 10 or 11 finds out in ten minutes, in PowerShell as administrator, with
// wayfarer.exe, wayfarerd.exe and wayfarer-gui.exe of "make gui-windows" and wintun.dll
// (wintun.net, 0.14) in one folder:
//
//  1. sc.exe create wayfarerd binPath= '"C:\...\wayfarerd.exe" service', sc.exe start
//     wayfarerd: the event log Wayfarer has "wayfarerd runs" of the source wayfarerd, Application
//     has none of it ("Get-WinEvent -LogName Application -MaxEvents 50"), and as
//     another user "Get-WinEvent -LogName Wayfarer" is refused;
//     "icacls C:\ProgramData\Wayfarer" lists SYSTEM and Administrators only. On a computer
//     that never had wintun ("pnputil /enum-drivers" has no wintun.inf) connect as in step 3
//     before the self-test, which runs with more privileges than the service: the driver is
//     put in place when the first interface is made, and the service has only
//     SeLoadDriverPrivilege by then. If step 3 fails at build-tunnel, and no more after the
//     self-test, that is too little.
//  2. Stop the service. ".\wayfarer selftest": each check says ok, and below it stands what
//     Windows has then: testdata/selftest-windows.txt is what that should be, numbers and
//     networks of your own aside. Afterwards "Get-NetAdapter", "Get-DnsClientNrptRule" and "netsh wfp show filters file=-" have
//     nothing of Wayfarer. Start the service.
//  3. As an ordinary user: ".\wayfarer connect --gateway GATEWAY --login USER".
//     "Get-NetRoute -InterfaceAlias wayfarer0", "Get-NetIPInterface wayfarer0" (NlMtu,
//     InterfaceMetric 0), "Get-DnsClientNrptRule", "ipconfig /all" (Primary WINS Server)
//     show what "wayfarer status --json" does, and wayfarer0 has no address of 169.254.0.0/16,
//     which Windows gives to interfaces that nobody has given one for some seconds. "nbtstat -n" lists wayfarer0 with its address,
//     and after "nbtstat -R" and a "net view" of a server that only WINS knows, "nbtstat -r"
//     counts a name resolved by the name server: NetBT has taken the WINS servers. A name of
//     the company's resolves, and for split DNS "Resolve-DnsName" of another goes to the
//     local server.
//  4. With a full tunnel, "Find-NetRoute -RemoteIPAddress" of an address of the local
//     network names wayfarer0, with --local-network the local interface. "Resolve-DnsName
//     example.com -Server 192.168.1.1" (the router) fails.
//  5. Change from Wi-Fi to a cable and back, and sleep for a minute: the connection comes
//     back, and "wayfarer logs" tells why it went.
//  6. Connect with --block-outside, "Restart-Service -Force bfe": within half a minute "netsh
//     wfp show filters file=-" has Wayfarer's filters again. Then, so that it is not started
//     again, "sc.exe config wayfarerd start= disabled" and "Stop-Process -Force -Name
//     wayfarerd": "ping" fails. "sc.exe config wayfarerd start= auto" and start the service:
//     ping works. Once more, and restart the computer while it is disabled: ping works. Once
//     more, and shut it down and switch it on: with fast startup ping may fail until
//     ".\wayfarer restore-network".
//  7. As an ordinary user, ".\wayfarer-gui --demo" from the Explorer: no console opens, the
//     text is sharp also on a second display, the icon stands in the notification area and
//     turns green when connected. End it in the Task Manager: wayfarer.exe is gone, too.
//     With "start at login" switched on, the Task Manager's list of what starts has it.
//  8. "Stop-Process -Force -Name wayfarerd", and wait for 5 s: "Get-Service wayfarerd" says
//     Running again. "sc.exe qfailure wayfarerd" lists three restarts.
//  9. "sc.exe stop wayfarerd; sc.exe delete wayfarerd": as in step 2, nothing is left but the
//     event log ("Remove-EventLog Wayfarer").
//
// # macOS: routes
//
// All calls go through the fields of a macSystem, so that planning and undoing (mac*.go)
// run and are tested on any system; the real ones (mac*_darwin.go) are the routing socket
// through golang.org/x/net/route, ioctls through x/sys, and four programs of the system's
// with absolute paths, without a shell and without this process's environment: ifconfig(8)
// for addresses (x/sys has no SIOCAIFADDR), scutil(8) for the dynamic store and pfctl(8)
// for the packet filter (whose APIs need cgo or are private), ipconfig(8) for the DHCP
// server. Interfaces are utun and a number.
//
// macOS has one table of routes, in which the longest prefix decides, and nothing that
// could say that a network stays outside. The system's own default route stays: configd
// puts it back whenever it is replaced, and sockets that are bound to an interface go by
// it. So only routes into tunnels are made, and they are cut out so (carve in macroutes.go)
// that packets go as by the tables of Linux:
//
//   - a full tunnel has two halves of all addresses;
//   - where the host has a route for a network that a tunnel takes, or for a part of it, the
//     halves of that are routed, too: the local networks (CVE-2023-36672), and what a DHCP
//     server has told (CVE-2024-3661), unless it is to stay outside;
//   - around what stays outside and is in no such network, the routes are cut up.
//
// A host's route for a single address cannot be outdone: the address stays outside, unless a
// leak block holds it back, and [Report] names it (Outside). So do the routers, the host's
// own addresses, and gateways in a local network: unlike on Linux, a router whose address is
// the company's name server, too, keeps it, which is an overlap that [Report] lists.
//
// A route of ours goes with its interface, which goes with the process; whose it is, is
// told by the interface's number and name, which are in the journal. macOS accepts packets
// for any of its addresses by any interface, so there is a guard.
//
// Sockets of [Network.ListenPacket] are bound to the interface that leads to the gateway
// past the tunnels (IP_BOUND_IF), and again whenever interfaces, addresses or routes
// change. Without one that was ever found they refuse to send. What routers say of the path
// macOS tells no unconnected socket; the size of the interface's packets is told. The kernel
// takes all plain ESP, so [Network.ListenESP] fails.
//
// They move up to 64 datagrams with a call, those that wait, by sendmsg_x and recvmsg_x, which Apple keeps
// private (macudp.go): libSystem is asked for them at run time, kernels before macOS 15.6
// are left alone, whose recvmsg_x could lose its lock, and a trial on loopback must succeed
// first, for Apple's header promises sockets without a peer nothing. Without them, and for
// some thousand runs after one is refused, each datagram is a call, as with
// golang.zx2c4.com/wireguard/conn and quic-go, which have no more on macOS.
//
// # macOS: filter
//
// The leak block are rules of pf in the anchor com.apple/wayfarer, which the system's
// pf.conf evaluates (anchor "com.apple/*") without being changed. It is looked whether it
// does; a block without it is an error, and without a block [Report] says Unguarded. pf is
// kept on by a token of our own (pfctl -E), which stands in pf.token in the state directory
// and is given back (pfctl -X), so that others' use of pf is not touched. A process that is
// killed between the two leaves pf on, without a rule of ours, until a restart.
//
// Rules are replaced at once, keep no state and are quick: what is not let out is answered
// with an error. Let out are lo0, the tunnels, DHCP, neighbour discovery, a Portal, with
// AllowLocal the local networks, and the service's own packets. These a rule describes for
// each socket: its local port, which no other program can have meanwhile, and the gateway's
// address; for connections of [Network.Dialer], whose port is not known before, the address
// and port at the other end, for root alone (user), so that no user's program, nor the
// system's resolver, which is not root's, gets out with them. The rules change when a socket
// is opened. pf cannot tell what the host sends from what it passes on, so Portal and local
// networks are open to both. When the block comes, states of others' rules are flushed.
// Without BlockOutside, a tunnel that takes all IPv4 but not all IPv6 holds IPv6 back, and one
// that takes all IPv4 and resolves all names holds back DNS (port 53) outside: configd asks
// the servers from before whenever the tunnel's do not answer.
//
// # macOS: names
//
// Each tunnel with name servers is a service in the dynamic store, with a UUID that follows
// from the interface's number. Only State: keys are used, which a restart forgets. Its
// domains are SupplementalMatchDomains; an empty one stands for all names, and comes before
// the servers of the primary service. Domains that complete names are in a key of their own:
// configd removes SearchDomains of a service without addresses, and completes names with
// supplemental domains unless their key says SupplementalMatchDomainsNoSearch, as all others
// of ours do. So the tunnel's servers also resolve what is below its search domains. The tunnel is never the primary service, for configd
// would lead the default route to it and, if the process died, leave it there. Each key is
// read back after it was written, and after each Set it is looked who is asked (scutil --dns).
// Words for scutil are checked: a gateway's domains cannot become commands. WINS servers are
// written as WINSAddresses of the same service's SMB, and will hardly have an effect: configd
// takes the primary service's only, and none of a service without addresses. [Report] says so.
//
// # macOS: events
//
// The routing socket tells that something has changed, and configd, by notify(3), that it has
// made other resolvers of the dynamic store, or that the network is another: what has changed
// is seen by looking. Routes are compared each time, keys of ours when configd has told
// something: one with name servers or search domains that another program removes or changes
// is an EventTaken, a quarter of a second later. Nothing tells of the key with WINS servers,
// for configd heeds none of ours, nor that rules of pf were removed or pf switched off. These
// are looked at with the keys, and when the routing socket tells something, but then once a
// minute at most, for each look starts programs: the guard, and what holds back IPv6 and DNS
// outside, can be missing until anything happens to the network. While BlockOutside stands it
// is looked every ten seconds (pfctl -s), and a block that has gone is an EventTaken, too; when
// it is back, states are flushed again.
//
// IOKit tells before a sleep and after a wake (IORegisterForSystemPower). It would call a
// function of the program's, which one without cgo does not have; so its messages are read
// from their Mach port (macpower.go), each is answered at once, for the computer waits half a
// minute for one who does not, and nothing is asked meanwhile. A message of another form than
// is known ends the registration. Without it, sleep is seen by the clocks: the one that goes on
// during sleep (CLOCK_MONOTONIC_RAW) is compared with the one that does not
// (CLOCK_UPTIME_RAW), every 30 s. They are compared whenever the routing socket or configd
// tells something, too: of a wake in which the display stays dark IOKit tells nobody.
//
// All these functions are asked for while the program runs (macsymbol_darwin.go), and IOKit is
// opened only where CoreFoundation is there already, which wants a process's first thread: all
// programs with this package are linked to it.
//
// The service's log is the file that launchd opened for it (/var/log/wayfarerd.log), which
// the service closes to all but root, for it names users and gateways. Nothing shortens it: newsyslog would rename it, and the service go on in the old one until its
// next start.
//
// # macOS: what was not run
//
// On Linux run: planning, undoing and crashes on a Mac of the tests, the rules' and scripts'
// texts, sockets on loopback, batches of datagrams with calls that read what macOS is given;
// what is read from IOKit and told to Mach, from bytes put together by the headers;
// the window's Go code is type-checked ("make test-cross"). On no Mac was run: all of
// the files *_darwin.go, utun, whether IOKit and configd tell what is awaited here, what
// ifconfig, pfctl, scutil and ipconfig make of their arguments, what pf does with the rules and configd with the keys, IP_BOUND_IF,
// launchd, the unix socket's peer, installer/macos/build.sh with Apple's tools, the window,
// its icon in the menu bar, the keychain. A Mac on which the built-in Cisco IPSec client has
// run may keep packets from port 4500 in its kernel until a restart (sysctl
// net.inet.ipsec.esp_port says 4500 then). An owner of a Mac with macOS 12 or later finds out
// in ten minutes, in Terminal, in the folder build/macos that installer/macos/build.sh makes:
//
//  1. With Go and the sources, "go test ./platform ./tun ./app/control" passes.
//     "sudo ./wayfarer selftest": each check says ok, with what macOS has then below it, as in
//     testdata/selftest-macos.txt, numbers and networks of your own aside: "news of changes" says
//     what nobody tells of, if IOKit or notify(3) refuse.
//     Afterwards "ifconfig", "netstat -rn", "scutil --dns", "sudo pfctl -a com.apple/wayfarer
//     -s rules" and "sudo pfctl -s References" have nothing of Wayfarer.
//  2. sudo cp wayfarerd /Library/PrivilegedHelperTools/, sudo cp *.plist
//     /Library/LaunchDaemons/ (both root:wheel), sudo launchctl bootstrap system
//     /Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist: /var/log/wayfarerd.log
//     has "wayfarerd runs" and is root's, mode 0600, also after a restart; "/Library/Application Support/Wayfarer" is root's, mode 0711.
//  3. As the user at the screen: "./wayfarer connect --gateway GATEWAY --login USER".
//     "ifconfig" (mtu, inet), "netstat -rn", "scutil --dns" show what "wayfarer status --json"
//     does. A name of the company's resolves, also without its domain where there is a search
//     domain ("scutil --dns" has it in resolver #1); where the local network has no IPv6 and
//     the tunnel has, also one that has only an IPv6 address: macOS looks such up (AAAA) as
//     long as a service of the network has IPv6, and ours has none. For split DNS
//     "scutil --dns" has a resolver for each domain. By ssh, as a user who is not at the
//     screen nor in the group wayfarer, it is refused (exit 8).
//  4. With a full tunnel, "route -n get" of an address of the local network and of 1.1.1.1
//     name utun, that of the router en0; with --local-network the first one is en0's, too.
//     "nslookup example.com ROUTER" fails, "sudo pfctl -a com.apple/wayfarer -v -s rules"
//     counts its packets.
//  5. Change from Wi-Fi to a cable and back: the connection comes back, and "wayfarer logs" tells
//     why it went. Close the lid for a minute: the display goes dark at once, and after the
//     wake "wayfarer logs" has the events sleep and wake at those times, without "the clocks
//     do" before. "scutil", in it "list State:/Network/Service/5741F7A2.*" and "remove" of the
//     key that ends in DNS: a second later "wayfarer logs" has the event taken, and the key is
//     there again. With --block-outside, "sudo pfctl -a com.apple/wayfarer -F rules", and "sudo pfctl -d":
//     ten seconds later "sudo pfctl -a com.apple/wayfarer -s rules" and "-s info" show
//     both again.
//  6. Connect, and "sudo kill -9" the service: launchd starts it again, and "netstat -rn",
//     "scutil --dns" have nothing of the tunnel.
//  7. "open Wayfarer.app --args --demo": an icon in the menu bar that follows light and dark,
//     none in the Dock, and the window takes what is typed. Connect; then "kill -9" of
//     wayfarer-gui: "pgrep wayfarer" finds nothing of the demonstration. Without --demo, a
//     saved profile asks for no password after the next start.
//  8. "sudo launchctl bootout system/io.github.wayfarer.wayfarerd", remove both files: as in
//     step 1, nothing is left. "sudo ./wayfarerd" in one window, in another connect with
//     --block-outside, which works, too, and "sudo kill -9" it: "ping 1.1.1.1" fails until
//     "sudo ./wayfarer restore-network". Once more, and restart the computer instead.
package platform

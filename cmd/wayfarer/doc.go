// Wayfarer is the command line of the VPN client. It talks to the service wayfarerd
// over the local API (app/control) and keeps profiles in the user's keyring
// (app/store).
//
//	root.go      the tree of commands; one place turns an error into a line and an exit code
//	env.go       what a command needs of the world; tests put in their own
//	flags.go     the flags of connect, which other commands that connect share
//	profile.go   from flags to a checked profile
//	request.go   what the service gets: certificate and secrets, from files or a person
//	attempt.go   follow a connection until it stands, or to its end: steps, prompts,
//	             Ctrl+C, time-out
//	terminal.go  questions to a person
//	prompt.go    what the gateway asks, as such a question that names who asks
//	render.go    a connection in words
//	profile_*.go the saved profiles: list, show, add, edit, remove, rename, files
//	rootless.go  a service inside this process, for proxy and demo
//	socks.go     the SOCKS5 proxy of those two: who may use it (owner_*.go), and
//	             associate.go for UDP
//
// Every subcommand has a file of its own and a row in root.go.
package main

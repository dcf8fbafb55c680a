// Package lab holds the end-to-end scenarios: wayfarerd and wayfarer against real
// gateways (strongSwan) in network namespaces. The script lab builds the network;
// README.md describes it. The tests have the build tag "lab", need root and Linux,
// and are run by "make lab".
//
// A scenario starts the service in a client's namespace (a host), connects with the
// flags that "lab profile" prints, and asks four witnesses: wayfarer's status, the
// kernel of the client, the gateway (swanctl and its log), and a capture that tshark
// decrypts with the gateway's keys.
package lab

package app

import (
	"net"
	"strings"
)

// Profile is what a user or administrator configures: everything about a
// connection but its secrets. Its TOML form, with these keys, is what is exported;
// the zero value of a field is its default.
type Profile struct {
	Version        int      `toml:"version,omitempty" json:"version,omitzero"`
	Name           string   `toml:"name,omitempty" json:"name,omitzero"`
	Gateway        string   `toml:"gateway,omitempty" json:"gateway,omitzero"` // host, host:port, several separated by commas
	Login          string   `toml:"login,omitempty" json:"login,omitzero"`
	Auth           string   `toml:"auth,omitempty" json:"auth,omitzero"`         // hybrid, xauth-psk, xauth-rsa, psk, rsa
	Exchange       string   `toml:"exchange,omitempty" json:"exchange,omitzero"` // auto, main, aggressive
	RemoteID       string   `toml:"remote_id,omitempty" json:"remote_id,omitzero"`
	LocalID        string   `toml:"local_id,omitempty" json:"local_id,omitzero"`
	GroupID        string   `toml:"group_id,omitempty" json:"group_id,omitzero"`
	CA             []string `toml:"ca,omitempty" json:"ca,omitzero"` // PEM texts (file paths only before a client sends it)
	Pin            string   `toml:"pin,omitempty" json:"pin,omitzero"`
	SystemRoots    bool     `toml:"system_roots,omitempty" json:"system_roots,omitzero"`
	Certificate    string   `toml:"certificate,omitempty" json:"certificate,omitzero"` // file path; PEM text when a client sends it
	Key            string   `toml:"key,omitempty" json:"key,omitzero"`                 // file path; never sent
	IKE            []string `toml:"ike,omitempty" json:"ike,omitzero"`
	ESP            []string `toml:"esp,omitempty" json:"esp,omitzero"`
	AllowWeak      []string `toml:"allow_weak,omitempty" json:"allow_weak,omitzero"`
	PFS            string   `toml:"pfs,omitempty" json:"pfs,omitzero"`                 // auto, off, a group
	ModeConfig     string   `toml:"mode_config,omitempty" json:"mode_config,omitzero"` // auto, pull, push, off
	Selectors      string   `toml:"selectors,omitempty" json:"selectors,omitzero"`     // auto, one, per-network
	LocalNetworks  []string `toml:"local_networks,omitempty" json:"local_networks,omitzero"`
	RemoteNetworks []string `toml:"remote_networks,omitempty" json:"remote_networks,omitzero"`
	NATT           string   `toml:"nat_t,omitempty" json:"nat_t,omitzero"` // auto, off, draft-00 .. draft-03
	LocalPort      int      `toml:"local_port,omitempty" json:"local_port,omitzero"`
	IPComp         bool     `toml:"ipcomp,omitempty" json:"ipcomp,omitzero"` // offer compression: lengths then tell about contents
	LocalNetwork   bool     `toml:"local_network,omitempty" json:"local_network,omitzero"`
	BlockOutside   bool     `toml:"block_outside,omitempty" json:"block_outside,omitzero"`
	AlwaysOn       bool     `toml:"always_on,omitempty" json:"always_on,omitzero"`
	SecretFile     string   `toml:"secret_file,omitempty" json:"secret_file,omitzero"`
	RoutesAdd      []string `toml:"routes_add,omitempty" json:"routes_add,omitzero"`
	RoutesSkip     []string `toml:"routes_skip,omitempty" json:"routes_skip,omitzero"`
	MTU            int      `toml:"mtu,omitempty" json:"mtu,omitzero"` // 0: found out
	Quirks         []string `toml:"quirks,omitempty" json:"quirks,omitzero"`
}

// Hosts lists the gateways of a profile, without their ports. There is at least one,
// which is empty if the profile names none.
func Hosts(gateways string) []string {
	hosts := strings.Split(gateways, ",")
	for i, one := range hosts {
		one = strings.TrimSpace(one)
		if host, _, err := net.SplitHostPort(one); err == nil {
			hosts[i] = host
		} else {
			hosts[i] = strings.Trim(one, "[]")
		}
	}
	return hosts
}

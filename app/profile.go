package app

// Profile is what a user or administrator configures: everything about a
// connection but its secrets. Its TOML form, with these keys, is what is exported;
// the zero value of a field is its default.
type Profile struct {
	Version        int      `toml:"version" json:"version,omitzero"`
	Name           string   `toml:"name" json:"name,omitzero"`
	Gateway        string   `toml:"gateway" json:"gateway,omitzero"` // host, host:port, several separated by commas
	Login          string   `toml:"login" json:"login,omitzero"`
	Auth           string   `toml:"auth" json:"auth,omitzero"`         // hybrid, xauth-psk, xauth-rsa, psk, rsa
	Exchange       string   `toml:"exchange" json:"exchange,omitzero"` // auto, main, aggressive
	RemoteID       string   `toml:"remote_id" json:"remote_id,omitzero"`
	LocalID        string   `toml:"local_id" json:"local_id,omitzero"`
	GroupID        string   `toml:"group_id" json:"group_id,omitzero"`
	CA             []string `toml:"ca" json:"ca,omitzero"` // PEM texts (file paths only before a client sends it)
	Pin            string   `toml:"pin" json:"pin,omitzero"`
	SystemRoots    bool     `toml:"system_roots" json:"system_roots,omitzero"`
	Certificate    string   `toml:"certificate" json:"certificate,omitzero"`
	Key            string   `toml:"key" json:"key,omitzero"`
	IKE            []string `toml:"ike" json:"ike,omitzero"`
	ESP            []string `toml:"esp" json:"esp,omitzero"`
	AllowWeak      []string `toml:"allow_weak" json:"allow_weak,omitzero"`
	PFS            string   `toml:"pfs" json:"pfs,omitzero"`                 // auto, off, a group
	ModeConfig     string   `toml:"mode_config" json:"mode_config,omitzero"` // auto, pull, push, off
	Selectors      string   `toml:"selectors" json:"selectors,omitzero"`     // auto, one, per-network
	LocalNetworks  []string `toml:"local_networks" json:"local_networks,omitzero"`
	RemoteNetworks []string `toml:"remote_networks" json:"remote_networks,omitzero"`
	NATT           string   `toml:"nat_t" json:"nat_t,omitzero"` // auto, off, draft-00 .. draft-03
	LocalPort      int      `toml:"local_port" json:"local_port,omitzero"`
	IPComp         bool     `toml:"ipcomp" json:"ipcomp,omitzero"`
	LocalNetwork   bool     `toml:"local_network" json:"local_network,omitzero"`
	BlockOutside   bool     `toml:"block_outside" json:"block_outside,omitzero"`
	AlwaysOn       bool     `toml:"always_on" json:"always_on,omitzero"`
	SecretFile     string   `toml:"secret_file" json:"secret_file,omitzero"`
	RoutesAdd      []string `toml:"routes_add" json:"routes_add,omitzero"`
	RoutesSkip     []string `toml:"routes_skip" json:"routes_skip,omitzero"`
	MTU            int      `toml:"mtu" json:"mtu,omitzero"` // 0: found out
	Quirks         []string `toml:"quirks" json:"quirks,omitzero"`
}

package app

import "slices"

// Managed is what an administrator has set up for all users of a computer.
type Managed struct {
	Policy   Policy           `json:"policy"`
	Profiles []ManagedProfile `json:"profiles"`
}

// Find is the profile of that name; nil: there is none.
func (m *Managed) Find(name string) *ManagedProfile {
	i := slices.IndexFunc(m.Profiles, func(p ManagedProfile) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &m.Profiles[i]
}

// ManagedProfile is a profile that an administrator has placed, without its secrets.
// Users connect it by its name; they cannot change it.
type ManagedProfile struct {
	Profile
	// PasswordSaved and GroupSecretSaved mean that this user need not give them.
	PasswordSaved    bool `json:"password_saved"`
	GroupSecretSaved bool `json:"group_secret_saved"`
}

// Policy is what connections of a computer must keep to, whoever makes them. Its TOML
// form, with these keys, stands in the file policy.toml beside the directory of profiles
// that an administrator places. The zero value allows everything.
type Policy struct {
	// ForbidWeak: no profile may allow weak algorithms (allow_weak).
	ForbidWeak bool `toml:"forbid_weak" json:"forbid_weak"`
	// ForceBlockOutside: every profile has block_outside.
	ForceBlockOutside bool `toml:"force_block_outside" json:"force_block_outside"`
	// ForbidAdding: only profiles that an administrator has placed are connected.
	ForbidAdding bool `toml:"forbid_adding_gateways" json:"forbid_adding_gateways"`
}

// NotPlaced is the failure of a connection that Policy.ForbidAdding forbids: its profile
// is not one that an administrator has placed.
func NotPlaced() *Failure {
	return NewFailure(CodePolicy, "", "this computer's policy allows the administrator's profiles only",
		"`wayfarer profile list` shows them")
}

// Rules are the rules of the policy in words, none if it allows everything.
func (p Policy) Rules() []string {
	var rules []string
	for _, rule := range []struct {
		holds bool
		text  string
	}{
		{p.ForbidWeak, "weak algorithms are forbidden"},
		{p.ForceBlockOutside, "nothing leaves outside of the tunnel"},
		{p.ForbidAdding, "only the administrator's profiles are connected"},
	} {
		if rule.holds {
			rules = append(rules, rule.text)
		}
	}
	return rules
}

package app

import "slices"

// Need says whether a method of authentication uses something.
type Need int

// Needs.
const (
	NotUsed Need = iota
	Optional
	Required
)

// AuthMethod is a way to authenticate and what it needs of the user.
type AuthMethod struct {
	Name        string
	Login       bool // and a password, by XAUTH
	GroupSecret Need
	Certificate bool // the user's own, and its key
}

// authMethods lists all methods; the first is the default.
var authMethods = []AuthMethod{
	{Name: "hybrid", Login: true, GroupSecret: Optional}, // with it: Cisco's mutual group authentication
	{Name: "xauth-psk", Login: true, GroupSecret: Required},
	{Name: "xauth-rsa", Login: true, Certificate: true},
	{Name: "psk", GroupSecret: Required},
	{Name: "rsa", Certificate: true},
}

// AuthMethods lists the names of all methods, the default first.
func AuthMethods() []string {
	names := make([]string, len(authMethods))
	for i, m := range authMethods {
		names[i] = m.Name
	}
	return names
}

// AuthMethod is the profile's method; false: there is none of this name.
func (p *Profile) AuthMethod() (AuthMethod, bool) {
	i := 0
	if p.Auth != "" {
		i = slices.IndexFunc(authMethods, func(m AuthMethod) bool { return m.Name == p.Auth })
	}
	if i < 0 {
		return AuthMethod{}, false
	}
	return authMethods[i], true
}

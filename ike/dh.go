package ike

// group is a Diffie-Hellman group.
type group struct {
	name string
	id   uint16
	weak Weak
}

func findGroup(name string) *group { return nil }

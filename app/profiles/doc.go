// Package profiles is the form of profiles outside of the programs: the TOML that is
// exported, imported, and placed by an administrator, and the files that a profile
// names. Clients and the service share it; the keyring is app/store's.
//
//	toml.go         app.Profile <-> TOML, strict
//	credentials.go  certificates and keys, from their files
//	embed.go        certificates into the profile that is exported
package profiles

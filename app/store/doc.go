// Package store keeps profiles in the user's keyring: Secret Service on Linux,
// Credential Manager on Windows, Keychain on macOS.
//
// A profile is one entry of the keyring: its TOML form, and in it a table of its
// secrets. Windows stores at most 2,560 bytes in one, so certificates stand in files
// of their own in the user's configuration folder, named by the SHA-256 of what is in
// them, and the entry names those. One more entry lists the names of all profiles:
// keyrings cannot be searched on every system.
//
// A user's own certificate and key stay where they are: the profile has their paths,
// and they are read anew for each connection.
//
//	store.go     the keyring's entries, in the TOML of app/profiles
//	material.go  certificates in files
package store

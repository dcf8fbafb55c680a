// Package store keeps profiles in the user's keyring: Secret Service on Linux,
// Credential Manager on Windows, Keychain on macOS.
//
// A profile is one entry of the keyring: its TOML form, and in it a table of its
// secrets. Windows stores at most 2,560 bytes in one, so certificates stand in files
// of their own in the user's configuration folder, named by the SHA-256 of what is in
// them, and the entry names those. One more entry lists the names of all profiles:
// keyrings cannot be searched on every system.
//
// Clients connect like this, whoever asks the person (Asker), and however:
//
//	entry, err := s.Load(name)               // or an Entry of what was typed
//	req, err := entry.Request(ctx, asker)    // reads files, asks for what is missing
//	req.Ask = true
//	id, err := client.Connect(ctx, req)      // app/control
//	…                                        // its Status says connected
//	if entry.Learn(connection, trusted) {    // the pin; no password where that is forbidden
//		err = s.Save(entry)
//	}
//
// A user's own certificate and key stay where they are: the profile has their paths,
// and they are read anew for each connection.
//
//	store.go     the keyring's entries, in the TOML of app/profiles
//	material.go  certificates in files
//	request.go   from a profile to what the service gets, and back from its connection
package store

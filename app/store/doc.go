// Package store keeps profiles in the user's keyring: Secret Service on Linux,
// Credential Manager on Windows, Keychain on macOS.
//
// A profile is one entry of the keyring: its TOML form, and in it a table of its
// secrets. Windows stores at most 2,560 bytes in one, so certificates stand in files
// of their own in the user's configuration folder, named by the SHA-256 of what is in
// them, and the entry names those. So does everything else of a profile that is too
// big, but for its secrets. One more entry, the index, lists all profiles in the
// user's order: keyrings cannot be searched on every system.
//
// A change of several writes marks in the index what it is about to write or remove.
// Whoever finds such a mark after a crash ends the change; a profile is never lost, and
// no entry stays that nothing lists. Programs change the profiles one after the other:
// they lock a file beside the certificates.
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
//	ring.go      the operating system's keyring
//	index.go     the list of profiles: order, names, what a crash left unfinished
//	material.go  files named by what is in them
//	lock.go      one program at a time
//	request.go   from a profile to what the service gets, and back from its connection
package store

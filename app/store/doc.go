// Package store keeps profiles in the user's keyring: Secret Service on Linux,
// Credential Manager on Windows, Keychain on macOS. It also reads the files in which
// other programs keep theirs.
//
// A profile is one entry of the keyring: its TOML form, and in it a table of its
// secrets. Windows stores at most 2,560 bytes in one, so certificates stand in files
// of their own in the user's configuration folder, in one folder for each keyring,
// named by the SHA-256 of what is in them, and the entry names those. So does everything else of a profile that is too
// big, but for its secrets. One more entry, the index, lists all profiles in the
// user's order: keyrings cannot be searched on every system.
//
// A change of several writes marks in the index what it is about to write or remove.
// Whoever finds such a mark after a crash ends the change; a profile is never lost, and
// no entry stays that nothing lists. Programs change the profiles one after the other:
// they lock a file in that folder.
//
//	store.go     the keyring's entries, in the TOML of app/profiles
//	ring.go      the operating system's keyring
//	index.go     the list of profiles: order, names, what a crash left unfinished
//	material.go  files named by what is in them
//	lock.go      one program at a time
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
//	request.go   from a profile to what the service gets, and back from its connection
//
// A file of profiles becomes candidates, with remarks on all that does not fit; nothing
// is saved, and nothing weak allowed, before a person has agreed:
//
//	found, err := store.ReadImport(file, "office.pcf")
//	c := found.Profiles[0]                   // shown, with found.Remarks and c.Remarks
//	c.AllowWeak()                            // if the person agrees to c.Weak
//	c.Profile.Name = store.FreeName(c.Profile.Name, names)
//	err = s.Adopt(c)
//
// Which program wrote a file is told by what is in it. Reading is pure, bounded, and
// believes nothing: files come by mail.
//
//	import.go        candidates, and what all formats share
//	keys.go          lines of keys and values, and which of them nobody read
//	pcf.go           Cisco's VPN client
//	shrew.go         Shrew Soft VPN client
//	vpnc.go          vpnc, and NetworkManager's connections for it
//	mobileconfig.go  Apple's configuration profiles
//	cms.go           what a signed one has signed
package store

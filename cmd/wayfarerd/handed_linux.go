package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"wayfarer/app/daemon"
)

// What the administrator has placed goes from the root process to the service as chunks,
// each behind its length: policy and profiles without their secrets as one piece of JSON,
// then the secrets, as they are. JSON would leave copies of them in buffers that nobody overwrites.

// maxChunk bounds a chunk, in bytes: all profiles with their certificates.
const maxChunk = 64 << 20

// secretsOf are the places of a profile's secrets, in the order in which they are handed
// over.
func secretsOf(m *daemon.Managed) []*[]byte {
	return []*[]byte{&m.Password, &m.GroupSecret, &m.Key}
}

func writeHanded(w io.Writer, set daemon.SetUp) error {
	bare := daemon.SetUp{Policy: set.Policy, Profiles: make([]daemon.Managed, len(set.Profiles))}
	for i, m := range set.Profiles {
		for _, secret := range secretsOf(&m) {
			*secret = nil
		}
		bare.Profiles[i] = m
	}
	encoded, err := json.Marshal(bare)
	if err != nil {
		return err
	}
	if err := writeChunk(w, encoded); err != nil {
		return err
	}
	for i := range set.Profiles {
		for _, secret := range secretsOf(&set.Profiles[i]) {
			if err := writeChunk(w, *secret); err != nil {
				return err
			}
		}
	}
	return nil
}

// readHanded reads what writeHanded wrote.
func readHanded(r io.ReadCloser) (set daemon.SetUp, err error) {
	defer r.Close()
	encoded, err := readChunk(r)
	if err != nil {
		return daemon.SetUp{}, err
	}
	if err := json.Unmarshal(encoded, &set); err != nil {
		return daemon.SetUp{}, err
	}
	for i := range set.Profiles {
		for _, secret := range secretsOf(&set.Profiles[i]) {
			if *secret, err = readChunk(r); err != nil {
				return daemon.SetUp{}, err
			}
		}
	}
	return set, nil
}

func writeChunk(w io.Writer, data []byte) error {
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data)))); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// readChunk returns nil for an empty chunk.
func readChunk(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxChunk {
		return nil, fmt.Errorf("a piece of %d bytes", size)
	}
	if size == 0 {
		return nil, nil
	}
	data := make([]byte, size)
	_, err := io.ReadFull(r, data)
	return data, err
}

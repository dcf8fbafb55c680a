package main

import "encoding/binary"

// icnsSizes are the pictures of an icon of macOS, by their type. All of these are PNG;
// twice as many pixels as their name says have those for dense displays.
var icnsSizes = []struct {
	kind string
	size int
}{
	{"icp4", 16}, {"ic11", 32}, // 16 points
	{"icp5", 32}, {"ic12", 64}, // 32
	{"ic07", 128}, {"ic13", 256}, // 128
	{"ic08", 256}, {"ic14", 512}, // 256
	{"ic09", 512}, {"ic10", 1024}, // 512
}

// icnsHeader is the size of the file's header and of each picture's: four letters, and
// how many bytes there are with the header.
const icnsHeader = 8

// writeICNS writes all of them into one file, in Apple's icon image format.
func writeICNS(file string) error {
	data := appendICNS(nil, "icns", nil) // its length comes last
	for _, s := range icnsSizes {
		picture, err := draw(s.size)
		if err != nil {
			return err
		}
		data = appendICNS(data, s.kind, picture)
	}
	binary.BigEndian.PutUint32(data[4:], uint32(len(data)))
	return write(file, data)
}

func appendICNS(b []byte, kind string, data []byte) []byte {
	b = append(b, kind...)
	b = binary.BigEndian.AppendUint32(b, uint32(icnsHeader+len(data)))
	return append(b, data...)
}

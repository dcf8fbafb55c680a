package tun

import "encoding/binary"

// What Linux and a program hand each other through a TUN device with IFF_VNET_HDR:
// packets behind a struct virtio_net_hdr (virtio 1.2, §5.1.6), which says what is still
// to be done to them. The fields are in the byte order of the machine.
//
//	flags, gso_type: uint8 | hdr_len, gso_size, csum_start, csum_offset: uint16
const offloadLen = 10

const (
	offloadChecksum = 1 // flags: the checksum is still to be completed

	offloadNone = 0 // gso_type
	offloadTCP4 = 1
	offloadTCP6 = 4
	offloadUDP  = 5
	offloadECN  = 0x80 // beside TCP: the first segment has CWR
)

// offload is a virtio_net_hdr.
type offload struct {
	flags, kind   uint8
	size          int // bytes of payload in each segment
	checksumStart int // of the TCP or UDP header in the packet
	checksumField int // after that
}

func parseOffload(b []byte) offload {
	return offload{
		flags: b[0], kind: b[1] &^ offloadECN,
		size:          int(binary.NativeEndian.Uint16(b[4:])),
		checksumStart: int(binary.NativeEndian.Uint16(b[6:])),
		checksumField: int(binary.NativeEndian.Uint16(b[8:])),
	}
}

// put writes the header of a packet whose own headers are headerLen bytes long.
func (o offload) put(b []byte, headerLen int) {
	b[0], b[1] = o.flags, o.kind
	binary.NativeEndian.PutUint16(b[2:], uint16(headerLen))
	binary.NativeEndian.PutUint16(b[4:], uint16(o.size))
	binary.NativeEndian.PutUint16(b[6:], uint16(o.checksumStart))
	binary.NativeEndian.PutUint16(b[8:], uint16(o.checksumField))
}

const (
	protoUDP     = 17
	udpHeaderLen = 8

	tcpFIN = 0x01 // tcpSYN is beside the MSS
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpURG = 0x20
	tcpCWR = 0x80

	tcpOffset = 12 // places in the header; beside the offset is the flag AE
	tcpFlags  = 13
	udpLength = 4

	// maxHeaders is as much as the headers of a packet that is to be cut may have:
	// IPv6 with a few extension headers, and TCP with options.
	maxHeaders = 256
)

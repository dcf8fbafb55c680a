package main

import (
	"bytes"
	"debug/macho"
	"encoding/binary"
	"testing"
)

// program is a Mach-O file of nothing but a header and some bytes.
func program(t *testing.T, cpu macho.Cpu, size int) []byte {
	t.Helper()
	header, err := binary.Append(nil, binary.LittleEndian, []uint32{macho.Magic64, uint32(cpu), 3, uint32(macho.TypeExec), 0, 0, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	return append(header, bytes.Repeat([]byte{byte(cpu)}, size)...)
}

func TestJoin(t *testing.T) {
	programs := [][]byte{program(t, macho.CpuAmd64, 20000), program(t, macho.CpuArm64, 100)}
	out, err := join(programs)
	if err != nil {
		t.Fatal(err)
	}
	fat, err := macho.NewFatFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	for i, arch := range fat.Arches {
		if arch.Offset%(1<<arch.Align) != 0 || arch.Align != 14 || arch.SubCpu != 3 || arch.Cpu != []macho.Cpu{macho.CpuAmd64, macho.CpuArm64}[i] {
			t.Errorf("%+v", arch.FatArchHeader)
		}
		if !bytes.Equal(out[arch.Offset:arch.Offset+arch.Size], programs[i]) {
			t.Errorf("program %d is another one", i)
		}
	}
	if len(fat.Arches) != 2 {
		t.Errorf("%d programs", len(fat.Arches))
	}
	if _, err := join([][]byte{[]byte("text")}); err == nil {
		t.Error("a text was joined")
	}
}

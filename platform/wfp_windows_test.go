package platform

import (
	"net/netip"
	"runtime"
	"testing"
	"unsafe"
)

// Sizes and offsets as a C compiler has them of fwptypes.h and fwpmtypes.h, for x86-64 and
// ARM64 alike. A wrong one does not compile, also where the test cannot run.
var (
	_ = [1]int{}[unsafe.Sizeof(fwpByteBlob{})-16]
	_ = [1]int{}[unsafe.Offsetof(fwpByteBlob{}.data)-8]
	_ = [1]int{}[unsafe.Sizeof(fwpValue0{})-16]
	_ = [1]int{}[unsafe.Offsetof(fwpValue0{}.value)-8]
	_ = [1]int{}[unsafe.Sizeof(fwpV4AddrAndMask{})-8]
	_ = [1]int{}[unsafe.Offsetof(fwpV4AddrAndMask{}.mask)-4]
	_ = [1]int{}[unsafe.Sizeof(fwpV6AddrAndMask{})-17]
	_ = [1]int{}[unsafe.Offsetof(fwpV6AddrAndMask{}.length)-16]
	_ = [1]int{}[unsafe.Sizeof(fwpmDisplayData0{})-16]
	_ = [1]int{}[unsafe.Sizeof(fwpmSession0{})-72]
	_ = [1]int{}[unsafe.Offsetof(fwpmSession0{}.flags)-32]
	_ = [1]int{}[unsafe.Offsetof(fwpmSession0{}.txnWaitTimeoutInMSec)-36]
	_ = [1]int{}[unsafe.Offsetof(fwpmSession0{}.processID)-40]
	_ = [1]int{}[unsafe.Offsetof(fwpmSession0{}.sid)-48]
	_ = [1]int{}[unsafe.Offsetof(fwpmSession0{}.username)-56]
	_ = [1]int{}[unsafe.Offsetof(fwpmSession0{}.kernelMode)-64]
	_ = [1]int{}[unsafe.Sizeof(fwpmProvider0{})-64]
	_ = [1]int{}[unsafe.Offsetof(fwpmProvider0{}.displayData)-16]
	_ = [1]int{}[unsafe.Offsetof(fwpmProvider0{}.flags)-32]
	_ = [1]int{}[unsafe.Offsetof(fwpmProvider0{}.providerData)-40]
	_ = [1]int{}[unsafe.Offsetof(fwpmProvider0{}.serviceName)-56]
	_ = [1]int{}[unsafe.Sizeof(fwpmSublayer0{})-72]
	_ = [1]int{}[unsafe.Offsetof(fwpmSublayer0{}.flags)-32]
	_ = [1]int{}[unsafe.Offsetof(fwpmSublayer0{}.providerKey)-40]
	_ = [1]int{}[unsafe.Offsetof(fwpmSublayer0{}.providerData)-48]
	_ = [1]int{}[unsafe.Offsetof(fwpmSublayer0{}.weight)-64]
	_ = [1]int{}[unsafe.Sizeof(fwpmFilterCondition0{})-40]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilterCondition0{}.matchType)-16]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilterCondition0{}.value)-24]
	_ = [1]int{}[unsafe.Sizeof(fwpmFilterSubscription0{})-32]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilterSubscription0{}.flags)-8]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilterSubscription0{}.sessionKey)-12]
	_ = [1]int{}[unsafe.Sizeof(fwpmAction0{})-20]
	_ = [1]int{}[unsafe.Sizeof(fwpmFilter0{})-200]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.displayData)-16]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.flags)-32]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.providerKey)-40]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.providerData)-48]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.layerKey)-64]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.subLayerKey)-80]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.weight)-96]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.numFilterConditions)-112]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.filterCondition)-120]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.action)-128]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.providerContextKey)-152]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.reserved)-168]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.filterID)-176]
	_ = [1]int{}[unsafe.Offsetof(fwpmFilter0{}.effectiveWeight)-184]
)

func TestMarshalFilter(t *testing.T) {
	var m filterMemory
	defer m.pinner.Unpin()
	f := winFilter{layer: layerConnect4, weight: 11, permit: true, conditions: []winCondition{
		{fieldLoopback, nil},
		{fieldProtocol, protocolUDP},
		{fieldRemotePort, uint16(53)},
		{fieldInterface, uint64(1) << 40},
		{fieldRemote, netip.MustParsePrefix("192.168.1.0/24")},
		{fieldRemote, netip.MustParsePrefix("fe80::/10")},
	}}
	filter, err := m.marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if filter.layerKey.String() != "{C38D57D1-05A7-4C33-904F-7FBCEEE60E82}" || filter.action.kind != fwpActionPermit || filter.weight != (fwpValue0{fwpUint8, 11}) ||
		filter.flags != 0 || filter.subLayerKey != wfpSublayerKey || *filter.providerKey != wfpProviderKey {
		t.Errorf("filter %+v", filter)
	}
	conditions := unsafe.Slice(filter.filterCondition, filter.numFilterConditions)
	if len(conditions) != len(f.conditions) {
		t.Fatalf("%d conditions", len(conditions))
	}
	for i, want := range []struct {
		match, kind uint32
		value       uintptr // 0: it is pointed at
	}{
		{fwpMatchFlagsAllSet, fwpUint32, 1},
		{fwpMatchEqual, fwpUint8, 17},
		{fwpMatchEqual, fwpUint16, 53},
		{fwpMatchEqual, fwpUint64, 0},
		{fwpMatchEqual, fwpV4AddrMask, 0},
		{fwpMatchEqual, fwpV6AddrMask, 0},
	} {
		c := conditions[i]
		if c.fieldKey != fieldGUIDs[f.conditions[i].field] || c.matchType != want.match || c.value.kind != want.kind || want.value != 0 && c.value.value != want.value {
			t.Errorf("condition %v is %+v", f.conditions[i], c)
		}
	}
	if luid := at[uint64](&conditions[3]); *luid != 1<<40 {
		t.Errorf("interface %x", *luid)
	}
	if v4 := at[fwpV4AddrAndMask](&conditions[4]); *v4 != (fwpV4AddrAndMask{0xc0a80100, 0xffffff00}) {
		t.Errorf("IPv4 network %+v", *v4)
	}
	if v6 := at[fwpV6AddrAndMask](&conditions[5]); *v6 != (fwpV6AddrAndMask{[16]byte{0xfe, 0x80}, 10}) {
		t.Errorf("IPv6 network %+v", *v6)
	}
	if _, err := m.marshal(winFilter{conditions: []winCondition{{fieldProtocol, 17}}}); err == nil {
		t.Error("a value of another type was taken")
	}
	runtime.KeepAlive(filter)
}

// at is what a condition's value points at.
func at[T any](c *fwpmFilterCondition0) *T { return *(**T)(unsafe.Pointer(&c.value.value)) }

// TestFieldsOfFilters: each layer and field that filters have is known to Windows.
func TestFieldsOfFilters(t *testing.T) {
	c := winFilterChange{
		Tunnels: []winTunnelRef{{"wayfarer0", 4}}, Block: true, BlockDNS: true,
		Local: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}, Portal: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	for _, f := range c.filters() {
		if _, known := layerGUIDs[f.layer]; !known {
			t.Errorf("layer %s", f.layer)
		}
		for _, condition := range f.conditions {
			if _, known := fieldGUIDs[condition.field]; !known {
				t.Errorf("field %s", condition.field)
			}
		}
	}
}

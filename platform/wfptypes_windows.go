package platform

import "golang.org/x/sys/windows"

// Structures and numbers of fwptypes.h, fwpmtypes.h and fwpmu.h, as they are where a
// pointer has eight bytes. Their names are Windows'.

type fwpByteBlob struct {
	size uint32
	data *byte
}

// fwpValue0 is FWP_VALUE0 and FWP_CONDITION_VALUE0: numbers of up to 32 bits stand in it,
// all else is pointed at.
type fwpValue0 struct {
	kind  uint32
	value uintptr
}

// Kinds of fwpValue0 (FWP_DATA_TYPE).
const (
	fwpUint8      = 1
	fwpUint16     = 2
	fwpUint32     = 3
	fwpUint64     = 4
	fwpByteBlobOf = 12
	fwpV4AddrMask = 0x100
	fwpV6AddrMask = 0x101
)

type fwpV4AddrAndMask struct {
	addr, mask uint32 // in the host's byte order
}

type fwpV6AddrAndMask struct {
	addr   [16]byte
	length uint8 // of the prefix, in bits
}

type fwpmDisplayData0 struct {
	name, description *uint16
}

type fwpmSession0 struct {
	sessionKey           windows.GUID
	displayData          fwpmDisplayData0
	flags                uint32
	txnWaitTimeoutInMSec uint32
	processID            uint32
	sid                  *windows.SID
	username             *uint16
	kernelMode           int32
}

type fwpmProvider0 struct {
	providerKey  windows.GUID
	displayData  fwpmDisplayData0
	flags        uint32
	providerData fwpByteBlob
	serviceName  *uint16
}

type fwpmSublayer0 struct {
	subLayerKey  windows.GUID
	displayData  fwpmDisplayData0
	flags        uint32
	providerKey  *windows.GUID
	providerData fwpByteBlob
	weight       uint16
}

type fwpmFilterCondition0 struct {
	fieldKey  windows.GUID
	matchType uint32
	value     fwpValue0
}

// Ways to compare (FWP_MATCH_TYPE).
const (
	fwpMatchEqual       = 0
	fwpMatchFlagsAllSet = 6
)

type fwpmAction0 struct {
	kind       uint32
	filterType windows.GUID
}

// Kinds of fwpmAction0 (FWP_ACTION_TYPE).
const (
	fwpActionBlock  = 0x1001
	fwpActionPermit = 0x1002
)

type fwpmFilter0 struct {
	filterKey           windows.GUID
	displayData         fwpmDisplayData0
	flags               uint32
	providerKey         *windows.GUID
	providerData        fwpByteBlob
	layerKey            windows.GUID
	subLayerKey         windows.GUID
	weight              fwpValue0
	numFilterConditions uint32
	filterCondition     *fwpmFilterCondition0
	action              fwpmAction0
	_                   [4]byte // the union that follows is aligned to 8
	providerContextKey  windows.GUID
	reserved            *windows.GUID
	filterID            uint64
	effectiveWeight     fwpValue0
}

// fwpmFilterSubscription0 is what somebody wants to be told of.
type fwpmFilterSubscription0 struct {
	enumTemplate uintptr // 0: all filters
	flags        uint32
	sessionKey   windows.GUID
}

// fwpmSubscriptionFlagNotifyOnDelete has removed filters told of.
const fwpmSubscriptionFlagNotifyOnDelete = 2

// fwpConditionFlagIsLoopback is a bit of the condition on flags.
const fwpConditionFlagIsLoopback = 1

func guid(d1 uint32, d2, d3 uint16, d4 ...byte) windows.GUID {
	return windows.GUID{Data1: d1, Data2: d2, Data3: d3, Data4: [8]byte(d4)}
}

var layerGUIDs = map[winLayer]windows.GUID{
	layerConnect4: guid(0xc38d57d1, 0x05a7, 0x4c33, 0x90, 0x4f, 0x7f, 0xbc, 0xee, 0xe6, 0x0e, 0x82), // FWPM_LAYER_ALE_AUTH_CONNECT_V4
	layerConnect6: guid(0x4a72393b, 0x319f, 0x44bc, 0x84, 0xc3, 0xba, 0x54, 0xdc, 0xb3, 0xb6, 0xb4), // FWPM_LAYER_ALE_AUTH_CONNECT_V6
	layerAccept4:  guid(0xe1cd9fe7, 0xf4b5, 0x4273, 0x96, 0xc0, 0x59, 0x2e, 0x48, 0x7b, 0x86, 0x50), // FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4
	layerAccept6:  guid(0xa3b42c97, 0x9f04, 0x4672, 0xb8, 0x7e, 0xce, 0xe9, 0xc4, 0x83, 0x25, 0x7f), // FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6
	layerForward4: guid(0xa82acc24, 0x4ee1, 0x4ee1, 0xb4, 0x65, 0xfd, 0x1d, 0x25, 0xcb, 0x10, 0xa4), // FWPM_LAYER_IPFORWARD_V4
	layerForward6: guid(0x7b964818, 0x19c7, 0x493a, 0xb7, 0x1f, 0x83, 0x2c, 0x36, 0x84, 0xd2, 0x8c), // FWPM_LAYER_IPFORWARD_V6
}

var fieldGUIDs = map[winField]windows.GUID{
	fieldProgram:    guid(0xd78e1e87, 0x8644, 0x4ea5, 0x94, 0x37, 0xd8, 0x09, 0xec, 0xef, 0xc9, 0x71), // FWPM_CONDITION_ALE_APP_ID
	fieldLoopback:   guid(0x632ce23b, 0x5167, 0x435c, 0x86, 0xd7, 0xe9, 0x03, 0x68, 0x4a, 0xa8, 0x0c), // FWPM_CONDITION_FLAGS
	fieldInterface:  guid(0x4cd62a49, 0x59c3, 0x4969, 0xb7, 0xf3, 0xbd, 0xa5, 0xd3, 0x28, 0x90, 0xa4), // FWPM_CONDITION_IP_LOCAL_INTERFACE
	fieldArrives:    guid(0x4cd62a49, 0x59c3, 0x4969, 0xb7, 0xf3, 0xbd, 0xa5, 0xd3, 0x28, 0x90, 0xa4), // the same, of the forward layers
	fieldLeaves:     guid(0x1076b8a5, 0x6323, 0x4c5e, 0x98, 0x10, 0xe8, 0xd3, 0xfc, 0x9e, 0x61, 0x36), // FWPM_CONDITION_IP_FORWARD_INTERFACE
	fieldRemote:     guid(0xb235ae9a, 0x1d64, 0x49b8, 0xa4, 0x4c, 0x5f, 0xf3, 0xd9, 0x09, 0x50, 0x45), // FWPM_CONDITION_IP_REMOTE_ADDRESS
	fieldTo:         guid(0x2d79133b, 0xb390, 0x45c6, 0x86, 0x99, 0xac, 0xac, 0xea, 0xaf, 0xed, 0x33), // FWPM_CONDITION_IP_DESTINATION_ADDRESS
	fieldProtocol:   guid(0x3971ef2b, 0x623e, 0x4f9a, 0x8c, 0xb1, 0x6e, 0x79, 0xb8, 0x06, 0xb9, 0xa7), // FWPM_CONDITION_IP_PROTOCOL
	fieldLocalPort:  guid(0x0c1ba1af, 0x5765, 0x453f, 0xaf, 0x22, 0xa8, 0xf7, 0x91, 0xac, 0x77, 0x5b), // FWPM_CONDITION_IP_LOCAL_PORT
	fieldICMPType:   guid(0x0c1ba1af, 0x5765, 0x453f, 0xaf, 0x22, 0xa8, 0xf7, 0x91, 0xac, 0x77, 0x5b), // FWPM_CONDITION_ICMP_TYPE, which is the same
	fieldRemotePort: guid(0xc35a604d, 0xd22b, 0x4e1a, 0x91, 0xb4, 0x68, 0xf6, 0x74, 0xee, 0x67, 0x4b), // FWPM_CONDITION_IP_REMOTE_PORT
}

// Ours.
var (
	wfpProviderKey = guid(0x5c6d1f3e, 0x7a42, 0x4b8d, 0x9e, 0x10, 0x3f, 0x27, 0xd1, 0x84, 0x6b, 0x90)
	wfpSublayerKey = guid(0xb1e0a7c4, 0x2d95, 0x4f63, 0x8c, 0x5a, 0x71, 0xee, 0x08, 0x92, 0xd4, 0x3b)
)

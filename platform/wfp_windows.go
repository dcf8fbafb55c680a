package platform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	fwpuclnt                    = windows.NewLazySystemDLL("fwpuclnt.dll")
	fwpmEngineOpen0             = fwpuclnt.NewProc("FwpmEngineOpen0")
	fwpmEngineClose0            = fwpuclnt.NewProc("FwpmEngineClose0")
	fwpmTransactionBegin0       = fwpuclnt.NewProc("FwpmTransactionBegin0")
	fwpmTransactionCommit0      = fwpuclnt.NewProc("FwpmTransactionCommit0")
	fwpmTransactionAbort0       = fwpuclnt.NewProc("FwpmTransactionAbort0")
	fwpmProviderAdd0            = fwpuclnt.NewProc("FwpmProviderAdd0")
	fwpmProviderDeleteByKey0    = fwpuclnt.NewProc("FwpmProviderDeleteByKey0")
	fwpmSubLayerAdd0            = fwpuclnt.NewProc("FwpmSubLayerAdd0")
	fwpmSubLayerDeleteByKey0    = fwpuclnt.NewProc("FwpmSubLayerDeleteByKey0")
	fwpmFilterAdd0              = fwpuclnt.NewProc("FwpmFilterAdd0")
	fwpmFilterDeleteByID0       = fwpuclnt.NewProc("FwpmFilterDeleteById0")
	fwpmFilterCreateEnumHandle0 = fwpuclnt.NewProc("FwpmFilterCreateEnumHandle0")
	fwpmFilterDestroyEnumHandle = fwpuclnt.NewProc("FwpmFilterDestroyEnumHandle0")
	fwpmFilterEnum0             = fwpuclnt.NewProc("FwpmFilterEnum0")
	fwpmFilterSubscribe0        = fwpuclnt.NewProc("FwpmFilterSubscribeChanges0")
	fwpmFilterUnsubscribe0      = fwpuclnt.NewProc("FwpmFilterUnsubscribeChanges0")
	fwpmGetAppIDFromFileName0   = fwpuclnt.NewProc("FwpmGetAppIdFromFileName0")
	fwpmFreeMemory0             = fwpuclnt.NewProc("FwpmFreeMemory0")
)

// Errors of the engine (fwpmu.h).
const (
	fwpFilterNotFound   = windows.Errno(0x80320003)
	fwpProviderNotFound = windows.Errno(0x80320005)
	fwpSublayerNotFound = windows.Errno(0x80320007)
	fwpAlreadyExists    = windows.Errno(0x80320009)
)

// call asks the engine; its functions return their error. What the numbers point at stays
// where it is meanwhile.
//
//go:uintptrescapes
func call(proc *windows.LazyProc, args ...uintptr) error {
	if err := proc.Find(); err != nil {
		return err
	}
	if code, _, _ := proc.Call(args...); code != 0 {
		return fmt.Errorf("%s: %w", proc.Name, meant(windows.Errno(code)))
	}
	return nil
}

// openEngine opens the Windows Filtering Platform. What it is given belongs to no session
// and is not persistent: it outlives the process, and goes with the next start of the
// computer.
func openEngine() (winEngine, error) {
	engine, err := openSession()
	if err != nil {
		return winEngine{}, err
	}
	ask := func(proc *windows.LazyProc, args ...uintptr) func() error {
		return func() error { return call(proc, append([]uintptr{engine}, args...)...) }
	}
	remove := func(proc *windows.LazyProc, key windows.GUID) func() error {
		return func() error { return call(proc, engine, uintptr(unsafe.Pointer(&key))) }
	}
	return winEngine{
		begin: ask(fwpmTransactionBegin0, 0), commit: ask(fwpmTransactionCommit0), abort: ask(fwpmTransactionAbort0),
		filters:        func() ([]winFilterRef, error) { return ownFilters(engine) },
		addProvider:    func() error { return addProvider(engine) },
		removeProvider: remove(fwpmProviderDeleteByKey0, wfpProviderKey),
		addSublayer:    func() error { return addSublayer(engine) },
		removeSublayer: remove(fwpmSubLayerDeleteByKey0, wfpSublayerKey),
		addFilter:      func(f winFilter) error { return addFilter(engine, f) },
		removeFilter:   func(id uint64) error { return call(fwpmFilterDeleteByID0, engine, uintptr(id)) },
		close:          ask(fwpmEngineClose0),
	}, nil
}

func openSession() (engine uintptr, err error) {
	const authentication = 10 // RPC_C_AUTHN_WINNT
	session := fwpmSession0{displayData: display("Wayfarer"), txnWaitTimeoutInMSec: 10_000}
	err = call(fwpmEngineOpen0, 0, authentication, 0, uintptr(unsafe.Pointer(&session)), uintptr(unsafe.Pointer(&engine)))
	return engine, err
}

var filterListeners listeners

func filterRemoved(id, _ uintptr) uintptr { return filterListeners.tell(id, 0) }

// notifyFilters asks for word of every filter that is removed: a subscription without a
// template is for all, and nobody's filters change often. What is changed by the session
// that asks is not told, so that it is one of its own.
func notifyFilters(f func()) (stop func(), err error) {
	engine, err := openSession()
	if err != nil {
		return nil, err
	}
	callback, id, forget := filterListeners.add(filterRemoved, func(uintptr) { f() })
	s := fwpmFilterSubscription0{flags: fwpmSubscriptionFlagNotifyOnDelete}
	var handle uintptr
	if err := call(fwpmFilterSubscribe0, engine, uintptr(unsafe.Pointer(&s)), callback, id, uintptr(unsafe.Pointer(&handle))); err != nil {
		forget()
		return nil, errors.Join(err, call(fwpmEngineClose0, engine))
	}
	return func() {
		_ = call(fwpmFilterUnsubscribe0, engine, handle) // the session's end does it, too
		_ = call(fwpmEngineClose0, engine)
		forget()
	}, nil
}

func display(name string) fwpmDisplayData0 {
	text, err := windows.UTF16PtrFromString(name)
	if err != nil { // a zero byte within, which no name of ours has
		return fwpmDisplayData0{}
	}
	return fwpmDisplayData0{name: text}
}

// filterPage is how many filters are read at once.
const filterPage = 256

// ownFilters are the filters of our provider.
func ownFilters(engine uintptr) (own []winFilterRef, err error) {
	var list uintptr
	if err := call(fwpmFilterCreateEnumHandle0, engine, 0, uintptr(unsafe.Pointer(&list))); err != nil {
		return nil, err
	}
	defer call(fwpmFilterDestroyEnumHandle, engine, list)
	for {
		var entries **fwpmFilter0
		var n uint32
		if err := call(fwpmFilterEnum0, engine, list, filterPage, uintptr(unsafe.Pointer(&entries)), uintptr(unsafe.Pointer(&n))); err != nil {
			return nil, err
		}
		for _, entry := range unsafe.Slice(entries, n) {
			if entry.providerKey != nil && *entry.providerKey == wfpProviderKey {
				own = append(own, winFilterRef{entry.filterID, windows.UTF16PtrToString(entry.displayData.name)})
			}
		}
		fwpmFreeMemory0.Call(uintptr(unsafe.Pointer(&entries)))
		if n < filterPage {
			return own, nil
		}
	}
}

func addProvider(engine uintptr) error {
	provider := fwpmProvider0{providerKey: wfpProviderKey, displayData: display("Wayfarer")}
	return call(fwpmProviderAdd0, engine, uintptr(unsafe.Pointer(&provider)), 0)
}

// addSublayer adds ours. Within a sublayer the greatest weight decides; over all, whichever
// blocks.
func addSublayer(engine uintptr) error {
	providerKey := wfpProviderKey
	sublayer := fwpmSublayer0{subLayerKey: wfpSublayerKey, displayData: display("Wayfarer"), providerKey: &providerKey, weight: 0xffff}
	return call(fwpmSubLayerAdd0, engine, uintptr(unsafe.Pointer(&sublayer)), 0)
}

func addFilter(engine uintptr, f winFilter) error {
	var m filterMemory
	defer m.pinner.Unpin()
	defer m.free()
	filter, err := m.marshal(f)
	if err != nil {
		return err
	}
	var id uint64
	return call(fwpmFilterAdd0, engine, uintptr(unsafe.Pointer(filter)), 0, uintptr(unsafe.Pointer(&id)))
}

// filterMemory holds what a filter points at by numbers, until the engine has copied it.
type filterMemory struct {
	pinner runtime.Pinner
	appIDs []*fwpByteBlob // the system's memory
}

func (m *filterMemory) free() {
	for _, id := range m.appIDs {
		fwpmFreeMemory0.Call(uintptr(unsafe.Pointer(&id)))
	}
}

// keep pins a value and gives its address.
func keep[T any](m *filterMemory, value *T) uintptr {
	m.pinner.Pin(value)
	return uintptr(unsafe.Pointer(value))
}

func (m *filterMemory) marshal(f winFilter) (*fwpmFilter0, error) {
	conditions := make([]fwpmFilterCondition0, len(f.conditions))
	for i, c := range f.conditions {
		value, err := m.value(c)
		if err != nil {
			return nil, err
		}
		conditions[i] = fwpmFilterCondition0{fieldKey: fieldGUIDs[c.field], matchType: fwpMatchEqual, value: value}
		if c.field == fieldLoopback {
			conditions[i].matchType = fwpMatchFlagsAllSet
		}
	}
	providerKey := wfpProviderKey
	filter := &fwpmFilter0{
		displayData: display(f.String()), providerKey: &providerKey,
		layerKey: layerGUIDs[f.layer], subLayerKey: wfpSublayerKey,
		weight: fwpValue0{fwpUint8, uintptr(f.weight)}, action: fwpmAction0{kind: fwpActionBlock},
		numFilterConditions: uint32(len(conditions)),
	}
	if f.permit {
		filter.action.kind = fwpActionPermit
	}
	if len(conditions) > 0 {
		filter.filterCondition = &conditions[0]
		m.pinner.Pin(filter.filterCondition)
	}
	m.pinner.Pin(filter)
	m.pinner.Pin(filter.providerKey)
	m.pinner.Pin(filter.displayData.name)
	return filter, nil
}

// value is what a condition compares with.
func (m *filterMemory) value(c winCondition) (fwpValue0, error) {
	switch v := c.value.(type) {
	case nil:
		return fwpValue0{fwpUint32, fwpConditionFlagIsLoopback}, nil
	case uint8:
		return fwpValue0{fwpUint8, uintptr(v)}, nil
	case uint16:
		return fwpValue0{fwpUint16, uintptr(v)}, nil
	case uint64:
		return fwpValue0{fwpUint64, keep(m, &v)}, nil
	case netip.Prefix:
		if v.Addr().Is6() {
			return fwpValue0{fwpV6AddrMask, keep(m, &fwpV6AddrAndMask{v.Addr().As16(), uint8(v.Bits())})}, nil
		}
		addr := v.Addr().As4()
		mask := binary.BigEndian.Uint32(net.CIDRMask(v.Bits(), 32))
		return fwpValue0{fwpV4AddrMask, keep(m, &fwpV4AddrAndMask{binary.BigEndian.Uint32(addr[:]), mask})}, nil
	case string:
		path, err := windows.UTF16PtrFromString(v)
		if err != nil {
			return fwpValue0{}, err
		}
		var id *fwpByteBlob
		if err := call(fwpmGetAppIDFromFileName0, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&id))); err != nil {
			return fwpValue0{}, err
		}
		m.appIDs = append(m.appIDs, id)
		return fwpValue0{fwpByteBlobOf, uintptr(unsafe.Pointer(id))}, nil
	}
	return fwpValue0{}, fmt.Errorf("a filter cannot compare with a %T", c.value)
}

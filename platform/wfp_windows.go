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

// wfp is the Windows Filtering Platform. What it is given belongs to no session and is not
// persistent: it outlives the process, and goes with the next start of the computer.
type wfp struct{}

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
	fwpmFilterDeleteByKey0      = fwpuclnt.NewProc("FwpmFilterDeleteByKey0")
	fwpmFilterCreateEnumHandle0 = fwpuclnt.NewProc("FwpmFilterCreateEnumHandle0")
	fwpmFilterDestroyEnumHandle = fwpuclnt.NewProc("FwpmFilterDestroyEnumHandle0")
	fwpmFilterEnum0             = fwpuclnt.NewProc("FwpmFilterEnum0")
	fwpmGetAppIDFromFileName0   = fwpuclnt.NewProc("FwpmGetAppIdFromFileName0")
	fwpmFreeMemory0             = fwpuclnt.NewProc("FwpmFreeMemory0")
)

// Errors that say that there is nothing to delete.
const (
	fwpFilterNotFound   = windows.Errno(0x80320003)
	fwpProviderNotFound = windows.Errno(0x80320005)
	fwpSublayerNotFound = windows.Errno(0x80320007)
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
		return fmt.Errorf("%s: %w", proc.Name, rights(windows.Errno(code)))
	}
	return nil
}

// with opens the engine for f.
func (wfp) with(f func(engine uintptr) error) error {
	const authentication = 10 // RPC_C_AUTHN_WINNT
	session := fwpmSession0{displayData: display("Wayfarer"), txnWaitTimeoutInMSec: 10_000}
	var engine uintptr
	err := call(fwpmEngineOpen0, 0, authentication, 0, uintptr(unsafe.Pointer(&session)), uintptr(unsafe.Pointer(&engine)))
	if err != nil {
		return err
	}
	return errors.Join(f(engine), call(fwpmEngineClose0, engine))
}

func display(name string) fwpmDisplayData0 {
	text, err := windows.UTF16PtrFromString(name)
	if err != nil { // a zero byte within, which no name of ours has
		return fwpmDisplayData0{}
	}
	return fwpmDisplayData0{name: text}
}

func (w wfp) filters() (texts []string, err error) {
	err = w.with(func(engine uintptr) error {
		return eachOwnFilter(engine, func(f *fwpmFilter0) {
			texts = append(texts, windows.UTF16PtrToString(f.displayData.name))
		})
	})
	return texts, err
}

// filterPage is how many filters are read at once.
const filterPage = 256

// eachOwnFilter calls f for each filter of our provider.
func eachOwnFilter(engine uintptr, f func(*fwpmFilter0)) error {
	var list uintptr
	if err := call(fwpmFilterCreateEnumHandle0, engine, 0, uintptr(unsafe.Pointer(&list))); err != nil {
		return err
	}
	defer call(fwpmFilterDestroyEnumHandle, engine, list)
	for {
		var entries **fwpmFilter0
		var n uint32
		if err := call(fwpmFilterEnum0, engine, list, filterPage, uintptr(unsafe.Pointer(&entries)), uintptr(unsafe.Pointer(&n))); err != nil {
			return err
		}
		for _, entry := range unsafe.Slice(entries, n) {
			if entry.providerKey != nil && *entry.providerKey == wfpProviderKey {
				f(entry)
			}
		}
		fwpmFreeMemory0.Call(uintptr(unsafe.Pointer(&entries)))
		if n < filterPage {
			return nil
		}
	}
}

func (w wfp) setFilters(all []winFilter) error {
	return w.with(func(engine uintptr) error {
		if err := call(fwpmTransactionBegin0, engine, 0); err != nil {
			return err
		}
		err := clearFilters(engine)
		if err == nil && len(all) > 0 {
			err = addFilters(engine, all)
		}
		if err != nil {
			return errors.Join(err, call(fwpmTransactionAbort0, engine))
		}
		return call(fwpmTransactionCommit0, engine)
	})
}

// clearFilters removes all that is ours.
func clearFilters(engine uintptr) error {
	var keys []windows.GUID
	if err := eachOwnFilter(engine, func(f *fwpmFilter0) { keys = append(keys, f.filterKey) }); err != nil {
		return err
	}
	remove := func(proc *windows.LazyProc, key windows.GUID, gone windows.Errno) error {
		err := call(proc, engine, uintptr(unsafe.Pointer(&key)))
		if errors.Is(err, gone) {
			return nil
		}
		return err
	}
	for _, key := range keys {
		if err := remove(fwpmFilterDeleteByKey0, key, fwpFilterNotFound); err != nil {
			return err
		}
	}
	if err := remove(fwpmSubLayerDeleteByKey0, wfpSublayerKey, fwpSublayerNotFound); err != nil {
		return err
	}
	return remove(fwpmProviderDeleteByKey0, wfpProviderKey, fwpProviderNotFound)
}

// addFilters adds provider, sublayer and filters.
func addFilters(engine uintptr, all []winFilter) error {
	provider := fwpmProvider0{providerKey: wfpProviderKey, displayData: display("Wayfarer")}
	if err := call(fwpmProviderAdd0, engine, uintptr(unsafe.Pointer(&provider)), 0); err != nil {
		return err
	}
	// Within a sublayer the greatest weight decides; over all, whichever blocks.
	providerKey := wfpProviderKey
	sublayer := fwpmSublayer0{subLayerKey: wfpSublayerKey, displayData: display("Wayfarer"), providerKey: &providerKey, weight: 0xffff}
	if err := call(fwpmSubLayerAdd0, engine, uintptr(unsafe.Pointer(&sublayer)), 0); err != nil {
		return err
	}
	for _, f := range all {
		if err := addFilter(engine, f); err != nil {
			return fmt.Errorf("filter %q: %w", f, err)
		}
	}
	return nil
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

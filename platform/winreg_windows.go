package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// readKey reads below HKEY_LOCAL_MACHINE.
func readKey(path string) (map[string]any, error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE)
	if err != nil {
		return nil, meant(err)
	}
	defer key.Close()
	names, err := key.ReadValueNames(-1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	values := map[string]any{}
	for _, name := range names {
		_, kind, err := key.GetValue(name, nil)
		if err != nil {
			continue // gone meanwhile
		}
		var value any
		switch kind {
		case registry.SZ, registry.EXPAND_SZ:
			value, _, err = key.GetStringValue(name)
		case registry.MULTI_SZ:
			value, _, err = key.GetStringsValue(name)
		case registry.DWORD:
			var number uint64
			number, _, err = key.GetIntegerValue(name)
			value = uint32(number)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
		values[name] = value
	}
	return values, nil
}

// writeKey sets the values in the order of their names, so that a key which a crash has
// left half written has the first of them.
func writeKey(path string, values map[string]any) error {
	key, _, err := registry.CreateKey(registry.LOCAL_MACHINE, path, registry.SET_VALUE)
	if err != nil {
		return meant(err)
	}
	defer key.Close()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch value := values[name].(type) {
		case nil:
			err = unlessAbsent(meant(key.DeleteValue(name)))
		case string:
			err = key.SetStringValue(name, value)
		case []string:
			err = key.SetStringsValue(name, value)
		case uint32:
			err = key.SetDWordValue(name, value)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", path, name, err)
		}
	}
	return nil
}

func removeKey(path string) error {
	return meant(registry.DeleteKey(registry.LOCAL_MACHINE, path))
}

func subkeys(path string) ([]string, error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.ENUMERATE_SUB_KEYS)
	if err != nil {
		return nil, meant(err)
	}
	defer key.Close()
	return key.ReadSubKeyNames(-1)
}

// notifyKeys watches the registry. Each watch waits in a thread of its own.
func notifyKeys(paths []string, f func()) (stop func(), err error) {
	end, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, err
	}
	var watches sync.WaitGroup
	for _, path := range paths {
		key, err2 := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.NOTIFY)
		if errors.Is(err2, fs.ErrNotExist) {
			continue
		}
		if err2 != nil {
			err = errors.Join(err, fmt.Errorf("watch %s: %w", path, err2))
			continue
		}
		watches.Go(func() { watchKey(key, end, f) })
	}
	stop = func() {
		_ = windows.SetEvent(end)
		watches.Wait()
		windows.CloseHandle(end)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// watchKey calls f for each change below a key until end is signalled, and closes the key.
func watchKey(key registry.Key, end windows.Handle, f func()) {
	defer key.Close()
	changed, err := windows.CreateEvent(nil, 0, 0, nil)
	if err != nil {
		return
	}
	defer windows.CloseHandle(changed)
	// Goroutines change threads, whose end would be a change, too.
	const what = windows.REG_NOTIFY_CHANGE_NAME | windows.REG_NOTIFY_CHANGE_LAST_SET | windows.REG_NOTIFY_THREAD_AGNOSTIC
	for {
		if windows.RegNotifyChangeKeyValue(windows.Handle(key), true, what, changed, true) != nil {
			return
		}
		first, err := windows.WaitForMultipleObjects([]windows.Handle{changed, end}, false, windows.INFINITE)
		if err != nil || first != windows.WAIT_OBJECT_0 {
			return
		}
		f()
	}
}

package platform

import (
	"fmt"
	"maps"
	"slices"

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

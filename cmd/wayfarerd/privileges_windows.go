package main

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// keptPrivileges are all that the service needs of what LocalSystem has: wintun brings its
// driver along. Whoever connects is identified without one.
var keptPrivileges = []string{"SeLoadDriverPrivilege"}

// dropPrivileges removes this process's privileges, all but some. They cannot be had
// again.
func dropPrivileges(kept []string) error {
	var token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_QUERY|windows.TOKEN_ADJUST_PRIVILEGES, &token); err != nil {
		return fmt.Errorf("open this process's token: %w", err)
	}
	defer token.Close()
	held, err := privileges(token)
	if err != nil {
		return err
	}
	var keep []windows.LUID
	for _, name := range kept {
		var id windows.LUID
		if err := windows.LookupPrivilegeValue(nil, windows.StringToUTF16Ptr(name), &id); err != nil {
			return fmt.Errorf("look up %s: %w", name, err)
		}
		keep = append(keep, id)
	}
	for _, p := range held {
		if slices.Contains(keep, p.Luid) {
			continue
		}
		change := windows.Tokenprivileges{PrivilegeCount: 1}
		change.Privileges[0] = windows.LUIDAndAttributes{Luid: p.Luid, Attributes: windows.SE_PRIVILEGE_REMOVED}
		if err := windows.AdjustTokenPrivileges(token, false, &change, 0, nil, nil); err != nil {
			return fmt.Errorf("remove a privilege: %w", err)
		}
	}
	return nil
}

// privileges lists what a token has, whether or not it is in use.
func privileges(token windows.Token) ([]windows.LUIDAndAttributes, error) {
	var size uint32
	err := windows.GetTokenInformation(token, windows.TokenPrivileges, nil, 0, &size)
	if err != windows.ERROR_INSUFFICIENT_BUFFER {
		return nil, fmt.Errorf("list privileges: %w", err)
	}
	// Of words, so that it is aligned as the structure is.
	buf := make([]uint64, size/8+1)
	list := (*windows.Tokenprivileges)(unsafe.Pointer(&buf[0]))
	if err := windows.GetTokenInformation(token, windows.TokenPrivileges, (*byte)(unsafe.Pointer(list)), size, &size); err != nil {
		return nil, fmt.Errorf("list privileges: %w", err)
	}
	return slices.Clone(list.AllPrivileges()), nil
}

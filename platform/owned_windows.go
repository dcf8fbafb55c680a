package platform

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// harmless are the rights of an access control entry that let nobody change a file.
const harmless = windows.READ_CONTROL | windows.SYNCHRONIZE | windows.FILE_READ_ATTRIBUTES |
	windows.FILE_READ_EA | windows.FILE_READ_DATA | windows.FILE_EXECUTE | windows.GENERIC_READ | windows.GENERIC_EXECUTE

// openAtOnce: there are no pipes among files.
const openAtOnce = 0

// checkAccess reads the file's owner and access control list.
func checkAccess(file *os.File, access Access) error {
	sd, err := windows.GetSecurityInfo(windows.Handle(file.Fd()), windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("who may read it cannot be told: %w", err)
	}
	return checkDescriptor(sd, access)
}

// checkDescriptor is checkAccess of what the system knows of the file.
func checkDescriptor(sd *windows.SECURITY_DESCRIPTOR, access Access) error {
	owner, _, err := sd.Owner()
	if err != nil || !isAdministrator(owner) {
		return errors.New("it does not belong to Administrators; make them its owner")
	}
	list, _, err := sd.DACL()
	if err != nil || list == nil {
		return errors.New("everybody may write to it; protect it by an access control list")
	}
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			return fmt.Errorf("who may read it cannot be told: %w", err)
		}
		if ace.Header.AceType == windows.ACCESS_DENIED_ACE_TYPE {
			continue
		}
		if ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE {
			return errors.New("its access control list has entries of an unknown kind")
		}
		user := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		switch {
		case isAdministrator(user):
		case ace.Mask&^harmless != 0:
			return fmt.Errorf("%v may write to it; leave that to Administrators and SYSTEM", user)
		case access == Private && ace.Mask&(windows.FILE_READ_DATA|windows.GENERIC_READ) != 0:
			return fmt.Errorf("%v may read it; leave that to Administrators and SYSTEM", user)
		}
	}
	return nil
}

// trustedInstaller is the service by which Windows changes its own files.
const trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"

// isAdministrator says whether an account may do everything on this computer in any case.
func isAdministrator(sid *windows.SID) bool {
	return sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) || sid.IsWellKnown(windows.WinLocalSystemSid) || sid.String() == trustedInstaller
}

package platform

import (
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// TestCheckDescriptor: who owns a file and who may do what with it, as SDDL has it ([MS-DTYP]
// §2.5.1), decides whether it is the administrator's.
func TestCheckDescriptor(t *testing.T) {
	const (
		alone = "D:P(A;;FA;;;BA)(A;;FA;;;SY)"
		ada   = "S-1-5-21-1004336348-1177238915-682003330-1001"
	)
	for _, tt := range []struct {
		name, sddl      string
		private, public string // what is wrong with it; empty: nothing
	}{
		{"of Administrators", "O:BA" + alone, "", ""},
		{"of SYSTEM", "O:SY" + alone, "", ""},
		{"of TrustedInstaller", "O:" + trustedInstaller + alone, "", ""},
		{"TrustedInstaller may write", "O:BA" + alone + "(A;;FA;;;" + trustedInstaller + ")", "", ""},
		{"inherited", "O:BAD:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)", "", ""},
		{"nobody may do anything", "O:BAD:P", "", ""},
		{"Users may read", "O:BA" + alone + "(A;;FR;;;BU)", "S-1-5-32-545 may read it", ""},
		{"Users may execute", "O:BA" + alone + "(A;;0x1200a9;;;BU)", "S-1-5-32-545 may read it", ""},
		{"Users may read, generically", "O:BA" + alone + "(A;;GR;;;BU)", "S-1-5-32-545 may read it", ""},
		{"Users see that it is there", "O:BA" + alone + "(A;;0x100080;;;BU)", "", ""},
		{"Users are denied", "O:BAD:P(D;;FA;;;BU)(A;;FA;;;BA)", "", ""},
		{"Users may write", "O:BA" + alone + "(A;;FW;;;BU)", "S-1-5-32-545 may write", "S-1-5-32-545 may write"},
		{"Users may append", "O:BA" + alone + "(A;;0x4;;;BU)", "may write", "may write"},
		{"Users may delete it", "O:BA" + alone + "(A;;SD;;;BU)", "may write", "may write"},
		{"Users may change its list", "O:BA" + alone + "(A;;WD;;;BU)", "may write", "may write"},
		{"Users may take it", "O:BA" + alone + "(A;;WO;;;BU)", "may write", "may write"},
		{"everybody may do all, generically", "O:BA" + alone + "(A;;GA;;;WD)", "S-1-1-0 may write", "S-1-1-0 may write"},
		{"ada may write", "O:BA" + alone + "(A;;FA;;;" + ada + ")", ada + " may write", ada + " may write"},
		{"the services may write", "O:BA" + alone + "(A;;FA;;;LS)", "may write", "may write"},
		{"of ada", "O:" + ada + alone, "does not belong", "does not belong"},
		{"of Users", "O:BU" + alone, "does not belong", "does not belong"},
		{"of another service", "O:S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478465" + alone, "does not belong", "does not belong"},
		{"of nobody", alone, "does not belong", "does not belong"},
		{"no list", "O:BA", "everybody may write", "everybody may write"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sd, err := windows.SecurityDescriptorFromString(tt.sddl)
			if err != nil {
				t.Fatalf("%s: %v", tt.sddl, err)
			}
			for access, says := range map[Access]string{Private: tt.private, OthersMayRead: tt.public} {
				switch err := checkDescriptor(sd, access); {
				case says == "" && err != nil:
					t.Errorf("%v: refused: %v", access, err)
				case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
					t.Errorf("%v: %v, want %q", access, err, says)
				}
			}
		})
	}
}

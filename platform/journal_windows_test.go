package platform

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// TestStateDirIsClosed: the directory is for SYSTEM, Administrators and ourselves.
func TestStateDirIsClosed(t *testing.T) {
	dir := t.TempDir()
	testJournal(t, dir, "")
	sd, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	text := sd.String()
	for _, everybody := range []string{";;;WD)", ";;;BU)", ";;;AU)"} {
		if strings.Contains(text, everybody) {
			if isWine() {
				t.Skip("Wine: rights of files are those of the system below")
			}
			t.Errorf("the directory's rights are %s", text)
		}
	}
}

// isWine says whether this is no Windows.
func isWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

func TestStateDirIsNoLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skipf("no right to make a link: %v", err)
	}
	if _, err := checkOwner(link); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("%v", err)
	}
}

func TestRegistry(t *testing.T) {
	const path = `SOFTWARE\WayfarerTest`
	keys := thisWindows("")
	if err := keys.writeKey(path+`\{ONE}`, map[string]any{"Name": []string{".a", ".b"}, "Version": uint32(2), "Comment": "ours", "Gone": nil}); err != nil {
		t.Skipf("no right to write to the registry: %v", err)
	}
	t.Cleanup(func() { keys.removeKey(path) })
	values, err := keys.readKey(path + `\{ONE}`)
	if want := map[string]any{"Name": []string{".a", ".b"}, "Version": uint32(2), "Comment": "ours"}; err != nil || !reflect.DeepEqual(values, want) {
		t.Errorf("%v, %v", values, err)
	}
	if names, err := keys.subkeys(path); err != nil || len(names) != 1 || names[0] != "{ONE}" {
		t.Errorf("%q, %v", names, err)
	}
	if err := keys.writeKey(path+`\{ONE}`, map[string]any{"Comment": nil}); err != nil {
		t.Error(err)
	}
	if values, err := keys.readKey(path + `\{ONE}`); err != nil || values["Comment"] != nil {
		t.Errorf("%v, %v", values, err)
	}
	if err := keys.removeKey(path + `\{ONE}`); err != nil {
		t.Error(err)
	}
	_, read := keys.readKey(path + `\{ONE}`)
	for _, err := range []error{read, keys.removeKey(path + `\{ONE}`)} {
		if err == nil || unlessAbsent(err) != nil {
			t.Errorf("what is gone: %v", err)
		}
	}
}

// TestRealLinks: the loopback interface is always there.
func TestRealLinks(t *testing.T) {
	system := thisWindows("")
	view, err := system.view()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range view.links {
		t.Logf("%+v", l)
	}
	for _, r := range view.routes {
		t.Logf("%+v", r)
	}
	if view.link(func(l *winLink) bool { return l.Kind == ifLoopback && l.Index != 0 }) == nil {
		t.Error("no loopback interface")
	}
}

package platform

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestJournalInUse: a program that has the journal open for a moment does not keep it from
// being replaced or removed, one that keeps it open does.
func TestJournalInUse(t *testing.T) {
	for _, content := range []string{"new\n", ""} {
		dir := t.TempDir()
		j := testJournal(t, dir, "")
		if err := j.replace([]byte("old\n"), true); err != nil {
			t.Fatal(err)
		}
		other, err := windows.CreateFile(windows.StringToUTF16Ptr(j.path()), windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.replace([]byte(content), true); err == nil {
			t.Errorf("%q: replaced although another program has it open", content)
		}
		if is, err := os.ReadFile(j.path()); err != nil || string(is) != "old\n" {
			t.Errorf("%q: the journal is %q, %v", content, is, err)
		}
		time.AfterFunc(3*inUsePause, func() { windows.CloseHandle(other) })
		if err := j.replace([]byte(content), true); err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if is, _ := os.ReadFile(j.path()); string(is) != content {
			t.Errorf("the journal is %q instead of %q", is, content)
		}
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

// TestNotifyKeys: what changes below the policies is told, more than once, until the end.
func TestNotifyKeys(t *testing.T) {
	keys := thisWindows("")
	const path = nrptPolicyAbove + `\WayfarerTest`
	if err := keys.writeKey(path, map[string]any{"Name": "a"}); err != nil {
		t.Skipf("no right to write to the registry: %v", err)
	}
	t.Cleanup(func() { keys.removeKey(path) })
	told := make(chan struct{}, 100)
	stop, err := keys.notifyKeys(nameKeys, func() { told <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	for i, seen := 0, 0; seen < 2; i++ { // nobody says when the watch has begun
		if err := keys.writeKey(path, map[string]any{"Name": strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
			seen++
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	for len(told) > 0 {
		<-told
	}
	if err := keys.writeKey(path, map[string]any{"Name": "d"}); err != nil || len(told) > 0 {
		t.Errorf("told after the end, %v", err)
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

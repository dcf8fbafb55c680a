package platform

import (
	"testing"

	"golang.org/x/sys/windows/registry"
)

// The user's own keys, with a value of the test's.
func TestRunKeyInTheRegistry(t *testing.T) {
	entry := registryEntry{"Wayfarer's test"}
	a, err := NewAutostart()
	must(t, err)
	a.entry = runKey{entry, a.entry.(runKey).quote}
	t.Cleanup(func() { must(t, a.Disable()) })

	mustBe(t, a, false)
	must(t, a.Enable(`C:\Program Files\Wayfarer\wayfarer-gui.exe`, "--hidden"))
	mustBe(t, a, true)
	if command, err := entry.command(); err != nil || command != `"C:\Program Files\Wayfarer\wayfarer-gui.exe" --hidden` {
		t.Errorf("%q, %v", command, err)
	}

	// As the Task Manager switches it off.
	key, _, err := registry.CreateKey(registry.CURRENT_USER, approvedPath, registry.SET_VALUE)
	must(t, err)
	defer key.Close()
	must(t, key.SetBinaryValue(entry.name, []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}))
	mustBe(t, a, false)
	must(t, a.Enable(`C:\wayfarer-gui.exe`))
	mustBe(t, a, true)
	must(t, a.Disable())
	mustBe(t, a, false)
	if command, err := entry.command(); err != nil || command != "" {
		t.Errorf("left: %q, %v", command, err)
	}
}

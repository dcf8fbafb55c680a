package control

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// strangerVariable has the test program become a user without an account, make every
// request of rightsTable to a socket, and write what came.
const strangerVariable = "WAYFARER_TEST_STRANGER"

// strangerID is of no account and of no group.
const strangerID = 4242

func runStranger(t *testing.T, path string) {
	if err := syscall.Setgroups(nil); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setresgid(strangerID, strangerID, strangerID); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setresuid(strangerID, strangerID, strangerID); err != nil {
		t.Fatal(err)
	}
	var answers []string
	for _, row := range rightsTable {
		got, err := exchange(path, row.request)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, got)
	}
	if err := json.NewEncoder(os.NewFile(3, "answers")).Encode(answers); err != nil {
		t.Fatal(err)
	}
}

// TestStrangerOnARealSocket: a process of another user, and the kernel's word on who it is,
// asks for everything.
func TestStrangerOnARealSocket(t *testing.T) {
	if path := os.Getenv(strangerVariable); path != "" {
		runStranger(t, path)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	backend := rightsBackend()
	serveIn(t, &Server{Backend: backend, Log: discard(), Logs: &fakeLogs{records: rightsRecords}, Version: "1.2", Managed: rightsManaged}, l)

	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	stranger := exec.Command(os.Args[0], "-test.run=^TestStrangerOnARealSocket$")
	stranger.Env = append(os.Environ(), strangerVariable+"="+path)
	stranger.ExtraFiles = []*os.File{write}
	output, err := stranger.CombinedOutput()
	write.Close()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	var answers []string
	if err := json.NewDecoder(read).Decode(&answers); err != nil {
		t.Fatal(err)
	}
	for i, row := range rightsTable {
		if answers[i] != row.want[isUnknown] {
			t.Errorf("%s:\ngot  %s\nwant %s", row.request, answers[i], row.want[isUnknown])
		}
	}
	if backend.touched() > 0 {
		t.Error("the stranger reached the backend")
	}
	// The same way in is open to root: it is the user that counts.
	if got, err := exchange(path, "GET /v1/status"); err != nil || got != seesAll {
		t.Errorf("root: %s, %v", got, err)
	}
}

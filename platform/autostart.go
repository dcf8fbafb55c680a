package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"howett.net/plist"
)

// What the entry is called, for the system and for people.
const (
	autostartID    = "io.github.wayfarer"
	autostartTitle = "Wayfarer"
)

// Autostart is a program's entry among those that the system starts when this user
// logs in. Others may change it meanwhile, as the desktop's own settings do, so it is
// always looked up.
type Autostart struct{ entry autostartEntry }

// autostartEntry is the form that an entry has in one system. All can be tested on any.
type autostartEntry interface {
	enabled() (bool, error)
	enable(program string, args []string) error
	disable() error
}

// Enabled says whether the program is started at login.
func (a *Autostart) Enabled() (bool, error) {
	on, err := a.entry.enabled()
	if err != nil {
		return false, fmt.Errorf("look up whether Wayfarer starts at login: %w", err)
	}
	return on, nil
}

// Enable has the program, an absolute path, started at login with these arguments. An
// entry that is there is replaced.
func (a *Autostart) Enable(program string, args ...string) error {
	err := checkAutostart(program, args)
	if err == nil {
		err = a.entry.enable(program, args)
	}
	if err != nil {
		return fmt.Errorf("have Wayfarer start at login: %w", err)
	}
	return nil
}

// Declined says that this user wants no start at login, though an installer has it for all
// users: the system may start the program all the same. It is only so on Windows.
func (a *Autostart) Declined() bool {
	r, ok := a.entry.(runKey)
	if !ok {
		return false
	}
	forAll, err := r.values.machine()
	on, err2 := r.enabled()
	return forAll && !on && errors.Join(err, err2) == nil
}

// Disable ends that. Without an entry it does nothing.
func (a *Autostart) Disable() error {
	if err := a.entry.disable(); err != nil {
		return fmt.Errorf("have Wayfarer no longer start at login: %w", err)
	}
	return nil
}

// checkAutostart refuses what no system could start, and line breaks, which would be
// keys of their own in a desktop entry.
func checkAutostart(program string, args []string) error {
	if !filepath.IsAbs(program) {
		return fmt.Errorf("%q is no absolute path", program)
	}
	if strings.ContainsAny(program+strings.Join(args, ""), "\n\r\x00") {
		return errors.New("the command has a line break in it")
	}
	return nil
}

// desktopEntry is an entry of the Desktop Application Autostart Specification of
// freedesktop.org: a file in the folder autostart of the user's configuration.
type desktopEntry struct{ file string }

func (d desktopEntry) enabled() (bool, error) {
	text, err := os.ReadFile(d.file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// Desktops switch an entry off by these keys.
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "Hidden" && value == "true" || key == "X-GNOME-Autostart-enabled" && value == "false" {
			return false, nil
		}
	}
	return true, nil
}

func (d desktopEntry) enable(program string, args []string) error {
	command := desktopQuote(program)
	for _, arg := range args {
		command += " " + desktopQuote(arg)
	}
	return replaceFile(d.file, []byte(strings.Join([]string{
		"[Desktop Entry]",
		"Type=Application",
		"Name=" + autostartTitle,
		"Icon=" + autostartID,
		"TryExec=" + desktopString(program), // an uninstalled program is passed over
		"Exec=" + desktopString(command),
		"X-GNOME-Autostart-enabled=true",
		"",
	}, "\n")))
}

func (d desktopEntry) disable() error { return removeFile(d.file) }

// desktopQuote is an argument of the key Exec: in double quotes, within which these four
// are escaped, and a percent sign is doubled (Desktop Entry Specification 1.5, section 7).
func desktopQuote(arg string) string {
	arg = strings.NewReplacer(`"`, `\"`, "`", "\\`", `$`, `\$`, `\`, `\\`).Replace(arg)
	return `"` + strings.ReplaceAll(arg, "%", "%%") + `"`
}

// desktopString is a value of type string, in which backslashes are escaped (section 4).
// Exec is one, so that its own come out doubled.
func desktopString(value string) string { return strings.ReplaceAll(value, `\`, `\\`) }

// launchAgent is a property list for macOS's launchd, see launchd.plist(5).
type launchAgent struct{ file string }

type launchPlist struct {
	Label            string
	ProgramArguments []string
	RunAtLoad        bool
	ProcessType      string
	// LimitLoadToSessionType: not for logins over the network.
	LimitLoadToSessionType string
	Disabled               bool `plist:",omitempty"`
}

func (l launchAgent) enabled() (bool, error) {
	data, err := os.ReadFile(l.file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var agent launchPlist
	if _, err := plist.Unmarshal(data, &agent); err != nil {
		return false, fmt.Errorf("%s: %w", l.file, err)
	}
	return agent.RunAtLoad && !agent.Disabled, nil
}

func (l launchAgent) enable(program string, args []string) error {
	data, err := plist.MarshalIndent(launchPlist{
		Label:                  autostartID,
		ProgramArguments:       append([]string{program}, args...),
		RunAtLoad:              true,
		ProcessType:            "Interactive",
		LimitLoadToSessionType: "Aqua",
	}, plist.XMLFormat, "\t")
	if err != nil {
		return err
	}
	return replaceFile(l.file, data)
}

func (l launchAgent) disable() error { return removeFile(l.file) }

// runKey is a value of Windows's registry, in the user's
// Software\Microsoft\Windows\CurrentVersion\Run. An installer may have made one in the
// machine's, which starts the program for all users who do not decline.
type runKey struct {
	values registryValues
	quote  func(program string, args []string) string // a command line
}

// registryValues are the values of one name: the command in the key Run, and what the
// Task Manager notes in the key Explorer\StartupApproved\Run. Removing what is not there
// is no error.
type registryValues interface {
	machine() (bool, error) // whether there is a command for all users
	machineApproval() ([]byte, error)
	command() (string, error) // empty: there is none
	approval() ([]byte, error)
	setCommand(string) error
	setApproval([]byte) error
	removeCommand() error
	removeApproval() error
}

// switchedOff is an approval: the Task Manager makes the first byte odd, and notes the
// time of it.
var switchedOff = []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// off says whether the Task Manager has switched a command off.
func off(approval []byte) bool { return len(approval) > 0 && approval[0]&1 != 0 }

// forAll says whether the program is started for all users who do not decline. What the Task
// Manager has switched off for all is nothing that one of them could have again.
func (r runKey) forAll() (bool, error) {
	is, err := r.values.machine()
	if err != nil || !is {
		return false, err
	}
	approval, err := r.values.machineApproval()
	return !off(approval), err
}

func (r runKey) enabled() (bool, error) {
	command, err := r.values.command()
	forAll, err2 := r.forAll()
	if err := errors.Join(err, err2); err != nil || command == "" && !forAll {
		return false, err
	}
	approval, err := r.values.approval()
	if err != nil {
		return false, err
	}
	return !off(approval), nil
}

// enable adds no command to that for all users: it would start twice.
func (r runKey) enable(program string, args []string) error {
	forAll, err := r.forAll()
	switch {
	case err != nil:
		return err
	case forAll:
		err = r.values.removeCommand()
	default:
		err = r.values.setCommand(r.quote(program, args))
	}
	return errors.Join(err, r.values.removeApproval())
}

func (r runKey) disable() error {
	forAll, err := r.forAll()
	switch {
	case err != nil:
		return err
	case forAll:
		return errors.Join(r.values.removeCommand(), r.values.setApproval(switchedOff))
	}
	return errors.Join(r.values.removeCommand(), r.values.removeApproval())
}

// replaceFile writes a file so that it is never seen in part, and makes its folder.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".wayfarer-*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Chmod(0o644)
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// unlessAbsent is nil where err says that there was nothing to remove.
func unlessAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

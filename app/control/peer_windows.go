package control

import (
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/windows"
)

var impersonateNamedPipeClient = windows.NewLazySystemDLL("advapi32.dll").NewProc("ImpersonateNamedPipeClient")

// identifyPeer tells who is at the other end of a named pipe by the client's token.
// The pipe must have been read from before: until then the operating system does
// not know whom to impersonate.
func identifyPeer(conn net.Conn) (peer, error) {
	pipe, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return peer{}, fmt.Errorf("no client token on a %T", conn)
	}
	token, err := clientToken(pipe.Fd())
	if err != nil {
		return peer{}, err
	}
	defer token.Close()

	account, err := token.GetTokenUser()
	if err != nil {
		return peer{}, fmt.Errorf("user of the client's token: %w", err)
	}
	sid := account.User.Sid.String()
	p := peer{name: sid, id: sid}
	if name, domain, _, err := account.User.Sid.LookupAccount(""); err == nil {
		p.name = domain + `\` + name
	}
	p.admin = ownUser(account.User.Sid) ||
		memberOf(token, windows.WinBuiltinAdministratorsSid) || memberOf(token, windows.WinLocalSystemSid)
	p.mayConnect = p.admin || memberOf(token, windows.WinInteractiveSid)
	return p, nil
}

// rootUser is the operating system itself, as userOf tells.
const rootUser = "S-1-5-18"

// userOf is the user whose process opened the pipe, for counting: unlike the client's
// token it is known before anything was read. Those who cannot be told apart count as
// one.
func userOf(conn net.Conn) string {
	pipe, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return ""
	}
	var id uint32
	if err := windows.GetNamedPipeClientProcessId(windows.Handle(pipe.Fd()), &id); err != nil {
		return ""
	}
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, id)
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(process)
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return ""
	}
	defer token.Close()
	account, err := token.GetTokenUser()
	if err != nil {
		return ""
	}
	return account.User.Sid.String()
}

// ownUser says whether sid is the service's own user.
func ownUser(sid *windows.SID) bool {
	own, err := windows.GetCurrentProcessToken().GetTokenUser()
	return err == nil && own.User.Sid.Equals(sid)
}

// clientToken impersonates the client for as long as it takes to open its token,
// on a thread that nothing else runs on.
func clientToken(pipe uintptr) (windows.Token, error) {
	runtime.LockOSThread()
	if ok, _, err := impersonateNamedPipeClient.Call(pipe); ok == 0 {
		runtime.UnlockOSThread()
		return 0, fmt.Errorf("ImpersonateNamedPipeClient: %w", err)
	}
	var token windows.Token
	// openAsSelf: the service's rights count, the client's level is identification.
	err := windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &token)
	if revertErr := windows.RevertToSelf(); revertErr != nil {
		// The thread is still the client: it stays locked and dies with the goroutine.
		token.Close()
		return 0, fmt.Errorf("RevertToSelf: %w", revertErr)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return 0, fmt.Errorf("OpenThreadToken: %w", err)
	}
	return token, nil
}

// memberOf counts enabled groups only, so that an administrator without elevation
// is none.
func memberOf(token windows.Token, kind windows.WELL_KNOWN_SID_TYPE) bool {
	sid, err := windows.CreateWellKnownSid(kind)
	if err != nil {
		return false
	}
	member, err := token.IsMember(sid)
	return err == nil && member
}

//go:build linux || darwin

package control

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
)

// groupName is the group whose members may connect.
const groupName = "wayfarer"

// credentials are what the kernel recorded of the process that connected.
type credentials struct{ uid, gid uint32 }

// identifyPeer tells who is at the other end of a unix socket.
func identifyPeer(conn net.Conn) (peer, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return peer{}, fmt.Errorf("no peer credentials on a %T", conn)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred credentials
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = peerCredentials(int(fd)) }); err != nil {
		return peer{}, err
	}
	if credErr != nil {
		return peer{}, fmt.Errorf("peer credentials: %w", credErr)
	}
	return systemAccounts.peer(cred), nil
}

// accounts is what the operating system knows of users and groups. Tests put in
// their own.
type accounts struct {
	self    int // effective user of the service
	console func() (uid uint32, ok bool)
	userOf  func(uid string) (*user.User, error)
	groupOf func(name string) (*user.Group, error)
	groups  func(*user.User) ([]string, error) // IDs
}

var systemAccounts = accounts{
	self:    os.Geteuid(),
	console: consoleUser,
	userOf:  user.LookupId,
	groupOf: user.LookupGroup,
	groups:  (*user.User).GroupIds,
}

// peer decides the rights of a user. What cannot be looked up gives none.
func (a *accounts) peer(cred credentials) peer {
	uid := strconv.FormatUint(uint64(cred.uid), 10)
	account, err := a.userOf(uid)
	// A user unknown to the data base has a name that nobody else can have.
	p := peer{name: "uid:" + uid}
	if err == nil {
		p.name = account.Username
	}
	p.admin = cred.uid == 0 || int64(cred.uid) == int64(a.self)
	p.mayConnect = p.admin || a.onConsole(cred) || a.member(cred, account)
	return p
}

func (a *accounts) onConsole(cred credentials) bool {
	uid, ok := a.console()
	return ok && uid == cred.uid
}

// member looks in the data base, not at the process's groups: whoever was just
// added to the group need not log in again.
func (a *accounts) member(cred credentials, account *user.User) bool {
	group, err := a.groupOf(groupName)
	if err != nil {
		return false
	}
	if group.Gid == strconv.FormatUint(uint64(cred.gid), 10) {
		return true
	}
	if account == nil {
		return false
	}
	ids, err := a.groups(account)
	return err == nil && slices.Contains(ids, group.Gid)
}

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

// groupName is the group whose members may administrate.
const groupName = "wayfarer"

// rootUser is the administrator, as userOf tells.
const rootUser = "0"

// credentials are what the kernel recorded of the process that connected.
type credentials struct{ uid, gid uint32 }

// identifyPeer tells who is at the other end of a unix socket.
func identifyPeer(conn net.Conn) (peer, error) {
	cred, err := credentialsOf(conn)
	if err != nil {
		return peer{}, err
	}
	return systemAccounts.peer(cred), nil
}

// userOf is the user at the other end of a socket, for counting; those who cannot be
// told apart count as one.
func userOf(conn net.Conn) string {
	cred, err := credentialsOf(conn)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(uint64(cred.uid), 10)
}

func credentialsOf(conn net.Conn) (credentials, error) {
	var cred credentials
	err := control(conn, func(fd int) (err error) {
		cred, err = peerCredentials(fd)
		return err
	})
	if err != nil {
		return credentials{}, fmt.Errorf("peer credentials: %w", err)
	}
	return cred, nil
}

// control calls f with the descriptor of a unix socket.
func control(conn net.Conn, f func(fd int) error) error {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a %T is no unix socket", conn)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return err
	}
	var calledErr error
	if err := raw.Control(func(fd uintptr) { calledErr = f(int(fd)) }); err != nil {
		return err
	}
	return calledErr
}

// accounts is what the operating system knows of users and groups. Tests put in
// their own.
type accounts struct {
	self    int                   // effective user of the service
	present func(uid uint32) bool // in front of the machine, as far as the user tells
	userOf  func(uid string) (*user.User, error)
	groupOf func(name string) (*user.Group, error)
	groups  func(*user.User) ([]string, error) // IDs
}

var systemAccounts = accounts{
	self:    os.Geteuid(),
	present: present,
	userOf:  user.LookupId,
	groupOf: user.LookupGroup,
	groups:  (*user.User).GroupIds,
}

// peer decides the rights of a user. What cannot be looked up gives none.
func (a *accounts) peer(cred credentials) peer {
	uid := strconv.FormatUint(uint64(cred.uid), 10)
	account, err := a.userOf(uid)
	// A user unknown to the data base has a name that nobody else can have.
	p := peer{name: "uid:" + uid, id: uid}
	if err == nil {
		p.name = account.Username
	}
	p.admin = cred.uid == 0 || int64(cred.uid) == int64(a.self) || a.member(cred, account)
	p.mayConnect = p.admin || a.present(cred.uid)
	return p
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

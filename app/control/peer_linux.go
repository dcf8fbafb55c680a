package control

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

func peerCredentials(fd int) (credentials, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return credentials{}, err
	}
	return credentials{uid: cred.Uid, gid: cred.Gid}, nil
}

// loginTime bounds what the login manager may cost a request.
const loginTime = time.Second

// present says whether the user has an active session in front of the machine, as the
// login manager tells (org.freedesktop.login1(5)). It is asked for the user, whom the
// kernel vouches for, and not for the process, whose number may be another's by now.
// Where there is no login manager nobody is present.
func present(uid uint32) bool { return loginManager{dbus.ConnectSystemBus}.present(uid) }

// loginManager is systemd-logind, or elogind.
type loginManager struct {
	connect func(...dbus.ConnOption) (*dbus.Conn, error)
}

func (m loginManager) present(uid uint32) bool {
	ctx, cancel := context.WithTimeout(context.Background(), loginTime)
	defer cancel()
	conn, err := m.connect(dbus.WithContext(ctx))
	if err != nil {
		return false
	}
	defer conn.Close()
	const service = "org.freedesktop.login1"
	var user dbus.ObjectPath
	manager := conn.Object(service, "/org/freedesktop/login1")
	if manager.CallWithContext(ctx, service+".Manager.GetUser", 0, uid).Store(&user) != nil {
		return false // who has no session is not known
	}
	get := func(of dbus.ObjectPath, property, iface string, to any) bool {
		var value dbus.Variant
		err := conn.Object(service, of).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, service+"."+iface, property).Store(&value)
		return err == nil && value.Store(to) == nil
	}
	var sessions []struct {
		ID   string
		Path dbus.ObjectPath
	}
	if !get(user, "Sessions", "User", &sessions) {
		return false
	}
	for _, session := range sessions {
		var active bool
		var seat struct {
			ID   string
			Path dbus.ObjectPath
		}
		if get(session.Path, "Active", "Session", &active) && active &&
			get(session.Path, "Seat", "Session", &seat) && seat.ID != "" {
			return true
		}
	}
	return false
}

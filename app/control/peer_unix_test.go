//go:build linux || darwin

package control

import (
	"errors"
	"net"
	"os/user"
	"testing"
)

// fakeAccounts: ada (1000) is in the group by the data base, bob (1001) has it as
// his own group, eve (1002) is in another, 1003 is unknown. The service is 990.
func fakeAccounts() *accounts {
	users := map[string]*user.User{
		"0": {Uid: "0", Username: "root"}, "990": {Uid: "990", Username: "wayfarer"},
		"1000": {Uid: "1000", Username: "ada"}, "1001": {Uid: "1001", Username: "bob"}, "1002": {Uid: "1002", Username: "eve"},
	}
	groups := map[string][]string{"1000": {"1000", "777"}, "1001": {"1001"}, "1002": {"1002", "27"}}
	return &accounts{
		self:    990,
		present: func(uint32) bool { return false },
		userOf: func(uid string) (*user.User, error) {
			if u, ok := users[uid]; ok {
				return u, nil
			}
			return nil, errors.New("unknown user")
		},
		groupOf: func(name string) (*user.Group, error) {
			if name != "wayfarer" {
				return nil, errors.New("unknown group")
			}
			return &user.Group{Gid: "777"}, nil
		},
		groups: func(u *user.User) ([]string, error) { return groups[u.Uid], nil },
	}
}

func TestPeerRights(t *testing.T) {
	for _, tt := range []struct {
		cred credentials
		want peer
	}{
		{credentials{0, 0}, peer{"root", "0", true, true}},
		{credentials{990, 990}, peer{"wayfarer", "990", true, true}},
		{credentials{1000, 1000}, peer{"ada", "1000", true, true}},
		{credentials{1001, 777}, peer{"bob", "1001", true, true}},
		{credentials{1001, 1001}, peer{"bob", "1001", false, false}},
		{credentials{1002, 1002}, peer{"eve", "1002", false, false}},
		{credentials{1003, 1003}, peer{"uid:1003", "1003", false, false}},
		{credentials{1003, 777}, peer{"uid:1003", "1003", true, true}},
	} {
		if got := fakeAccounts().peer(tt.cred); got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.cred, got, tt.want)
		}
	}
}

func TestPeerRightsWithoutGroup(t *testing.T) {
	a := fakeAccounts()
	a.groupOf = func(string) (*user.Group, error) { return nil, errors.New("unknown group") }
	if got := a.peer(credentials{1000, 1000}); got.mayConnect || got.admin {
		t.Errorf("got %+v", got)
	}
}

func TestPeerRightsInFrontOfTheMachine(t *testing.T) {
	a := fakeAccounts()
	a.present = func(uid uint32) bool { return uid == 1002 }
	if got := a.peer(credentials{1002, 1002}); !got.mayConnect || got.admin {
		t.Errorf("who sits there: got %+v", got)
	}
	if got := a.peer(credentials{1001, 1001}); got.mayConnect {
		t.Errorf("another user: got %+v", got)
	}
}

func TestIdentifyPeerNeedsASocket(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	if _, err := identifyPeer(ours); err == nil {
		t.Error("a pipe in memory was identified")
	}
}

//go:build gui && linux

package gui

import (
	"image/color"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// watcher is org.kde.StatusNotifierWatcher: the place where programs say that they have
// an icon.
type watcher struct{ d *desktop }

// RegisterStatusNotifierItem takes a bus name, or a path at the sender's.
func (w watcher) RegisterStatusNotifierItem(service string, sender dbus.Sender) *dbus.Error {
	i := icon{d: w.d, name: service, path: "/StatusNotifierItem"}
	if strings.HasPrefix(service, "/") {
		i.name, i.path = string(sender), dbus.ObjectPath(service)
	}
	w.d.icons <- i
	return nil
}

const watcherName = "org.kde.StatusNotifierWatcher"

// tray gives the desktop one.
func (d *desktop) tray() {
	d.Helper()
	d.must(d.conn.Export(watcher{d}, "/StatusNotifierWatcher", watcherName))
	_, err := prop.Export(d.conn, "/StatusNotifierWatcher", prop.Map{watcherName: {"IsStatusNotifierHostRegistered": {Value: true}}})
	d.must(err)
	d.own(watcherName)
}

// icon is one in the tray, as a panel sees it.
type icon struct {
	d    *desktop
	name string
	path dbus.ObjectPath
}

func (i icon) property(name string) any {
	i.d.Helper()
	value, err := i.d.conn.Object(i.name, i.path).GetProperty("org.kde.StatusNotifierItem." + name)
	i.d.must(err)
	return value.Value()
}

// tap is a click with the left button.
func (i icon) tap() {
	i.d.Helper()
	i.d.must(i.d.conn.Object(i.name, i.path).Call("org.kde.StatusNotifierItem.Activate", 0, int32(0), int32(0)).Err)
}

// tooltip is the text for who points at the icon.
func (i icon) tooltip() string {
	i.d.Helper()
	var tip struct {
		Name  string
		Icons []struct {
			Width, Height int32
			ARGB          []byte
		}
		Title, Text string
	}
	i.d.must(dbus.Store([]any{i.property("ToolTip")}, &tip))
	return tip.Title
}

// colour is the one that most of the icon has.
func (i icon) colour() color.RGBA {
	i.d.Helper()
	var pictures []struct {
		Width, Height int32
		ARGB          []byte
	}
	i.d.must(dbus.Store([]any{i.property("IconPixmap")}, &pictures))
	count := map[color.RGBA]int{}
	var most color.RGBA
	for _, p := range pictures {
		for b := range slices.Chunk(p.ARGB, 4) {
			if c := (color.RGBA{b[1], b[2], b[3], b[0]}); c.A == 0xff {
				if count[c]++; count[c] > count[most] {
					most = c
				}
			}
		}
	}
	return most
}

// row is an item of the icon's menu.
type row struct {
	id      int32
	label   string
	enabled bool
}

// node is com.canonical.dbusmenu's (ia{sv}av).
type node struct {
	ID         int32
	Properties map[string]dbus.Variant
	Children   []dbus.Variant
}

func (i icon) menu() dbus.BusObject {
	i.d.Helper()
	path, ok := i.property("Menu").(dbus.ObjectPath)
	if !ok {
		i.d.Fatal("the icon has no menu")
	}
	return i.d.conn.Object(i.name, path)
}

func (i icon) rows() []row {
	i.d.Helper()
	var revision uint32
	var root node
	i.d.must(i.menu().Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root))
	var rows []row
	for _, child := range root.Children {
		var n node
		i.d.must(dbus.Store([]any{child.Value()}, &n))
		if label, ok := n.Properties["label"].Value().(string); ok {
			enabled, ok := n.Properties["enabled"].Value().(bool)
			rows = append(rows, row{n.ID, label, enabled || !ok})
		}
	}
	return rows
}

// find is the row with that label.
func (i icon) find(label string) (row, bool) {
	i.d.Helper()
	rows := i.rows()
	at := slices.IndexFunc(rows, func(r row) bool { return r.label == label })
	if at < 0 {
		return row{}, false
	}
	return rows[at], true
}

// has waits for a row.
func (i icon) has(label string) {
	i.d.Helper()
	i.d.until("the menu's row "+label, func() bool {
		_, ok := i.find(label)
		return ok
	})
}

// starts waits for a row that starts like that, and returns it.
func (i icon) starts(label string) string {
	i.d.Helper()
	var found string
	i.d.until("a row that starts with "+label, func() bool {
		for _, r := range i.rows() {
			if strings.HasPrefix(r.label, label) {
				found = r.label
				return true
			}
		}
		return false
	})
	return found
}

// click waits for a row that can be clicked, and clicks it.
func (i icon) click(label string) {
	i.d.Helper()
	i.d.until("the menu's row "+label, func() bool {
		r, ok := i.find(label)
		if !ok || !r.enabled {
			return false
		}
		i.d.must(i.menu().Call("com.canonical.dbusmenu.Event", 0, r.id, "clicked", dbus.MakeVariant(int32(0)), uint32(0)).Err)
		return true
	})
}

//go:build cgo && (x11 || wayland || !linux)

// Command wayfarer-gui is Wayfarer's window and tray. It runs as the user, talks to the
// service, and keeps the user's profiles in the keyring. It needs cgo, for the display. On
// Linux it is built with the tag x11: that works on Wayland, too, through Xwayland, where a
// window can then be raised, and needs no headers or libraries of Wayland. Fyne's tag
// accessibility, for screen readers on macOS and Windows, is not among its tags: a program
// with it builds, but ends under Wine, which has no UI Automation, and was tried nowhere
// else.
//
//	main.go         arguments, and what the window is made of
//	idle_*.go       how Fyne's loop rests while nothing moves (Linux)
//	demo.go         wayfarer demo --serve, as a process of its own that ends with this one
//	dock_darwin.go  no place in the Dock
//	console_*.go    no window of a console for that one, and a box for errors (Windows)
package main

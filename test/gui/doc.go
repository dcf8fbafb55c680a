// Package gui holds the scenarios of the program with the window: the real binary on a
// display of its own (Xvfb), with a message bus, a tray, a server of notifications and a
// keyring of its own, driven by keyboard, mouse and the tray's menu. The tests have the
// build tag "gui", need Linux and the programs that prereqs lists, and are run by
// "make test-gui". Pictures of what is seen stand in build/screens afterwards.
//
//	desktop_test.go   display, bus, keyring, notifications: what a login brings
//	tray_test.go      the tray, as a panel sees it
//	window_test.go    the program and its window
//	demo_test.go      scenarios against the demonstration's gateway
//	session_test.go   no tray, no bus, a second start
//	hundred_test.go   a hundred connects leave nothing behind
//	killed_test.go    the demonstration goes with the window, however that ends
//	cost_test.go      what the window costs: its start, processor and memory
//	large_test.go     a window at 200 %
//	lab_test.go       the real service and strongSwan, in a lab as test/lab has one
//	import_test.go    a profile of another program's, opened while the window runs
//	trouble_test.go   a gateway that is not trusted, a service that is killed while it asks
//
// GUI_BIN=DIR takes the programs from elsewhere than build/bin; LAB_NAME and LAB_KEEP are
// those of test/lab.
package gui

// Package gui is Wayfarer's window and tray: everything that can be seen.
//
// Views are functions of app.Status. A view is a struct with its widgets, made once,
// and a method update, which gets values and changes widgets. No view talks to the
// service, the store or a clock: it calls the functions that it was made with. The
// controller is the one place that knows all of them; one goroutine of its watches the
// service, and each change is one function on Fyne's own goroutine, which renders.
//
//	Service.Watch -> controller.show -> model -> render -> window, tray, notifications
//	a person -> view -> controller -> Service, Store
//
// Everything but the watching runs on Fyne's goroutine. What blocks (a call of the
// service, the keyring) runs on one of its own, and its result is rendered. Counters are
// asked for once a second, and only while somebody can see them.
//
// Text of a gateway's is shown as text: control characters and those that change the
// direction of writing are taken out, its length is bounded, and it stands in labels
// and entries only, never in rich text or a link.
//
// Secrets are in fields until they are sent, and in an attempt until its connection
// stands or is dismissed, so that trying again needs no typing; they are then overwritten.
// The model has none. One-time codes, PINs and passphrases are not kept at all.
//
// Without a keyring, profiles last as long as the program, without their secrets.
//
// What an administrator has placed stands in the list beside the user's own, by a key of
// its own: two of one name are two items. To the service they are one profile, for it
// compares names: only one of them is connected at a time. What the policy forbids is not
// offered, and what it demands cannot be switched; that it is kept is the service's affair.
//
// It runs with Fyne's driver for tests, without a display: the driver of a real one is
// chosen by the main package.
//
//	gui.go         what the window needs, and what the main package calls
//	controller.go  service, store and views; attempt.go: a connection that was begun here
//	model.go       what is shown, as values
//	commands.go    what menus and keys do; shell.go: tray, notifications, further pages
//	window.go      list, bar, pages; sidebar.go, home.go: left and right side
//	form.go, steps.go, prompt.go, trust.go, failure.go, details.go  what the right side shows
//	editor.go, importer.go, settings.go, logs.go, ladder.go, report.go  pages
//	memory.go      profiles without a keyring
//	keys.go, tips.go, parts.go, theme.go, words.go, text.go  of all of them
package gui

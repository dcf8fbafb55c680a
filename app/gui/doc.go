// Package gui is Wayfarer's window and tray: everything that can be seen.
//
// Views are functions of app.Status. A view is a struct with its widgets, made once,
// and a method update, which gets values and changes widgets. No view talks to the
// service, the store or a clock: it calls the functions that it was made with. The
// controller is the one place that knows all of them; one goroutine of its watches the
// service, and each change is one function on Fyne's own goroutine, which renders.
//
// Everything but the watching runs on Fyne's goroutine. What blocks (a call of the
// service, the keyring) runs on one of its own, and its result is rendered.
//
// Text of a gateway's is shown as text: control characters and those that change the
// direction of writing are taken out, its length is bounded, and it stands in labels
// and entries only, never in rich text or a link.
//
// The log, and the conversation with a gateway that is found in its trace, are followed
// only while somebody looks, and so are the counters of the status. A report is written
// without logins, names and public addresses unless they are asked for (redact.go);
// secrets are in none of them.
//
// It runs with Fyne's driver for tests, without a display: the driver of a real one is
// chosen by the main package.
package gui

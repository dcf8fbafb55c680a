// Package control is the local API: how the command line and the window talk to the
// service on the same machine. It is HTTP and JSON over a unix socket or, on
// Windows, a named pipe.
//
//	GET    /v1/status                    200 app.Status
//	GET    /v1/events                    200 JSON lines of app.Status: the whole at once, then after each change
//	POST   /v1/connections               201 {"id":"c1"}; the body is a ConnectRequest
//	DELETE /v1/connections/{id}          204 when the host is as it was
//	POST   /v1/connections/{id}/answers  204; the body is an Answer
//
// An error is an app.ErrorReport with a fitting HTTP status. A body is read strictly:
// at most 1 MiB, one JSON value, no unknown fields, so that a client newer than the
// service learns what the service does not know instead of losing it.
//
// # Rights
//
// The socket is open to every local user (mode 0666; the pipe refuses logons from
// the network). Who is at the other end the operating system tells: SO_PEERCRED,
// LOCAL_PEERCRED, or the client's token. Rights are decided anew for each request:
//
//	                                        connect  own connections  others' connections
//	root, Administrators, the service's own
//	user                                    yes      all              all
//	group wayfarer; on macOS the user of
//	the console; on Windows interactive
//	logons                                  yes      all              state and owner
//	everybody else                          no       all              state and owner
//
// Backend is all that the server needs of the service; it never sees a request of a
// user who has no right to make it.
//
// # Layout
//
//	api.go     the bodies, and Backend
//	server.go  routes, bounds, the table of HTTP statuses
//	events.go  the event stream
//	rights.go  who may do what; peer_*.go asks the operating system who it is
//	listen_*.go, client.go  the two ends of the socket
package control

// Package control is the local API: how the command line and the window talk to the
// service on the same machine. It is HTTP and JSON over a unix socket or, on
// Windows, a named pipe.
//
//	GET    /v1/status                    200 app.Status
//	GET    /v1/events                    200 JSON lines of app.Status: the whole at once, then after each change
//	GET    /v1/managed                   200 app.Managed: policy, and profiles that an administrator has placed
//	POST   /v1/connections               201 {"id":"c1"}; the body is a ConnectRequest
//	DELETE /v1/connections/{id}          204 when the host is as it was
//	POST   /v1/connections/{id}/answers  204; the body is an Answer
//	GET    /v1/logs                      200 JSON lines of app.LogRecord, oldest first: what the service still has
//	       ?level=LEVEL                      of at least this level: error, warn, info (default), debug, trace
//	       ?follow                           and then those that come, until the client goes
//	POST   /v1/restore-network           204 when what earlier connections left is undone
//
// The first part of a path is the version of the API. A version that the service does
// not know is refused by its number, so that nothing is half understood; so is a
// profile of an unknown version, which has a number of its own. Within a version only
// what clients may ignore is added: keys of answers, codes of warnings.
//
// A body is read strictly: at most 1 MiB, one JSON value, no unknown fields, which are
// written in small letters, so that a client newer than the service learns what the
// service does not know instead of losing it. Requests without a body must have none, and
// nothing may follow the request for a stream.
//
// Secrets go in and never come out: no answer has a field for one, and of a body that is
// not understood no more is quoted than the name of an unknown field. What a body was read
// into, and what was decoded from it, is overwritten when it is handed over; what net/http
// buffers of a connection, 4 KiB, is only overwritten by what is read next.
//
// # Errors
//
// An error is an app.ErrorReport, {"error":{"code","step","message","hint"}}, with one of
// these statuses:
//
//	400  usage: not understood, or not possible as things are
//	403  no-service: this user may not, or cannot be told; policy: nobody may, on this machine
//	404  usage: no such path, version or connection
//	405  usage: not this method
//	409  network-config, cancelled
//	413  usage: the body is too large
//	500  internal
//	502  untrusted, sign-in-refused, no-proposal, protocol, settings-refused
//	503  no-service: too many streams, or bodies, at a time
//	504  no-answer
//
// What is no HTTP, or has a header that is too large (431), net/http answers in words of
// its own, or not at all.
//
// What becomes of a connection after POST has answered is no error of a request: it
// shows in the status.
//
// # Rights
//
// The socket is open to every local user (mode 0666; the pipe refuses logons from
// the network). Who is at the other end the operating system tells: SO_PEERCRED,
// LOCAL_PEERCRED, or the client's token. It is asked, and rights are decided, anew for
// each request, also on a connection that stays open:
//
//	                                        connect  own connections  others' connections  restore-network
//	                                                 and their log    and the log
//	root, Administrators, the service's own
//	user, group wayfarer                    yes      all              all                  yes
//	who sits at the machine                 yes      all              state and owner      no
//	everybody else                          no       all              state and owner      no
//
// Who sits at the machine is, on macOS, the user of the console; on Windows every
// interactive logon. On Linux it is who has the active local session, and not the user
// decides but the process: the same user may have come by ssh, too. Server.Authorize asks
// polkit about it, with the number and the user that the kernel recorded, at each request
// to connect of those who may not anyway, and nothing is remembered. Where polkit is not
// there, does not answer within 2 s, or answers something else, it is no. The number could
// meanwhile be another process's: a pidfd is held from when the connection is accepted,
// and a yes counts only if the process has not ended when it comes.
//
// Everybody else has connections of their own who had the right when they made them.
// Whom the operating system does not tell gets nothing, not even the status.
//
// Backend and Logs are all that the server needs of the service. Backend never sees a
// request of a user who has no right to make it.
//
// # Bounds
//
// One user can neither take what others need nor fill the log. What is counted is what the
// operating system tells them apart by; the administrator, who must get in to help, is not
// counted in all:
//
//	                          one user      all
//	connections to the socket 32            256   more are closed
//	streams                   16            64    more are refused
//	bodies that are read      8             64    more are refused
//	requests a second         100, 200 once       more wait, whatever they ask for
//	header, body, answer      16 KiB, 1 MiB, 4 KiB
//
// A request must have come within 10 s; an answer, or a line of a stream, must be taken
// within 10 s; a connection may be silent between requests for a minute. Who is slower is
// dropped, and so is who goes on talking while a stream goes out: net/http would no longer
// see when it goes. Nobody waits for a slow reader, because each has a goroutine of its own,
// and changes come as a coalesced signal, at most 20 a second; those of a connection's state
// do not wait for the next, ten in quick succession. Refusals are logged once a minute per
// user.
//
// # Layout
//
//	api.go     the bodies, Backend and Logs
//	server.go  endpoints, the table of HTTP statuses
//	body.go    bodies: strict, and without copies
//	stream.go  events and logs: answers that go on
//	limits.go  what one user may have
//	rights.go  who may do what; peer_*.go asks the operating system who it is, and on
//	           Linux holds the process for Server.Authorize
//	listen_*.go, client.go  the two ends of the socket
package control

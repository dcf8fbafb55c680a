// Package app holds the words that all programs of Wayfarer share: what a profile
// is, which states a connection has, what a status shows, how a failure is told.
//
// It does no input or output and imports the standard library only. The JSON forms
// of its types are the contract of the command line and the local API: absent
// values are omitted, never null; times are RFC 3339; counters are numbers.
package app

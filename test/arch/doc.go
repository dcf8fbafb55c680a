// Package arch holds the project to its import directions: who may import whom,
// where Fyne, os/exec, assembly and build constraints may stand.
//
// It reads the import clauses of every source file, whatever its build constraints,
// so one run covers linux, darwin, windows and every other target, and needs neither
// the go command nor any module. Test files, and everything below test/, are free.
package arch

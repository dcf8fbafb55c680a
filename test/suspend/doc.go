// Package suspend has a computer sleep, and sees that platform's watch tells of it: a virtual
// machine (QEMU, emulated) with a kernel of Debian's and one program, the test's own, without a
// login manager. The tests have the build tag "suspend", need Linux on amd64 and what prereqs
// fetches, no rights, and are run by "make test-suspend", in a minute.
//
//	suspend_test.go   what is to be told of which sleep
//	guest_test.go     the program in the machine
//	machine_test.go   the machine: its files, console, and its processor's sleep
//
// S3 is QEMU's own, which its clock ends. For s2idle QEMU has neither an idle state in which
// Linux stops its clocks, nor a processor that waits in one: a table of ACPI's describes such
// a state, and a debugger holds the processor where Linux enters it, until the console wakes it.
//
// SUSPEND_KERNEL=FILE takes another kernel than build/suspend/vmlinuz.
package suspend

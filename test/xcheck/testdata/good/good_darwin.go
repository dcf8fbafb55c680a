package good

// #include <no/such/header.h>
import "C"

import "syscall"

// Of is the system's socket option, which Linux has not, of what C says.
func Of() int { return syscall.IP_BOUND_IF + int(C.whatever()) }

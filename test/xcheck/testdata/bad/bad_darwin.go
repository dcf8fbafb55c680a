package bad

import "wayfarer/test/xcheck/testdata/good"

// Of is wrong: that is no string.
func Of() string { return good.Of() }

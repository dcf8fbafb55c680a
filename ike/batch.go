package ike

// What a BatchConn takes at most, as Linux does.
const (
	maxRun    = 64    // datagrams of a run
	maxRunLen = 65507 // bytes of a run, all of them UDP payload
	// runsSize holds the packets of a read from the interface of 64 KiB twice over,
	// sealed.
	runsSize = 160 << 10
)

// Batch collects datagrams, made one behind the other in its memory, in the runs that a
// [BatchConn] takes. The zero value is empty. It has one owner.
type Batch struct {
	// Runs and Segments are for WriteBatch, until Empty is called.
	Runs     [][]byte // parts of memory
	Segments []int

	memory []byte // made when first needed
	used   int
	short  bool // the last datagram is shorter than its run's others
}

// Room is where the next datagram can be made, and whether it has n bytes. When it is
// empty it has 160 KiB.
func (b *Batch) Room(n int) ([]byte, bool) {
	if b.memory == nil {
		b.memory = make([]byte, runsSize)
	}
	return b.memory[b.used:], len(b.memory)-b.used >= n
}

// Add takes the datagram that was made in the first n bytes there.
func (b *Batch) Add(n int) {
	begin, end := b.used, b.used+n
	b.used = end
	if last := len(b.Runs) - 1; last >= 0 {
		size, segment := len(b.Runs[last]), b.Segments[last]
		if n <= segment && !b.short && size < maxRun*segment && size+n <= maxRunLen {
			b.Runs[last] = b.memory[begin-size : end]
			b.short = n < segment
			return
		}
	}
	b.Runs, b.Segments = append(b.Runs, b.memory[begin:end]), append(b.Segments, n)
	b.short = false
}

// Empty forgets all datagrams.
func (b *Batch) Empty() { b.used, b.Runs, b.Segments = 0, b.Runs[:0], b.Segments[:0] }

package esp

// windowSize is how far behind the highest sequence number a packet may be. RFC
// 4303 §3.4.3 asks for 32 and recommends 64; UDP paths reorder more.
const windowSize = 1024

const (
	wordBits = 64
	// The window can touch one word more than it fills; a power of two makes the
	// place of a word a mask instead of a division.
	windowWords = 2 * windowSize / wordBits
)

// window remembers which of the last windowSize sequence numbers were seen. It is
// a ring of words: a number keeps its bit for as long as the window covers it, and
// going forward clears whole words and never shifts. Words behind the window hold
// stale bits, which no number in the window maps to.
type window struct {
	top   uint32 // the highest number seen
	words [windowWords]uint64
}

// fresh reports whether seq is neither zero nor seen nor too old.
func (w *window) fresh(seq uint32) bool {
	if seq > w.top {
		return true
	}
	if seq == 0 || w.top-seq >= windowSize {
		return false
	}
	return w.words[seq/wordBits%windowWords]&(1<<(seq%wordBits)) == 0
}

// mark records seq, which must be fresh and authentic.
func (w *window) mark(seq uint32) {
	if seq > w.top {
		ahead := min(seq/wordBits-w.top/wordBits, windowWords)
		for i := range ahead {
			w.words[(seq/wordBits-i)%windowWords] = 0
		}
		w.top = seq
	}
	w.words[seq/wordBits%windowWords] |= 1 << (seq % wordBits)
}

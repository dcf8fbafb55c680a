package store

import (
	"slices"
	"strings"
)

// keys are the keys of a file and their values, and which of them were read. What was
// not is told to the person.
type keys struct {
	values map[string]string // by key in lower case
	names  []string          // as the file writes them, in its order
	read   map[string]bool
}

func newKeys() *keys {
	return &keys{values: map[string]string{}, read: map[string]bool{}}
}

// add keeps a key; of several of the same name the last counts.
func (k *keys) add(name, value string) {
	lower := strings.ToLower(name)
	if _, ok := k.values[lower]; !ok {
		k.names = append(k.names, name)
	}
	k.values[lower] = strings.TrimSpace(value)
}

// get reads a key; an absent one is empty.
func (k *keys) get(name string) string {
	lower := strings.ToLower(name)
	k.read[lower] = true
	return k.values[lower]
}

// ignore marks keys as read, whatever they say.
func (k *keys) ignore(names ...string) {
	for _, name := range names {
		k.get(name)
	}
}

// ignoreIf marks a key as read if it has one of these values: those that say what
// Wayfarer does anyway.
func (k *keys) ignoreIf(name string, values ...string) {
	if slices.Contains(values, strings.ToLower(k.values[strings.ToLower(name)])) {
		k.ignore(name)
	}
}

// leftover is the remark on the keys that were not read and say something.
func (k *keys) leftover(c *Candidate) {
	var names []string
	for _, name := range k.names {
		lower := strings.ToLower(name)
		if !k.read[lower] && k.values[lower] != "" {
			names = append(names, shown(name))
		}
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	if len(names) > 0 {
		c.remark("Not taken over: %s.", strings.Join(names, ", "))
	}
}

// readINI reads "[section]" and "key=value" lines into keys of the sections, whose
// names are in lower case. Lines of other forms are skipped.
func readINI(text string) map[string]*keys {
	sections := map[string]*keys{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(name, "]") {
			section = strings.ToLower(strings.TrimSuffix(name, "]"))
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if sections[section] == nil {
			sections[section] = newKeys()
		}
		sections[section].add(strings.TrimSpace(key), value)
	}
	return sections
}

// on reads a switch.
func (k *keys) on(name string) bool {
	switch strings.ToLower(k.get(name)) {
	case "1", "yes", "true":
		return true
	}
	return false
}

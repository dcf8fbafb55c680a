//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wayfarer/test/bench/report"
)

func main() {
	err := dispatch(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "endpoint":
			return runEndpoint(args[1:])
		case "flood":
			return runFlood(args[1:])
		case "count":
			return runCount(args[1:])
		}
	}
	return runBench(args)
}

// bench is a run.
type bench struct {
	world
	plan
	out   string // folder of results
	parts []subset
}

func runBench(args []string) error {
	b := &bench{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&b.source, "source", ".", "the repository's folder")
	flags.StringVar(&b.bin, "bin", "build/bin", "folder with wayfarer and wayfarerd")
	flags.StringVar(&b.out, "out", "build/bench", "folder with wireguard-go, and for the results")
	parts := flags.String("parts", "", "parts to measure, separated by commas; empty: all")
	rounds := flags.Int("rounds", 0, "clean rounds; 0: as planned")
	quick := flags.Bool("quick", false, "one short round")
	bound := flags.Float64("bound", 0.1, "share of the processors that others may take")
	show := flags.Bool("show", false, "measure nothing, show the last results")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b.plan = fullPlan
	if *quick {
		b.plan = quickPlan
	}
	if *rounds > 0 {
		b.rounds, b.more = *rounds, min(b.more, *rounds)
	}
	b.bound = *bound
	for _, path := range []*string{&b.source, &b.bin, &b.out} {
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	b.tools = b.out
	if err := b.choose(*parts); err != nil {
		return err
	}
	if !*show {
		if err := b.measure(); err != nil {
			return err
		}
	}
	return b.show(os.Stdout)
}

func (b *bench) choose(names string) error {
	if names == "" {
		b.parts = subsets
		return nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(subsets, func(s subset) bool { return s.name == name })
		if i < 0 {
			return fmt.Errorf("part %q is not known", name)
		}
		b.parts = append(b.parts, subsets[i])
	}
	return nil
}

// Names of the two rooms, and of the lab.
const (
	nearName = "wfb-near"
	farName  = "wfb-far"
	labName  = "wfb"
)

// measure runs the parts and leaves nothing behind but their results.
func (b *bench) measure() (err error) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	if b.dir, err = os.MkdirTemp("", "wayfarer-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer func() { err = errors.Join(err, b.tearDown()) }()
	if err := b.build(); err != nil {
		return err
	}
	for _, part := range b.parts {
		if err := b.run(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// lock keeps other runs away, which have rooms of the same names and take processor time. It
// ends with the process, however that ends.
func lock() (unlock func() error, err error) {
	f, err := os.Create("/run/wayfarer-bench.lock")
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another run measures: it holds %s", f.Name())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}

// build makes the two ends and joins them.
func (b *bench) build() (err error) {
	if err := errors.Join(removeNamespace(nearName), removeNamespace(farName)); err != nil {
		return err
	}
	if b.near, err = newRoom(nearName, filepath.Join(b.dir, "near")); err != nil {
		return err
	}
	if b.far, err = newRoom(farName, filepath.Join(b.dir, "far")); err != nil {
		return err
	}
	if err := command("ip", "link", "add", "outside", "netns", nearName, "type", "veth", "peer", "name", "outside", "netns", farName); err != nil {
		return err
	}
	return errors.Join(
		b.near.script(fmt.Sprintf("ip addr add %v/24 dev outside\nip link set outside up\n", nearOutside)),
		b.far.script(fmt.Sprintf("ip addr add %v/24 dev outside\nip link set outside up\n", farOutside)))
}

func (b *bench) tearDown() (err error) {
	for _, r := range []*room{b.near, b.far} {
		if r != nil {
			err = errors.Join(err, r.close())
		}
	}
	if b.lab != nil {
		err = errors.Join(err, b.lab.close())
	}
	return err
}

// run measures a part until each of its tests has enough clean rounds, or no more are
// planned.
func (b *bench) run(ctx context.Context, part subset) error {
	variants := slices.DeleteFunc(slices.Clone(part.variants), func(v variant) bool {
		if !v.available() {
			fmt.Printf("%s: skipped %s: %s is not installed\n", part.name, v.name, v.needs)
		}
		return !v.available()
	})
	r := results{Part: part.name, Started: time.Now(), Machine: describeMachine(b.source), Bound: b.bound, Values: part.values}
	if part.bound != 0 {
		r.Bound = min(r.Bound, part.bound)
	}
	for r.Rounds < b.rounds || r.Rounds < b.rounds+b.more && r.fewest() < b.rounds {
		began := time.Now()
		rand.Shuffle(len(variants), func(i, j int) { variants[i], variants[j] = variants[j], variants[i] })
		for _, v := range variants {
			if err := b.one(part, v, &r); err != nil {
				fmt.Printf("%s: round %d: %s: %v\n%s", part.name, r.Rounds, v.name, err, b.logs())
			}
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
		}
		if part.alone != nil {
			if err := part.alone(&b.world, b.plan, func(name string) testFunc { return b.tester(part, name, &r) }); err != nil {
				fmt.Printf("%s: round %d: %v\n", part.name, r.Rounds, err)
			}
		}
		r.Rounds++
		if err := r.save(b.out); err != nil {
			return err
		}
		fmt.Printf("%s: round %d took %.0f s\n", part.name, r.Rounds, time.Since(began).Seconds())
	}
	return nil
}

// one measures a variant.
func (b *bench) one(part subset, v variant, r *results) error {
	l, err := v.start(&b.world)
	if err != nil {
		return err
	}
	defer l.stop()
	if err := l.awaitUp(); err != nil {
		return err
	}
	v.measures(part)(&b.world, b.plan, l, b.tester(part, v.name, r))
	return nil
}

// tester does a test until others have not disturbed it, or as often as planned. The last
// one is kept, with what others took.
func (b *bench) tester(part subset, variant string, r *results) testFunc {
	return func(name string, f func() (measured, error)) {
		for range b.attempts {
			before := part.speed()
			got, err := f()
			if err != nil {
				fmt.Printf("%s: round %d: %s, %s: %v\n", part.name, r.Rounds, variant, name, err)
				return
			}
			after := part.speed()
			s := report.Sample{
				Variant: variant, Test: part.name + ": " + name, Round: r.Rounds,
				Foreign: got.foreign, Speed: report.Span{Least: min(before, after), Most: max(before, after)}, Values: got.values,
			}
			r.keep(s)
			if s.Clean(r.limits()) {
				return
			}
		}
	}
}

// describeMachine says what was measured on, and what: the repository's state.
func describeMachine(source string) map[string]string {
	about := make(map[string]string)
	for key, args := range map[string][]string{
		"kernel":     {"uname", "-sr"},
		"processors": {"nproc"},
		"processor":  {"sed", "-n", "s/^model name.*: //p;T;q", "/proc/cpuinfo"},
		"commit":     {"git", "-C", source, "describe", "--always", "--dirty"},
	} {
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err == nil {
			about[key], _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
		}
	}
	return about
}

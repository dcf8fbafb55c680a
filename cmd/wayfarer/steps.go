package main

import (
	"fmt"
	"io"
	"slices"

	"wayfarer/app"
)

// stepNames are the steps in people's words.
var stepNames = map[app.Step]struct{ doing, failed string }{
	app.StepFindGateway:      {"Finding gateway", "find gateway"},
	app.StepAgreeSecurity:    {"Agreeing on security", "agree security"},
	app.StepCheckCertificate: {"Checking gateway certificate", "check gateway certificate"},
	app.StepSignIn:           {"Signing in", "sign in"},
	app.StepGetSettings:      {"Getting settings", "get settings"},
	app.StepBuildTunnel:      {"Building tunnel", "build tunnel"},
	app.StepTest:             {"Testing", "test"},
}

// stepPrinter prints a line per step. What it is shown may skip steps: changes in
// quick succession arrive as one.
type stepPrinter struct {
	out  io.Writer
	now  app.Step // under way, or empty
	open bool     // its line is printed but for the end
}

// show prints what is new.
func (p *stepPrinter) show(c *app.Connection) {
	switch {
	case c.State == app.StateConnected:
		p.pass(len(app.Steps()))
		p.now = ""
	case c.State == app.StateFailed, c.Failure != nil:
		if c.Failure != nil && c.Failure.Step != "" {
			p.advance(c.Failure.Step)
			p.end("failed")
		}
		p.interrupt()
		p.now = ""
	case c.Step != "":
		p.advance(c.Step)
	}
}

// advance begins a step, after those before it.
func (p *stepPrinter) advance(step app.Step) {
	if step == p.now {
		return
	}
	next := slices.Index(app.Steps(), step)
	if next < 0 {
		return
	}
	if next < slices.Index(app.Steps(), p.now) { // a fresh attempt
		p.interrupt()
		p.now = step
	} else {
		p.pass(next)
	}
	p.now = step
	fmt.Fprintf(p.out, "%s … ", stepNames[step].doing)
	p.open = true
}

// pass ends the step under way and those after it, up to the one with index next.
func (p *stepPrinter) pass(next int) {
	first := max(slices.Index(app.Steps(), p.now), 0)
	for _, step := range app.Steps()[first:next] {
		p.now = step
		p.end("ok")
	}
}

// end ends the line of the step under way.
func (p *stepPrinter) end(word string) {
	if !p.open {
		fmt.Fprintf(p.out, "%s … ", stepNames[p.now].doing)
	}
	fmt.Fprintln(p.out, word)
	p.open = false
}

// interrupt gives the line free for something else.
func (p *stepPrinter) interrupt() {
	if p.open {
		fmt.Fprintln(p.out)
		p.open = false
	}
}

package gui

import (
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// progress is how far a step is.
type progress int

const (
	stepAhead progress = iota
	stepNow
	stepDone
	stepFailed
)

// stepsView ticks the steps off as they happen.
type stepsView struct {
	rows []*stepRow
	box  *fyne.Container
}

type stepRow struct {
	icon     *widget.Icon
	activity *widget.Activity
	label    *widget.Label
	shown    progress
}

func newStepsView() *stepsView {
	v := &stepsView{box: container.NewVBox()}
	for _, step := range app.Steps() {
		row := &stepRow{icon: widget.NewIcon(nil), activity: widget.NewActivity(), label: widget.NewLabel(stepName(step)), shown: -1}
		mark := container.NewGridWrap(fyne.NewSquareSize(theme.Size(theme.SizeNameInlineIcon)), container.NewStack(row.icon, row.activity))
		v.box.Add(container.NewHBox(container.NewCenter(mark), row.label))
		v.rows = append(v.rows, row)
	}
	return v
}

func (v *stepsView) content() fyne.CanvasObject { return v.box }

// update shows where an item stands.
func (v *stepsView) update(it *item) {
	now, failed := stepOf(it)
	at := slices.Index(app.Steps(), now)
	for i, row := range v.rows {
		switch {
		case i < at:
			row.set(stepDone)
		case i > at:
			row.set(stepAhead)
		case failed:
			row.set(stepFailed)
		default:
			row.set(stepNow)
		}
	}
}

// stepOf is the step that an item is at, or that has failed.
func stepOf(it *item) (step app.Step, failed bool) {
	switch {
	case it.failure != nil:
		return it.failure.Step, true
	case it.conn != nil && it.conn.Step != "":
		return it.conn.Step, false
	}
	return app.StepFindGateway, false
}

func (r *stepRow) set(p progress) {
	if r.shown == p {
		return
	}
	r.shown = p
	r.label.Importance = widget.MediumImportance
	r.label.TextStyle = fyne.TextStyle{Bold: p == stepNow || p == stepFailed}
	switch p {
	case stepAhead:
		r.icon.SetResource(theme.NewDisabledResource(theme.RadioButtonIcon()))
		r.label.Importance = widget.LowImportance
	case stepDone:
		r.icon.SetResource(theme.NewSuccessThemedResource(theme.ConfirmIcon()))
	case stepFailed:
		r.icon.SetResource(theme.NewErrorThemedResource(theme.CancelIcon()))
		r.label.Importance = widget.DangerImportance
	case stepNow:
		r.icon.SetResource(nil)
	}
	r.label.Refresh()
	if p == stepNow {
		r.activity.Show()
		r.activity.Start()
		return
	}
	r.activity.Stop()
	r.activity.Hide()
}

// rest stops what moves, when the view is not to be seen.
func (v *stepsView) rest() {
	for _, row := range v.rows {
		row.activity.Stop()
		row.shown = -1
	}
}

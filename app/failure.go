package app

// Code is the machine's word for a failure; each has its exit code.
type Code string

// Codes in the order of their exit codes, 1 to 12.
const (
	CodeInternal        Code = "internal"
	CodeUsage           Code = "usage"
	CodeNoAnswer        Code = "no-answer"
	CodeUntrusted       Code = "untrusted"
	CodeSignInRefused   Code = "sign-in-refused"
	CodeNoProposal      Code = "no-proposal"
	CodeNetworkConfig   Code = "network-config"
	CodeNoService       Code = "no-service"
	CodeCancelled       Code = "cancelled"
	CodeProtocol        Code = "protocol"
	CodeSettingsRefused Code = "settings-refused"
	CodePolicy          Code = "policy"
)

var codes = []Code{
	CodeInternal, CodeUsage, CodeNoAnswer, CodeUntrusted, CodeSignInRefused, CodeNoProposal,
	CodeNetworkConfig, CodeNoService, CodeCancelled, CodeProtocol, CodeSettingsRefused, CodePolicy,
}

// Exit is the exit code that belongs to c; an unknown code is internal.
func (c Code) Exit() int {
	for i, k := range codes {
		if k == c {
			return i + 1
		}
	}
	return 1
}

// Failure says what happened, at which step, and what to do. It is the only source
// of error texts for users.
type Failure struct {
	Code    Code   `json:"code"`
	Exit    int    `json:"exit"`
	Step    Step   `json:"step,omitzero"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitzero"`
}

// NewFailure makes a failure with the exit code of its code.
func NewFailure(code Code, step Step, message, hint string) *Failure {
	return &Failure{Code: code, Exit: code.Exit(), Step: step, Message: message, Hint: hint}
}

// Error is the one line for standard error.
func (f *Failure) Error() string {
	if f.Hint == "" {
		return f.Message
	}
	return f.Message + "; " + f.Hint
}

// ErrorReport is a failure told on its own: the body of an error of the local API,
// and what a command prints with --json.
type ErrorReport struct {
	Error ReportedFailure `json:"error"`
}

// ReportedFailure is a Failure without its exit code, which the code implies.
type ReportedFailure struct {
	Code    Code   `json:"code"`
	Step    Step   `json:"step,omitzero"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitzero"`
}

// Report is f told on its own.
func (f *Failure) Report() ErrorReport {
	return ErrorReport{ReportedFailure{Code: f.Code, Step: f.Step, Message: f.Message, Hint: f.Hint}}
}

// Failure is the failure that was reported.
func (r ErrorReport) Failure() *Failure {
	return NewFailure(r.Error.Code, r.Error.Step, r.Error.Message, r.Error.Hint)
}

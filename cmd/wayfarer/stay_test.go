package main

import (
	"context"
	"encoding/pem"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike/gateway"
)

// renewal is a connection that asks for a one-time password while it stands.
func renewal(id string) app.Connection {
	c := connected()
	c.State, c.Step = app.StateActionNeeded, app.StepSignIn
	c.Prompt = &app.Prompt{ID: id, Kind: app.PromptOTP, Secret: true}
	return c
}

// A connection that stands may ask again, and more than once; it is followed to its end.
func TestStayAnswers(t *testing.T) {
	ended := app.NewFailure(app.CodeSignInRefused, app.StepSignIn, "the gateway refused login or password", "check both")
	svc := newFakeService(nil)
	svc.set(connected())
	w := newWorld(t, svc)
	w.terminal("123456", "654321")
	a := &attempt{env: w.env, svc: svc, id: "c1", login: "ada", step: stepPrinter{out: &w.err}}
	go func() {
		svc.set(renewal("p1"))
		<-svc.answered
		svc.set(connected())
		svc.set(renewal("p2"))
		<-svc.answered
		playFailed(ended)(svc)
	}()
	if err := a.stay(t.Context()); !errors.Is(err, ended) {
		t.Errorf("ended with %v", err)
	}
	want := []control.Answer{{PromptID: "p1", Text: []byte("123456")}, {PromptID: "p2", Text: []byte("654321")}}
	if !reflect.DeepEqual(svc.answers, want) {
		t.Errorf("answered %+v", svc.answers)
	}
	asked := []string{"One-time password for ada at vpn.example.com: ", "One-time password for ada at vpn.example.com: "}
	if !reflect.DeepEqual(w.person.asked, asked) {
		t.Errorf("asked %q", w.person.asked)
	}
	if !strings.Contains(w.err.String(), "office: action needed\n") || strings.Contains(w.err.String(), "123456") {
		t.Errorf("stderr %q", &w.err)
	}
}

// Nobody answers: the question is taken back with the connection's, and at the end.
func TestStayTakesQuestionsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := newFakeService(nil)
		svc.set(connected())
		w := newWorld(t, svc)
		person := w.terminal()
		a := &attempt{env: w.env, svc: svc, id: "c1"}
		ctx, stop := contextWithStop(t)
		go func() {
			for _, c := range []app.Connection{renewal("p1"), connected(), renewal("p2")} {
				time.Sleep(time.Minute)
				svc.set(c)
			}
			time.Sleep(time.Minute)
			stop()
		}()
		if err := a.stay(ctx); err != nil || len(person.asked) != 2 || len(svc.answers) > 0 {
			t.Errorf("%v, asked %q, answered %v", err, person.asked, svc.answers)
		}
	})
}

// The connection is gone, or the service is.
func TestStayEnds(t *testing.T) {
	for name, end := range map[string]func(*fakeService){
		"dropped":    func(s *fakeService) { s.drop("c1") },
		"no service": func(s *fakeService) { s.change(func() { s.gone = errors.New("gone") }) },
	} {
		svc := newFakeService(nil)
		svc.set(connected())
		w := newWorld(t, svc)
		a := &attempt{env: w.env, svc: svc, id: "c1"}
		go end(svc)
		if err := a.stay(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// inProcess is a rootless service in the place of an installed one.
type inProcess struct{ *rootless }

func (inProcess) Logs(context.Context, string, bool) iter.Seq2[*app.LogRecord, error] { return nil }
func (inProcess) RestoreNetwork(context.Context) error                                { return nil }
func (inProcess) Managed(context.Context) (*app.Managed, error)                       { return &app.Managed{}, nil }

// A gateway with a certificate of the profile's CA that names another host is asked
// about; --trust-new says yes, and the pin that it stores is the gateway's.
func TestTrustNewWithCA(t *testing.T) {
	credentials, err := gateway.SelfSigned(demoGateway) // not 127.0.0.1
	if err != nil {
		t.Fatal(err)
	}
	host, err := serveGateway(t.Context(), credentials, demoConfig(credentials))
	if err != nil {
		t.Fatal(err)
	}
	defer host.stop()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: credentials.CA.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	svc := newRootless(nil)
	defer svc.close(t.Context())
	w := newWorld(t, nil)
	w.env.service = func(string) installed { return inProcess{svc} }
	w.stdin = demoPassword
	args := []string{"connect", "--gateway", host.address.String(), "--login", demoLogin, "--password-file", "-", "--ca", ca, "--save", "office"}
	if got := w.run(t, args...); got != 4 {
		t.Fatalf("without --trust-new: exit %d, stderr %q", got, &w.err)
	}
	if got := w.run(t, append(args, "--trust-new")...); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if saved := load(t, "office").Profile; saved.Pin != host.fingerprint() || len(saved.CA) != 1 {
		t.Errorf("saved %+v", saved)
	}
	if got := w.run(t, "disconnect"); got != 0 {
		t.Fatalf("disconnect: exit %d, stderr %q", got, &w.err)
	}
	// It is not asked about any more.
	if got := w.run(t, "connect", "office"); got != 0 || strings.Contains(w.out.String(), "--trust-new") {
		t.Errorf("again: exit %d, stdout %q, stderr %q", got, &w.out, &w.err)
	}
}

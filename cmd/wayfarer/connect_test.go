package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
)

func contextWithStop(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	return ctx, stop
}

// hooked tells of everything that is written.
type hooked struct {
	io.Writer
	hook func(string)
}

func (h *hooked) Write(p []byte) (int, error) {
	n, err := h.Writer.Write(p)
	h.hook(string(p))
	return n, err
}

func TestConnect(t *testing.T) {
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	w.stdin = "secret\n"
	if got := w.run(t, connectOffice...); got != 0 || w.err.Len() > 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	golden(t, "connect.txt", w.out.String())
	want := control.ConnectRequest{
		Profile:        app.Profile{Gateway: "vpn.example.com", Login: "ada"},
		Password:       []byte("secret"),
		TimeoutSeconds: 60,
	}
	if got := svc.request(t); !reflect.DeepEqual(got, want) {
		t.Errorf("sent %+v, want %+v", got, want)
	}
	if len(svc.ended) > 0 {
		t.Error("the connection was ended")
	}
}

func TestConnectJSON(t *testing.T) {
	w := newWorld(t, newFakeService(playConnected))
	w.stdin = "secret\n"
	if got := w.run(t, with("--json")...); got != 0 || w.err.Len() > 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	golden(t, "connect.json", w.out.String())
}

func TestConnectSendsWhatFlagsSay(t *testing.T) {
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	w.stdin = "secret"
	args := strings.Fields("--auth hybrid --exchange main --ca testdata/ca.pem --ca testdata/ca.der --pin " + strings.ToUpper(testPin[:2]+":"+testPin[2:]) +
		" --system-roots --remote-id dn:CN=rhum --local-id ada@example.com --group-id staff --allow-weak 3des,modp1024" +
		" --esp aes256gcm16,aes128-sha1 --ike aes256-sha256-modp2048 --local-network --block-outside" +
		" --set mtu=1280 --set pfs=off --set routes_add=10.0.0.0/8,10.1.0.0/16 --set ipcomp=true --set exchange=auto" +
		" --timeout 1500ms --no-reconnect --trust-new")
	if got := w.run(t, with(args...)...); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	ca, err := os.ReadFile("testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	want := control.ConnectRequest{
		Profile: app.Profile{
			Gateway: "vpn.example.com", Login: "ada", Auth: "hybrid", Exchange: "main", CA: []string{string(ca), string(ca)},
			Pin: testPin, SystemRoots: true, RemoteID: "dn:CN=rhum", LocalID: "ada@example.com", GroupID: "staff",
			AllowWeak: []string{"3des", "modp1024"}, ESP: []string{"aes256gcm16", "aes128-sha1"}, IKE: []string{"aes256-sha256-modp2048"},
			LocalNetwork: true, BlockOutside: true, MTU: 1280, PFS: "off", RoutesAdd: []string{"10.0.0.0/8", "10.1.0.0/16"}, IPComp: true,
		},
		Password: []byte("secret"), TrustNew: true, NoReconnect: true, TimeoutSeconds: 2,
	}
	if got := svc.request(t); !reflect.DeepEqual(got, want) {
		t.Errorf("sent\n%+v\nwant\n%+v", got, want)
	}
}

// Every key of a profile can be given by --set.
func TestSetTakesEveryKey(t *testing.T) {
	var want, got app.Profile
	v := reflect.ValueOf(&want).Elem()
	for key, i := range profileKeys {
		value := map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true", reflect.Int: "7", reflect.Slice: "a, b"}[v.Field(i).Kind()]
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString("text")
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int:
			field.SetInt(7)
		case reflect.Slice:
			field.Set(reflect.ValueOf([]string{"a", "b"}))
		}
		if err := setKey(&got, key, value); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if len(profileKeys) != v.NumField() || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestSteps(t *testing.T) {
	refused := app.NewFailure(app.CodeSignInRefused, app.StepSignIn, "the gateway refused login or password", "check both")
	for _, tt := range []struct {
		name string
		play func(*fakeService)
		want string
	}{
		{"connected", playConnected, `Finding gateway … ok
Agreeing on security … ok
Checking gateway certificate … ok
Signing in … ok
Getting settings … ok
Building tunnel … ok
Testing … ok
`},
		{"failed", playFailed(refused), `Finding gateway … ok
Agreeing on security … ok
Checking gateway certificate … ok
Signing in … failed
wayfarer: sign in: the gateway refused login or password; check both
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, newFakeService(tt.play))
			w.stdin = "secret"
			w.terminal()
			w.run(t, connectOffice...)
			if w.err.String() != tt.want {
				t.Errorf("got\n%s", &w.err)
			}
		})
	}
}

// A connection that has taken over a leak block does not fail but stays blocked.
func TestConnectEndsBlocked(t *testing.T) {
	refused := app.NewFailure(app.CodeSignInRefused, app.StepSignIn, "the gateway refused login or password", "check both")
	w := newWorld(t, newFakeService(func(s *fakeService) {
		s.set(app.Connection{ID: "c1", State: app.StateConnecting, Step: app.StepSignIn})
		s.set(app.Connection{ID: "c1", State: app.StateBlocked, Failure: refused})
	}))
	w.stdin = "secret"
	w.terminal()
	if code := w.run(t, connectOffice...); code != 5 || !strings.Contains(w.err.String(), "Signing in … failed\n") {
		t.Errorf("exit %d\n%s", code, &w.err)
	}
}

// A fresh attempt, as after a question of trust, begins its steps anew.
func TestStepsBeginAnew(t *testing.T) {
	var out strings.Builder
	p := stepPrinter{out: &out}
	for _, step := range []app.Step{app.StepFindGateway, app.StepCheckCertificate, app.StepFindGateway, app.StepFindGateway, app.StepAgreeSecurity} {
		p.show(&app.Connection{State: app.StateConnecting, Step: step})
	}
	p.show(&app.Connection{State: app.StateFailed, Failure: app.NewFailure(app.CodeInternal, "", "broken", "")})
	want := `Finding gateway … ok
Agreeing on security … ok
Checking gateway certificate … 
Finding gateway … ok
Agreeing on security … 
`
	if out.String() != want {
		t.Errorf("got\n%s", &out)
	}
}

func trustPrompt() app.Connection {
	return app.Connection{
		ID: "c1", State: app.StateActionNeeded, Step: app.StepCheckCertificate, Gateway: &app.Gateway{Host: "vpn.example.com"},
		Prompt: &app.Prompt{ID: "p1", Kind: app.PromptTrust, Text: "Trust the gateway?", Certificate: &app.Certificate{
			Subject: "CN=rhum", Issuer: "CN=Lab\x1b[31m CA", Names: []string{"vpn.example.com", "192.0.2.1"},
			NotBefore: testTime, NotAfter: testTime.AddDate(1, 0, 0), SHA256: testPin, Reason: "no CA or pin is configured",
		}},
	}
}

// playTrust asks for trust and goes on as the answer says.
func playTrust(s *fakeService) {
	s.set(trustPrompt())
	if a := <-s.answered; a.PromptID != "p1" || !a.Accept {
		playFailed(app.NewFailure(app.CodeUntrusted, app.StepCheckCertificate, "the gateway is not trusted", "compare the fingerprint"))(s)
		return
	}
	s.set(connected())
}

func TestTrustPrompt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		person func(*world)
		exit   int
	}{
		{"yes", func(w *world) { w.terminal("y") }, 0},
		{"no", func(w *world) { w.terminal("") }, 4},
		{"eof", func(w *world) { w.terminal().eof = true }, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newFakeService(playTrust)
			w := newWorld(t, svc)
			w.stdin = "secret"
			tt.person(w)
			if got := w.run(t, connectOffice...); got != tt.exit {
				t.Errorf("exit %d, want %d", got, tt.exit)
			}
			golden(t, "trust-"+tt.name+".txt", w.err.String())
			if !svc.request(t).Ask {
				t.Error("the service was not told that somebody answers")
			}
		})
	}
}

// What the gateway asks is asked, and the answers arrive; secrets are not shown.
func TestPrompts(t *testing.T) {
	gateway := &app.Gateway{Host: "vpn.example.com"}
	play := func(s *fakeService) {
		for i, p := range []app.Prompt{
			{Kind: app.PromptOTP, Secret: true},
			{Kind: app.PromptChallenge, Text: "What colour?\x07"},
			{Kind: app.PromptNextPIN, Text: "Enter a new PIN\r\nPassword for root at bank.example.com:", Secret: true},
			{Kind: app.PromptBanner, Text: "Authorised users only"},
		} {
			p.ID = "p" + string(rune('1'+i))
			s.set(app.Connection{ID: "c1", State: app.StateActionNeeded, Step: app.StepSignIn, Gateway: gateway, Prompt: &p})
			<-s.answered
			s.set(app.Connection{ID: "c1", State: app.StateConnecting, Step: app.StepSignIn})
		}
		s.set(connected())
	}
	svc := newFakeService(play)
	w := newWorld(t, svc)
	w.stdin = "secret"
	w.terminal("123456", "blue", "98765", "")
	if got := w.run(t, connectOffice...); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	golden(t, "prompts.txt", w.err.String())
	want := []control.Answer{
		{PromptID: "p1", Text: []byte("123456")},
		{PromptID: "p2", Text: []byte("blue")},
		{PromptID: "p3", Text: []byte("98765")},
		{PromptID: "p4", Accept: true},
	}
	if !reflect.DeepEqual(svc.answers, want) {
		t.Errorf("answers %+v", svc.answers)
	}
}

// The person ends the input instead of giving a one-time password.
func TestPromptRefused(t *testing.T) {
	svc := newFakeService(func(s *fakeService) {
		s.set(app.Connection{ID: "c1", State: app.StateActionNeeded, Step: app.StepSignIn, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP, Secret: true}})
		if a := <-s.answered; a.Cancel {
			playFailed(app.NewFailure(app.CodeCancelled, app.StepSignIn, "cancelled", ""))(s)
		}
	})
	w := newWorld(t, svc)
	w.stdin = "secret"
	w.terminal().eof = true
	if got := w.run(t, connectOffice...); got != 9 {
		t.Errorf("exit %d, stderr %q", got, &w.err)
	}
}

// A prompt that is answered elsewhere is taken back, and the next one is put.
func TestPromptAnsweredElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := newFakeService(func(s *fakeService) {
			for _, id := range []string{"p1", "p2"} {
				s.set(app.Connection{ID: "c1", State: app.StateActionNeeded, Step: app.StepSignIn, Prompt: &app.Prompt{ID: id, Kind: app.PromptOTP}})
				time.Sleep(time.Minute)
			}
			s.set(connected())
		})
		w := newWorld(t, svc)
		w.stdin = "secret"
		person := w.terminal()
		if got := w.run(t, connectOffice...); got != 0 || len(svc.answers) > 0 || len(person.asked) != 2 {
			t.Errorf("exit %d, asked %q, answers %v", got, person.asked, svc.answers)
		}
	})
}

// An answer that comes too late does not end what goes on without it.
func TestLateAnswer(t *testing.T) {
	for code, exit := range map[app.Code]int{app.CodeUsage: 0, app.CodeNoService: 8} {
		svc := newFakeService(func(s *fakeService) {
			s.set(app.Connection{ID: "c1", State: app.StateActionNeeded, Step: app.StepSignIn, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP}})
			<-s.answered
			if code == app.CodeUsage {
				s.set(connected())
			}
		})
		svc.late = app.NewFailure(code, "", "connection c1 does not ask this", "")
		w := newWorld(t, svc)
		w.stdin = "secret"
		w.terminal("123456")
		if got := w.run(t, connectOffice...); got != exit {
			t.Errorf("%s: exit %d, stderr %q", code, got, &w.err)
		}
	}
}

func TestPasswordIsAskedFor(t *testing.T) {
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	person := w.terminal(" my secret ")
	if got := w.run(t, "connect", "--gateway", "vpn.example.com", "--login", "ada"); got != 0 {
		t.Fatalf("exit %d, stderr %q", got, &w.err)
	}
	if got := string(svc.request(t).Password); got != " my secret " {
		t.Errorf("sent %q", got)
	}
	if want := []string{"Password for ada at vpn.example.com: "}; !reflect.DeepEqual(person.asked, want) {
		t.Errorf("asked %q", person.asked)
	}
	if strings.Contains(w.err.String()+w.out.String(), "secret") {
		t.Error("the password was shown")
	}
}

func TestPasswordCannotBeAskedFor(t *testing.T) {
	args := []string{"connect", "--gateway", "vpn.example.com", "--login", "ada"}
	svc := newFakeService(playConnected)
	w := newWorld(t, svc)
	want := "wayfarer: sign in: a password is needed and there is no terminal to ask on; use --password-file\n"
	if got := w.run(t, args...); got != 9 || w.err.String() != want {
		t.Errorf("no terminal: exit %d, stderr %q", got, &w.err)
	}
	w.terminal().eof = true
	if got := w.run(t, args...); got != 9 {
		t.Errorf("end of input: exit %d, stderr %q", got, &w.err)
	}
	w.terminal("")
	if got := w.run(t, args...); got != 9 {
		t.Errorf("no password: exit %d, stderr %q", got, &w.err)
	}
	// Without a service the person is not bothered.
	svc.gone = app.NewFailure(app.CodeNoService, "", "the service does not run", "")
	person := w.terminal("secret")
	if got := w.run(t, args...); got != 8 || len(person.asked) > 0 {
		t.Errorf("no service: exit %d, asked %q", got, person.asked)
	}
	if len(svc.requests) > 0 {
		t.Error("a request without password was sent")
	}
}

// Ctrl+C ends the attempt, wherever it is.
func TestCtrlC(t *testing.T) {
	otp := app.Connection{ID: "c1", State: app.StateActionNeeded, Step: app.StepSignIn, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP, Secret: true}}
	for name, play := range map[string]func(*fakeService){
		"connecting": nil,
		"asking":     func(s *fakeService) { s.set(otp) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				svc := newFakeService(play)
				w := newWorld(t, svc)
				w.stdin = "secret"
				w.terminal()
				ctx, stop := contextWithStop(t)
				time.AfterFunc(10*time.Second, stop)
				if got := w.runContext(ctx, with("--json")...); got != 9 || !reflect.DeepEqual(svc.ended, []string{"c1"}) {
					t.Errorf("exit %d, ended %v, stderr %q", got, svc.ended, &w.err)
				}
				if want := `{"error":{"code":"cancelled","message":"cancelled"}}` + "\n"; w.out.String() != want {
					t.Errorf("stdout %q", &w.out)
				}
			})
		})
	}
}

// The service ends an attempt in time; if it does not, the command does, and does
// not count the person's thinking.
func TestTimeout(t *testing.T) {
	otp := app.Connection{ID: "c1", State: app.StateActionNeeded, Step: app.StepSignIn, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP}}
	for _, tt := range []struct {
		name string
		play func(*fakeService)
		want time.Duration
	}{
		{"silence", nil, 30*time.Second + timeoutGrace},
		{"a person who thinks", func(s *fakeService) {
			time.Sleep(20 * time.Second)
			s.set(otp)
			time.Sleep(time.Hour)
			s.set(app.Connection{ID: "c1", State: app.StateConnecting, Step: app.StepSignIn})
		}, time.Hour + 30*time.Second + timeoutGrace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				svc := newFakeService(tt.play)
				w := newWorld(t, svc)
				w.stdin = "secret"
				start := time.Now()
				if got := w.run(t, with("--timeout", "30s")...); got != 3 || !reflect.DeepEqual(svc.ended, []string{"c1"}) {
					t.Errorf("exit %d, ended %v, stderr %q", got, svc.ended, &w.err)
				}
				if d := time.Since(start); d != tt.want {
					t.Errorf("after %v, want %v", d, tt.want)
				}
			})
		})
	}
}

func TestConnectionEndsElsewhere(t *testing.T) {
	for name, play := range map[string]func(*fakeService){
		"gone":         func(s *fakeService) { s.drop("c1") },
		"disconnected": func(s *fakeService) { s.set(app.Connection{ID: "c1", State: app.StateDisconnected}) },
	} {
		w := newWorld(t, newFakeService(play))
		w.stdin = "secret"
		if got := w.run(t, connectOffice...); got != 9 || !strings.Contains(w.err.String(), "ended from elsewhere") {
			t.Errorf("%s: exit %d, stderr %q", name, got, &w.err)
		}
	}
	w := newWorld(t, newFakeService(func(s *fakeService) {
		s.change(func() { s.gone = app.NewFailure(app.CodeNoService, "", "the service has ended", "start it") })
	}))
	w.stdin = "secret"
	if got := w.run(t, connectOffice...); got != 8 {
		t.Errorf("service: exit %d, stderr %q", got, &w.err)
	}
}

func TestAnswer(t *testing.T) {
	otp := app.Connection{ID: "c1", Profile: "office", State: app.StateActionNeeded, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP, Secret: true}}
	pin := app.Connection{ID: "c2", State: app.StateActionNeeded, Prompt: &app.Prompt{ID: "p2", Kind: app.PromptNextPIN, Text: "New PIN"}}
	trust := trustPrompt()
	for _, tt := range []struct {
		name   string
		conns  []app.Connection
		person []string // nil: standard input
		stdin  string
		args   string
		want   *control.Answer
		exit   int
	}{
		{"input", []app.Connection{otp}, nil, "123456\n", "", &control.Answer{PromptID: "p1", Text: []byte("123456")}, 0},
		{"terminal", []app.Connection{otp}, []string{"123456"}, "", "", &control.Answer{PromptID: "p1", Text: []byte("123456")}, 0},
		{"by ID", []app.Connection{otp, pin}, nil, "98765", "c2", &control.Answer{PromptID: "p2", Text: []byte("98765")}, 0},
		{"by profile", []app.Connection{otp, pin}, nil, "98765", "office", &control.Answer{PromptID: "p1", Text: []byte("98765")}, 0},
		{"which?", []app.Connection{otp, pin}, nil, "98765", "", nil, 2},
		{"trust from input", []app.Connection{trust}, nil, "yes\n", "", &control.Answer{PromptID: "p1", Accept: true}, 0},
		{"no trust from input", []app.Connection{trust}, nil, "no\n", "", &control.Answer{PromptID: "p1"}, 0},
		{"trust on the terminal", []app.Connection{trust}, []string{"y"}, "", "", &control.Answer{PromptID: "p1", Accept: true}, 0},
		{"empty input", []app.Connection{otp}, nil, "", "", nil, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := newFakeService(nil)
			svc.conns = tt.conns
			w := newWorld(t, svc)
			w.stdin = tt.stdin
			if tt.person != nil {
				w.terminal(tt.person...)
			}
			if got := w.run(t, append([]string{"answer"}, strings.Fields(tt.args)...)...); got != tt.exit {
				t.Errorf("exit %d, stderr %q", got, &w.err)
			}
			var got *control.Answer
			if len(svc.answers) > 0 {
				got = &svc.answers[0]
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("answered %+v, want %+v", got, tt.want)
			}
		})
	}
}

// The secrets of a whole life are in no output, whatever goes wrong.
func TestSecretsAreNotShown(t *testing.T) {
	const password, otp = "hunter2", "13371337"
	var all bytes.Buffer
	plays := []func(*fakeService){playConnected, func(s *fakeService) {
		s.set(app.Connection{ID: "c1", State: app.StateActionNeeded, Prompt: &app.Prompt{ID: "p1", Kind: app.PromptOTP, Secret: true}})
		<-s.answered
		playFailed(app.NewFailure(app.CodeSignInRefused, app.StepSignIn, "refused", ""))(s)
	}}
	for _, play := range plays {
		for _, args := range [][]string{with(), with("--json"), with("--save", "office"), {"connect", "office"}, with("--gateway", ""), with("--set", "x=y")} {
			w := newWorld(t, newFakeService(play))
			saveProfile(t, password)
			w.stdin = password + "\n"
			w.terminal(otp)
			w.run(t, args...)
			all.Write(w.out.Bytes())
			all.Write(w.err.Bytes())
		}
	}
	if all.Len() == 0 {
		t.Fatal("no output")
	}
	for _, secret := range []string{password, otp} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%s is in the output:\n%s", secret, &all)
		}
	}
}

// The request's password is overwritten once it is sent, and so is the profile's.
func TestPasswordIsZeroised(t *testing.T) {
	w := newWorld(t, newFakeService(playConnected))
	req := &control.ConnectRequest{Profile: app.Profile{Gateway: "vpn.example.com"}, Password: []byte("secret")}
	if _, _, err := w.establish(t.Context(), w.svc, req, time.Minute); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(req.Password, make([]byte, 6)) {
		t.Errorf("after sending: %q", req.Password)
	}
}

package daemon

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/ike"
)

// own is a user's certificate and key, in PEM.
type own struct {
	certificate string
	key         []byte
}

func newOwn(key crypto.Signer) (own, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ada"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return own{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return own{}, err
	}
	return own{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}

// users are certificates with keys of several kinds.
var users = sync.OnceValues(func() (map[string]own, error) {
	all := map[string]own{}
	for name, bits := range map[string]int{"rsa": 2048, "other": 2048, "weak": 1024} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		if all[name], err = newOwn(key); err != nil {
			return nil, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	all["ecdsa"], err = newOwn(key)
	return all, err
})

func user(t *testing.T, name string) own {
	t.Helper()
	all, err := users()
	if err != nil {
		t.Fatal(err)
	}
	return all[name]
}

// requestWith is a request for a method, complete.
func requestWith(t *testing.T, auth string) *control.ConnectRequest {
	t.Helper()
	req := &control.ConnectRequest{Profile: app.Profile{Name: "office", Gateway: "vpn.example.com", Auth: auth}}
	m, _ := req.Profile.AuthMethod()
	if m.Login {
		req.Profile.Login, req.Password = "ada", []byte("hush")
	}
	if m.GroupSecret == app.Required {
		req.GroupSecret = []byte("of the group")
	}
	if m.Certificate {
		u := user(t, "rsa")
		req.Profile.Certificate, req.Key = u.certificate, bytes.Clone(u.key)
	}
	return req
}

func TestCredentials(t *testing.T) {
	for _, auth := range app.AuthMethods() {
		cfg, failure := newConfig(requestWith(t, auth))
		if failure != nil {
			t.Errorf("%s: %v", auth, failure)
			continue
		}
		withCertificate := auth == "rsa" || auth == "xauth-rsa"
		if cfg.Auth != ike.AuthMethod(auth) || (len(cfg.Certificates) == 1) != withCertificate || (cfg.Key != nil) != withCertificate {
			t.Errorf("%s: %+v", auth, cfg)
		}
		if withCertificate && !app.BelongsTo(cfg.Key, cfg.Certificates[0]) {
			t.Errorf("%s: another key", auth)
		}
	}
	ecdsa := requestWith(t, "rsa")
	u := user(t, "ecdsa")
	ecdsa.Profile.Certificate, ecdsa.Key = u.certificate+user(t, "rsa").certificate, u.key
	if cfg, failure := newConfig(ecdsa); failure != nil || len(cfg.Certificates) != 2 {
		t.Errorf("ECDSA with an intermediate: %v", failure)
	}
	weak := requestWith(t, "rsa")
	u = user(t, "weak")
	weak.Profile.Certificate, weak.Key, weak.Profile.AllowWeak = u.certificate, u.key, []string{"rsa1024"}
	if _, failure := newConfig(weak); failure != nil {
		t.Errorf("a weak key that is allowed: %v", failure)
	}
	mutual := requestWith(t, "hybrid")
	mutual.GroupSecret = []byte("of the group")
	if _, failure := newConfig(mutual); failure != nil {
		t.Errorf("mutual group authentication: %v", failure)
	}
	aggressive := requestWith(t, "xauth-psk")
	aggressive.Profile.Exchange, aggressive.Profile.AllowWeak = "aggressive", []string{"psk-aggressive"}
	if cfg, failure := newConfig(aggressive); failure != nil || cfg.Exchange != ike.ExchangeAggressive {
		t.Errorf("aggressive mode that is allowed: %v", failure)
	}
}

func TestRefusedCredentials(t *testing.T) {
	long := bytes.Repeat([]byte("x"), maxKey+1)
	for _, tt := range []struct {
		auth, key, says string
		change          func(*control.ConnectRequest)
	}{
		{"hybrid", "login", "missing", func(r *control.ConnectRequest) { r.Profile.Login = "" }},
		{"hybrid", "password", "longer than 4096", func(r *control.ConnectRequest) { r.Password = long }},
		{"hybrid", "group_secret", "longer than 4096", func(r *control.ConnectRequest) { r.GroupSecret = long }},
		{"rsa", "key", "longer than 16384", func(r *control.ConnectRequest) { r.Key = long }},
		{"psk", "password", "no use", func(r *control.ConnectRequest) { r.Password = []byte("hush") }},
		{"rsa", "password", "no use", func(r *control.ConnectRequest) { r.Password = []byte("hush") }},
		{"xauth-rsa", "group_secret", "no use", func(r *control.ConnectRequest) { r.GroupSecret = []byte("hush") }},
		{"xauth-psk", "group_secret", "--group-secret-file", func(r *control.ConnectRequest) { r.GroupSecret = nil }},
		{"psk", "group_secret", "--group-secret-file", func(r *control.ConnectRequest) { r.GroupSecret = []byte{} }},
		{"hybrid", "certificate", "no use", func(r *control.ConnectRequest) { r.Profile.Certificate = user(t, "rsa").certificate }},
		{"psk", "key", "no use", func(r *control.ConnectRequest) { r.Key = user(t, "rsa").key }},
		{"rsa", "certificate", "--cert", func(r *control.ConnectRequest) { r.Profile.Certificate = "" }},
		{"rsa", "key", "without its key", func(r *control.ConnectRequest) { r.Key = nil }},
		{"rsa", "certificate", "no PEM", func(r *control.ConnectRequest) { r.Profile.Certificate = "/etc/shadow" }},
		{"rsa", "certificate", "more than 8", func(r *control.ConnectRequest) { r.Profile.Certificate = strings.Repeat(r.Profile.Certificate, 9) }},
		{"rsa", "key", "no private key", func(r *control.ConnectRequest) { r.Key = []byte("hush") }},
		{"rsa", "key", "encrypted", func(r *control.ConnectRequest) {
			r.Key = pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY"})
		}},
		{"rsa", "key", "does not belong", func(r *control.ConnectRequest) { r.Key = user(t, "other").key }},
		{"rsa", "key", "does not belong", func(r *control.ConnectRequest) { r.Key = user(t, "ecdsa").key }},
		{"rsa", "key", "--allow-weak rsa1024", func(r *control.ConnectRequest) {
			r.Profile.Certificate, r.Key = user(t, "weak").certificate, user(t, "weak").key
		}},
	} {
		t.Run(tt.auth+" "+tt.key+" "+tt.says, func(t *testing.T) {
			req := requestWith(t, tt.auth)
			tt.change(req)
			_, failure := newConfig(req)
			if failure == nil {
				t.Fatal("accepted")
			}
			text := failure.Error()
			if failure.Exit != 2 || !strings.HasPrefix(text, tt.key+": ") || !strings.Contains(text, tt.says) {
				t.Errorf("%+v", failure)
			}
			if strings.Contains(text, "\n") || strings.Contains(text, "hush") || strings.Contains(text, "of the group") {
				t.Errorf("not a line for everybody: %q", text)
			}
		})
	}
}

// Nobody is asked for a password that no gateway will ask for.
func TestNoPasswordWithoutLogin(t *testing.T) {
	for _, auth := range []string{"psk", "rsa"} {
		inWorld(t, func(t *testing.T, w *world) {
			req := requestWith(t, auth)
			req.Ask = true
			id := w.connect(req)
			w.wantState(id, app.StateConnected)
			if w.dials[0].Password != nil || w.dials[0].Login != "" {
				t.Errorf("%s: dialled with %+v", auth, w.dials[0])
			}
		})
	}
}

// All secrets reach the engine, and only the engine: not the log, not the status;
// at the end of the connection they are gone.
func TestSecretsEndWithTheConnection(t *testing.T) {
	for _, auth := range []string{"xauth-psk", "xauth-rsa"} {
		inWorld(t, func(t *testing.T, w *world) {
			var log bytes.Buffer
			w.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
			var kept ike.Config
			w.script = func(_ context.Context, _ int, cfg *ike.Config) (Session, error) {
				kept = *cfg
				cfg.Log.Debug("dial", "config", cfg.GroupSecret, "password", cfg.Password)
				return newSession(), nil
			}
			req := requestWith(t, auth)
			key, group := string(req.Key), string(req.GroupSecret)
			id := w.connect(req)
			req.Zero()
			if string(kept.GroupSecret) != group || string(kept.Password) != "hush" {
				t.Errorf("%s: the engine got %q and %q", auth, []byte(kept.GroupSecret), []byte(kept.Password))
			}
			if (auth == "xauth-rsa") != (kept.Key != nil) {
				t.Errorf("%s: the engine got the key %v", auth, kept.Key != nil)
			}
			var told strings.Builder
			if err := json.NewEncoder(&told).Encode(w.Status()); err != nil {
				t.Fatal(err)
			}
			w.Disconnect(t.Context(), id)
			synctest.Wait()
			for _, secret := range []string{"hush", "of the group", "PRIVATE KEY", strings.Split(key+"\n \n", "\n")[1]} {
				if strings.TrimSpace(secret) != "" && strings.Contains(log.String()+told.String(), secret) {
					t.Errorf("%s: %q is told:\n%s\n%s", auth, secret, &log, &told)
				}
			}
			if strings.Trim(string(kept.GroupSecret)+string(kept.Password), "\x00") != "" {
				t.Errorf("%s: after the end there is %q, %q", auth, []byte(kept.GroupSecret), []byte(kept.Password))
			}
		})
	}
}

// The engine's own rule is told as the mistake that it is.
func TestAggressiveSecretIsRefusedByTheEngineToo(t *testing.T) {
	s, err := ike.Dial(t.Context(), &ike.Config{
		Gateway: "127.0.0.1", Auth: ike.AuthXAUTHPSK, Exchange: ike.ExchangeAggressive, GroupSecret: ike.Secret("hush"),
	})
	if err == nil {
		s.Close()
		t.Fatal("dialled")
	}
	var config *ike.ConfigError
	f := explain(err, app.StepFindGateway)
	if !errors.As(err, &config) || f.Exit != 2 || !strings.Contains(f.Message, "psk-aggressive") || strings.Contains(f.Error(), "hush") {
		t.Errorf("%v; told as %+v", err, f)
	}
}

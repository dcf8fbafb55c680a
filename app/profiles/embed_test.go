package profiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"wayfarer/app"
)

func TestEmbed(t *testing.T) {
	both := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(both, []byte(testFile(t, "ada.pem")+testFile(t, "ada.key")), 0o600); err != nil {
		t.Fatal(err)
	}
	cas, ada := testFile(t, "cas.pem"), testFile(t, "ada.pem")
	for _, tt := range []struct {
		name      string
		p, want   app.Profile
		outside   []string
		forbidden error
	}{
		{"nothing", app.Profile{Name: "x"}, app.Profile{Name: "x"}, nil, nil},
		{"texts stay", app.Profile{CA: []string{cas}, Certificate: ada}, app.Profile{CA: []string{cas}, Certificate: ada}, nil, nil},
		{
			"files",
			app.Profile{CA: []string{"testdata/cas.pem"}, Certificate: "testdata/ada.pem", Key: "testdata/ada.key"},
			app.Profile{CA: []string{cas}, Certificate: ada, Key: "testdata/ada.key"},
			[]string{"testdata/ada.key"},
			nil,
		},
		{"a key is no part of it", app.Profile{Certificate: both}, app.Profile{Certificate: both}, []string{both}, nil},
		{"PKCS #12", app.Profile{Certificate: "testdata/modern.p12"}, app.Profile{Certificate: "testdata/modern.p12"}, []string{"testdata/modern.p12"}, nil},
		{"no CA file", app.Profile{CA: []string{"missing"}}, app.Profile{}, nil, fs.ErrNotExist},
		{"no certificate file", app.Profile{Certificate: "missing"}, app.Profile{}, nil, fs.ErrNotExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			outside, err := Embed(&tt.p)
			if !errors.Is(err, tt.forbidden) {
				t.Fatal(err)
			}
			if err == nil && (!reflect.DeepEqual(tt.p, tt.want) || !reflect.DeepEqual(outside, tt.outside)) {
				t.Errorf("got %+v, outside %q", tt.p, outside)
			}
		})
	}
}

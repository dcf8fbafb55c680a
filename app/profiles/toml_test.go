package profiles

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"wayfarer/app"
)

// full is a profile in which every field differs from its default.
func full(t *testing.T) app.Profile {
	t.Helper()
	var p app.Profile
	v := reflect.ValueOf(&p).Elem()
	for i := range v.NumField() {
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString("value of " + v.Type().Field(i).Name + " \"\\ \u00e4")
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int:
			field.SetInt(int64(1000 + i))
		case reflect.Slice:
			field.Set(reflect.ValueOf([]string{"one", "two\nlines"}))
		default:
			t.Fatalf("field %s: a %s is not expected", v.Type().Field(i).Name, field.Kind())
		}
	}
	p.Version, p.Name = Version, "büro 1"
	return p
}

func TestProfileRoundTrip(t *testing.T) {
	want := full(t)
	data, err := Encode(&want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

// The form that the design shows, defaults and all.
const exported = `version = 1
name = "office"
gateway = "vpn.example.com"      # host, host:port, several separated by commas
login = "ada"
auth = "hybrid"
exchange = "auto"
remote_id = "dn:CN=rhum"
local_id = ""
group_id = ""
ca = []
pin = ""
system_roots = false
certificate = ""
key = ""
ike = ["aes256-sha256-modp2048"]
esp = []
allow_weak = []
pfs = "auto"
mode_config = "auto"
selectors = "auto"
local_networks = []
remote_networks = []
nat_t = "auto"
local_port = 0
ipcomp = false
local_network = false
block_outside = false
always_on = false
secret_file = ""
routes_add = []
routes_skip = []
mtu = 0
quirks = []
`

func TestDecode(t *testing.T) {
	p, err := Decode([]byte(exported))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "office" || p.RemoteID != "dn:CN=rhum" || len(p.IKE) != 1 {
		t.Errorf("got %+v", p)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"unknown key", "version = 1\nname = 'x'\ngatway = 'y'\n", `line 3, column 1: unknown key "gatway"`},
		{"unknown table", "version = 1\n[secrets]\npassword = 'x'\n", `line 2, column 2: unknown key "secrets"`},
		{"wrong type", "version = 1\nmtu = 'big'\n", "line 2, column 7: "},
		{"no TOML", "version = 1\nname = \n", "line 2, column 8: "},
		{"newer", "version = 2\n", "version 2 of a profile is not known"},
		{"negative", "version = -1\n", "version -1 of a profile is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.in))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got error %v, want %s…", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(exported))
	f.Add([]byte("version = 1\n[secrets]\npassword = 'x'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := Decode(again)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, again)
		}
		a, _ := json.Marshal(p)
		b, _ := json.Marshal(q)
		if emptied(string(a)) != emptied(string(b)) {
			t.Errorf("%s\nbecame\n%s", a, b)
		}
	})
}

// emptied drops what is an empty list in one and absent in the other.
func emptied(s string) string {
	var fields map[string]any
	_ = json.Unmarshal([]byte(s), &fields)
	for k, v := range fields {
		if list, ok := v.([]any); ok && len(list) == 0 {
			delete(fields, k)
		}
	}
	out, _ := json.Marshal(fields)
	return string(out)
}

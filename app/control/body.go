package control

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"wayfarer/app"
)

// read decodes the request's body into v and overwrites what it read: it may hold secrets.
// Nothing of it appears in an error. It decodes where it has read, because a json.Decoder
// keeps copies; so check is what refuses unknown keys.
func (s *Server) read(p peer, w http.ResponseWriter, r *http.Request, v any, check func(body []byte) error) *refusal {
	if !s.bodies.enter(p.id) {
		return &refusal{http.StatusServiceUnavailable, app.NewFailure(app.CodeNoService, "",
			"too many programs ask the service at once", "try again")}
	}
	defer s.bodies.leave(p.id)
	body, err := readAll(http.MaxBytesReader(w, r.Body, maxBody))
	defer func() { clear(body[:cap(body)]) }()
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return usage(http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is larger than %d bytes", maxBody))
	}
	if err != nil {
		return usage(http.StatusBadRequest, "the request could not be read")
	}
	if err = json.Unmarshal(body, v); err == nil {
		err = check(body)
	}
	if err != nil {
		return usage(http.StatusBadRequest, "the request is not understood: "+harmless(err))
	}
	return nil
}

// firstRead is how much of a body is read at first: most are smaller.
const firstRead = 4 << 10

// readAll is io.ReadAll that leaves nothing behind where its buffer grows.
func readAll(r io.Reader) ([]byte, error) {
	buf := make([]byte, 0, firstRead)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
		if len(buf) == cap(buf) {
			larger := append(make([]byte, 0, 2*cap(buf)), buf...)
			clear(buf)
			buf = larger
		}
	}
}

// unknownKeyError is a key that this version of the API has no field for.
type unknownKeyError string

func (e unknownKeyError) Error() string {
	return fmt.Sprintf("unknown field %q", string(e[:min(len(e), 64)]))
}

// keyOf is the key of a field of the struct T. The first other one ends the decoding, so
// that a body full of them costs nothing. Unlike encoding/json it does not take a key in
// capitals for a known one.
type keyOf[T any] string

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *keyOf[T]) UnmarshalText(text []byte) error {
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name == string(text) {
			*k = keyOf[T](name)
			return nil
		}
	}
	return unknownKeyError(text)
}

// member is a value as it stands in a body, not a copy.
type member []byte

// UnmarshalJSON implements json.Unmarshaler.
func (m *member) UnmarshalJSON(data []byte) error {
	*m = data
	return nil
}

// members are those of an object that must have no other keys than T.
func members[T any](object []byte) (map[keyOf[T]]member, error) {
	var all map[keyOf[T]]member
	err := json.Unmarshal(object, &all)
	return all, err
}

func checkConnectRequest(body []byte) error {
	all, err := members[ConnectRequest](body)
	if profile, ok := all["profile"]; ok && err == nil {
		_, err = members[app.Profile](profile)
	}
	return err
}

func checkAnswer(body []byte) error {
	_, err := members[Answer](body)
	return err
}

// harmless tells what is wrong with JSON without quoting from it, but for the name of an
// unknown field: names hold no secrets.
func harmless(err error) string {
	var mistyped *json.UnmarshalTypeError
	var malformed *json.SyntaxError
	var unknown unknownKeyError
	var garbled base64.CorruptInputError
	switch {
	case errors.As(err, &unknown):
		return unknown.Error()
	case errors.As(err, &mistyped):
		return fmt.Sprintf("%q must be %v", mistyped.Field, mistyped.Type)
	case errors.As(err, &malformed) && malformed.Error() == "unexpected end of JSON input":
		return "it ends too early"
	case errors.As(err, &malformed):
		return fmt.Sprintf("no JSON at byte %d", malformed.Offset)
	case errors.As(err, &garbled):
		return "a secret is no base64"
	}
	return "a value cannot be decoded"
}

package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"
)

// TestSecretNeverPrinted: whatever is done to print a secret, only Reveal tells it.
func TestSecretNeverPrinted(t *testing.T) {
	s := New("hunter2")
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T"} {
		fmt.Fprintf(&shown, verb, s)
		fmt.Fprintf(&shown, verb, &s)
		fmt.Fprintf(&shown, verb, []Text{s})
		fmt.Fprintf(&shown, verb, struct{ S Text }{s})
	}
	fmt.Fprintln(&shown, s, s.String(), errors.Join(fmt.Errorf("password %v", s)))
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		b, err := marshal(map[string]any{"password": s})
		if err != nil {
			t.Error(err)
		}
		shown.Write(b)
	}
	for _, f := range []logrus.Formatter{new(logrus.JSONFormatter), new(logrus.TextFormatter)} {
		log := logrus.New()
		log.SetOutput(&shown)
		log.SetFormatter(f)
		log.WithField("password", s).Info(s)
	}
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(shown.String(), leak) {
			t.Errorf("a secret was printed as %q in:\n%s", leak, &shown)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Errorf("Reveal: got %q", s.Reveal())
	}
}

func TestReadSecret(t *testing.T) {
	for _, test := range []struct{ in, want, err string }{
		{"hunter2", "hunter2", ""},
		{"hunter2\n", "hunter2", ""},
		{"hunter2\r\n", "hunter2", ""},
		{" spaces count ", " spaces count ", ""},
		{"", "", "it is empty: must hold the secret on one line"},
		{"\n", "", "it is empty: must hold the secret on one line"},
		{"one\ntwo\n", "", "it holds several lines or a NUL: must hold the secret on one line"},
		{"a\x00b", "", "it holds several lines or a NUL: must hold the secret on one line"},
		{strings.Repeat("x", 65535) + "\n", strings.Repeat("x", 65535), ""},
		{strings.Repeat("x", 65536), "", "it is too long: must be at most 65535 bytes"},
		{strings.Repeat("x", 70000), "", "it is too long: must be at most 65535 bytes"},
	} {
		s, err := Read(strings.NewReader(test.in))
		if s.Reveal() != test.want || fmt.Sprint(err) != test.err && (err != nil || test.err != "") {
			t.Errorf("Read(%.20q): got %.20q, %v, want %.20q, %s", test.in, s.Reveal(), err, test.want, test.err)
		}
	}
}

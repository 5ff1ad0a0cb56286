package main

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

// TestSecretNeverPrinted: whatever is done to print a secret, only reveal tells it.
func TestSecretNeverPrinted(t *testing.T) {
	s := secret{"hunter2"}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T"} {
		fmt.Fprintf(&shown, verb, s)
		fmt.Fprintf(&shown, verb, &s)
		fmt.Fprintf(&shown, verb, []secret{s})
		fmt.Fprintf(&shown, verb, struct{ S secret }{s})
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
		log := newLog(&shown)
		log.SetFormatter(f)
		log.WithField("password", s).Info(s)
	}
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(shown.String(), leak) {
			t.Errorf("a secret was printed as %q in:\n%s", leak, &shown)
		}
	}
	if s.reveal() != "hunter2" {
		t.Errorf("reveal: got %q", s.reveal())
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
		s, err := readSecret(strings.NewReader(test.in))
		if s.reveal() != test.want || fmt.Sprint(err) != test.err && (err != nil || test.err != "") {
			t.Errorf("readSecret(%.20q): got %.20q, %v, want %.20q, %s", test.in, s.reveal(), err, test.want, test.err)
		}
	}
}

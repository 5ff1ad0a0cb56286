package settings

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	s, err := Default().Parse("f", []byte("# free\npublic a/+\n\n public b \nunpaid_subscribe refuse\n"))
	if err != nil || fmt.Sprint(s.Public) != "[a/+ b]" || s.MaxAge != 24*time.Hour || s.DeferUnknown || !s.RefuseUnpaid {
		t.Errorf("Parse: got %+v, %v", s, err)
	}
	before := s
	if _, err := s.Parse("f", []byte("public c\n")); err != nil || fmt.Sprint(before.Public) != "[a/+ b]" {
		t.Errorf("Parse changed the settings that it began with: got %v, %v", before.Public, err)
	}
	for text, want := range map[string]string{
		"public a\npublic":       `f, line 2: "public": has no value; want KEY VALUE`,
		"public #/a":             `f, line 1: "public": topic filter "#/a"`,
		"max_age 1ms":            `f, line 1: "max_age": got "1ms", want a duration of a second or more`,
		"max_age 1h\nmax_age 2h": `f, line 2: "max_age": is given twice`,
		"database x":             `f, line 1: "database": unknown setting; the settings are ` + Names,
	} {
		if s, err := Default().Parse("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || s.Public != nil {
			t.Errorf("Parse(%q): got %+v, %v, want %q", text, s, err, want)
		}
	}
}

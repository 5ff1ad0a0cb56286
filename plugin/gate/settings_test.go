package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(file, []byte(" mongodb://u:hidden@h/ \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ParseOptions([]Option{{"store_uri_file", file}, {"database", "d"}, {"public", "a/+"}, {"public", "b"}, {"max_age", "90m"}, {"unknown_user", "defer"}, {"unpaid_subscribe", "refuse"}})
	if err != nil || c.storeURI != "mongodb://u:hidden@h/" || c.database != "d" || len(c.public) != 2 || c.maxAge != 90*time.Minute || !c.deferUnknown || !c.refuseUnpaid {
		t.Errorf("ParseOptions: got %+v, %v", c, err)
	}
	c, err = ParseOptions([]Option{{"store_uri", "x"}})
	if err != nil || c.database != "mosquitto" || c.maxAge != 24*time.Hour || c.deferUnknown || c.refuseUnpaid || len(c.public) != 0 {
		t.Errorf("ParseOptions: got %+v, %v, want the defaults", c, err)
	}
	uri := Option{"store_uri", "mongodb://u:hidden@h/"}
	for _, o := range []struct {
		options []Option
		want    string
	}{
		{nil, "store_uri"}, {[]Option{uri, uri}, "store_uri"}, {[]Option{uri, {"store_uri_file", file}}, "store_uri_file"},
		{[]Option{{"store_uri_file", empty}}, "store_uri_file"}, {[]Option{{"store_uri_file", "/none"}}, "store_uri_file"}, {[]Option{{"store_uri", ""}}, "store_uri"},
		{[]Option{uri, {"max_age", "0s"}}, "max_age"}, {[]Option{uri, {"max_age", "24"}}, "max_age"}, {[]Option{uri, {"max_age", "-1h"}}, "max_age"},
		{[]Option{uri, {"public", ""}}, "public"}, {[]Option{uri, {"public", "$share/g/a"}}, "public"}, {[]Option{uri, {"Public", "a"}}, "Public"}, {[]Option{uri, {"", "a"}}, ""},
	} {
		if _, err := ParseOptions(o.options); err == nil || !strings.Contains(err.Error(), "plugin_opt_"+o.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("ParseOptions(%v): got %v, want an error that names %s", o.options, err, o.want)
		}
	}
}

func TestReadSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := []Option{{"store_uri", "x"}, {"public", "a"}, {"max_age", "1h"}, {"settings_file", file}}
	c, err := ParseOptions(base)
	if err != nil {
		t.Fatal(err)
	}
	write("# comment\n\npublic b/# \r\n  public a b\nunknown_user defer")
	s, err := c.readSettings()
	if err != nil || fmt.Sprint(s.public) != "[a b/# a b]" || s.maxAge != time.Hour || !s.deferUnknown {
		t.Errorf("readSettings: got %+v, %v", s, err)
	}
	write("max_age 2h\nunknown_user deny\n")
	if s, err = c.readSettings(); err != nil || fmt.Sprint(s.public) != "[a]" || s.maxAge != 2*time.Hour || s.deferUnknown {
		t.Errorf("readSettings again: got %+v, %v", s, err)
	}
	for text, want := range map[string]string{
		"\npubic a": `, line 2: "pubic": unknown setting; the settings are public, max_age, unknown_user, unpaid_subscribe`, "public": `, line 1: "public": has no value; want KEY VALUE`,
		"public a\npublic b#": `, line 2: "public": topic filter "b#": `, "max_age 1h\nmax_age 1h": `, line 2: "max_age": is given twice`,
		"store_uri mongodb://u:hidden@h/": `, line 1: "store_uri": unknown setting`, "max_age 0s": `, line 1: "max_age": got "0s"`, "unknown_user x": `, line 1: "unknown_user": got "x"`,
		"unpaid_subscribe maybe": `, line 1: "unpaid_subscribe": got "maybe", want allow or refuse`,
	} {
		write(text)
		if _, err := c.readSettings(); err == nil || !strings.HasPrefix(err.Error(), file+want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("readSettings of %q: got %v, want %s", text, err, file+want)
		}
	}
	os.Remove(file)
	if _, err := c.readSettings(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("readSettings without a file: got %v", err)
	}
}

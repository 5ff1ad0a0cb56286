package tangle

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseMessage(t *testing.T) {
	for _, test := range []struct {
		text string
		want Message
	}{
		{`{"username": "john"}`, Message{Username: "john"}},
		{`{"username":"john","offer":"live"}`, Message{Username: "john", Offer: "live"}},
		{" \r\n\t{ \"offer\" : \"live\" , \"username\" : \"john\" } \n", Message{Username: "john", Offer: "live"}},
		{`{"username": "jöhn \u00e9 + # /"}`, Message{Username: "jöhn é + # /"}},
		{`{"\u0075sername": "john"}`, Message{Username: "john"}},
		{`{"username": "john", "note": {"username": "eve", "x": [1, 2, {"offer": 3}]}, "n": 1e9}`, Message{Username: "john"}},
		{`{"username": "john", "USERNAME": "eve", "Offer": 3}`, Message{Username: "john"}},
		{`{"signup": "AWY-"}`, Message{Signup: "AWY-"}},
		{`{"signup": "AWY-", "offer": "live", "username": "john"}`, Message{Username: "john", Offer: "live", Signup: "AWY-"}},
		{`{"username": "\ud83d\ude00"}`, Message{Username: "😀"}},
	} {
		if got, err := ParseMessage([]byte(test.text)); err != nil || got != test.want {
			t.Errorf("ParseMessage(%s): got %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
}

func TestParseMessageRefuses(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "there is no message"},
		{" \n", "there is no message"},
		{"john", "not a JSON object"},
		{`"john"`, "not a JSON object"},
		{`["username", "john"]`, "not a JSON object"},
		{`null`, "not a JSON object"},
		{"\xef\xbb\xbf{}", "not a JSON object"},
		{`{}`, "names no username"},
		{`{"offer": "live"}`, "names no username"},
		{`{"Username": "john"}`, "names no username"},
		{`{"user\u017fname": "john"}`, "names no username"},
		{`{"u\u017fername": "john"}`, "names no username"}, // ſ folds to s
		{`{"username": "john"`, "not JSON"},
		{`{"username": "john",}`, "not JSON"},
		{`{"username": "john" "offer": "live"}`, "not JSON"},
		{`{"username": john}`, "not JSON"},
		{`{'username': 'john'}`, "not JSON"},
		{`{username: "john"}`, "not JSON"},
		{`{"username": "john"}}`, "trailing data"},
		{`{"username": "john"}{"username": "eve"}`, "trailing data"},
		{`{"username": "john"} eve`, "trailing data"},
		{"{\"username\": \"john\"}\x00", "trailing data"},
		{`{"username": "john", "username": "john"}`, `"username" twice`},
		{`{"username": "john", "\u0075sername": "eve"}`, `"username" twice`},
		{`{"username": "john", "x": 1, "x": 1}`, `"x" twice`},
		{`{"username": 5}`, "not a string"},
		{`{"signup": "AWY-", "signup": "AWY-"}`, `"signup" twice`},
		{`{"username": "john", "signup": ""}`, `"signup" is empty`},
		{`{"signup": ["AWY-"]}`, `"signup" is not a string`},
		{`{"Signup": "AWY-"}`, "names no username"},
		{`{"username": null}`, "not a string"},
		{`{"username": ["john"]}`, "not a string"},
		{`{"username": ""}`, "is empty"},
		{`{"username": "john", "offer": ""}`, "is empty"},
		{`{"username": "john", "offer": null}`, "not a string"},
		{`{"username": "jo\u0000hn"}`, "NUL"},
		{`{"username": "\ud800"}`, "does not exist"},
		{"{\"username\": \"jo\nhn\"}", "not JSON"},
		{"{\"username\": \"j\xf6hn\"}", "not UTF-8"},
		{"{\"username\": \"\xed\xa0\x80\"}", "not UTF-8"},
		{`{"username": "` + strings.Repeat("j", 4096) + `"}`, "4112 bytes"},
		{strings.Repeat("[", 4096), "not a JSON object"},
		{`{"x": ` + strings.Repeat("[", 4000), "not JSON"},
	} {
		got, err := ParseMessage([]byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("ParseMessage(%.80q): got %+v, %v, want an error with %q", test.text, got, err, test.want)
		}
	}
}

// FuzzParseMessage holds that what is accepted is one JSON object that every
// other reader would understand in the same way.
func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"username": "john"}`))
	f.Add([]byte(`{"username": "john", "offer": "live", "x": [1, {"y": null}]}`))
	f.Add([]byte(`{"username": "john", "username": "eve"}`))
	f.Add([]byte(`{"signup": "AWY-", "offer": "live"}`))
	f.Add([]byte(`{"\u0075sername":"\ud83d\ude00"}x`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ParseMessage(text)
		if err != nil {
			if got != (Message{}) {
				t.Errorf("ParseMessage(%q): got %+v beside an error", text, got)
			}
			return
		}
		var other map[string]any
		if err := json.Unmarshal(text, &other); err != nil {
			t.Fatalf("ParseMessage(%q): accepted, but encoding/json says %v", text, err)
		}
		for name, field := range map[string]string{"username": got.Username, "offer": got.Offer, "signup": got.Signup} {
			if value, ok := other[name]; ok && value != field || !ok && field != "" {
				t.Errorf("ParseMessage(%q): got %s %q, encoding/json %q", text, name, field, value)
			}
		}
		if got.Username == "" && got.Signup == "" || !utf8.ValidString(got.Username) || strings.ContainsAny(got.Username, "\x00\uFFFD") {
			t.Errorf("ParseMessage(%q): got username %q", text, got.Username)
		}
	})
}

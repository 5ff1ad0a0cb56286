package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// What strangers wrote is neither a formula in a spreadsheet nor an order to a
// terminal.
func TestCell(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "john": "john", `{"username": "john"}`: `{"username": "john"}`, "a=1": "a=1", "é 世": "é 世",
		"=HYPERLINK(1)": "'=HYPERLINK(1)", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\t=1": "'\t=1", "\n=1": "'\n=1", "＝1": "'＝1",
		"\r=1": "\uFFFD=1", "a\x1b[2J": "a\uFFFD[2J", "a\u202Eb": "a\uFFFDb", "\x9b1m": "\uFFFD1m",
	} {
		if got := cell(in); got != want {
			t.Errorf("cell(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestPrintJSON(t *testing.T) {
	for in, want := range map[string]string{
		"john": `"john"`, "é": `"é"`, "a\x1b[2J": `"a\u001b[2J"`, "a\u009bm": `"a\u009bm"`, "a\u202Eb": `"a\u202eb"`, "\U000E0041": `"\udb40\udc41"`,
	} {
		var out bytes.Buffer
		if err := printJSON(console{out: &out}, in); err != nil || out.String() != want+"\n" {
			t.Errorf("printJSON(%q): got %q, %v, want %s", in, out.String(), err, want)
		}
		var back string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != in {
			t.Errorf("printJSON(%q) reads back as %q, %v", in, back, err)
		}
	}
}

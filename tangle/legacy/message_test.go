package legacy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/iotaledger/iota.go/encoding/ascii"
)

const fragment = 2187 // trytes of a transaction's message

// text collects trytes as they come from transactions of a bundle, padded.
func text(trytes string) *trytesText {
	t := new(trytesText)
	for first := true; first || trytes != ""; first = false {
		n := min(len(trytes), fragment)
		t.add(trytes[:n] + strings.Repeat("9", fragment-n))
		trytes = trytes[n:]
	}
	return t
}

// TestDecode: what is not exactly in the encoding is unreadable, and kept as it
// came.
func TestDecode(t *testing.T) {
	for _, test := range []struct{ name, trytes, text, unreadable string }{
		{"nothing", "", "", ""},
		{"john", pairs(fromJohn), fromJohn, ""},
		{"a line feed ends in a nine", pairs("{}\n"), "{}\n", ""},
		{"UTF-8, a byte a pair", pairs("Ondřej"), "Ondřej", ""},
		{"ř as one pair of value 345", pairs(`{"username": "Ond`) + "UL" + pairs(`ej"}`), "", "character 18 of the message, trytes UL"},
		{"the greatest byte", "LI", "\xff", ""},
		{"one more", "MI", "", "character 1 of the message, trytes MI"},
		{"the greatest pair", "ZZ", "", "character 1 of the message, trytes ZZ"},
		{"a nine within", "A99A", "\x01\x1b", ""},
		{"half a character", strings.Repeat("GA", fragment/2) + "G", "", "in the middle of a character"},
		{"a character in two fragments", strings.Repeat("GA", fragment/2+1), strings.Repeat(`"`, fragment/2+1), ""},
		{"too long", strings.Repeat("GA", 10000), strings.Repeat(`"`, maxMessage/2), "the message has 10000 bytes, more than 8192"},
	} {
		got := text(test.trytes).decode()
		wantText := test.text
		if test.unreadable != "" && wantText == "" {
			wantText = strings.TrimRight(test.trytes, "9")
		}
		if string(got.text) != wantText || (got.unreadable == "") != (test.unreadable == "") || !strings.Contains(got.unreadable, test.unreadable) {
			t.Errorf("%s: got %.100q, %q, want %.100q, %q", test.name, got.text, got.unreadable, wantText, test.unreadable)
		}
	}
}

// pairs encodes any bytes.
func pairs(text string) string {
	const alphabet = "9ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	var trytes []byte
	for _, c := range []byte(text) {
		trytes = append(trytes, alphabet[c%27], alphabet[c/27])
	}
	return string(trytes)
}

// FuzzDecode: a message that can be read encodes to the very trytes that it was
// decoded from, but for padding, wherever it is divided between transactions.
func FuzzDecode(f *testing.F) {
	encoded, err := ascii.EncodeToTrytes(fromJohn)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add("")
	f.Add("ZZ9")
	f.Add(strings.Repeat("GA", 5000))
	f.Fuzz(func(t *testing.T, trytes string) {
		if strings.Trim(trytes, "9ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return
		}
		m := text(trytes).decode()
		if m.unreadable != "" {
			return
		}
		if got, want := strings.TrimRight(pairs(string(m.text)), "9"), strings.TrimRight(trytes, "9"); got != want {
			t.Errorf("decode(%q): got %q, which encodes to %q", trytes, m.text, got)
		}
	})
}

func TestJoin(t *testing.T) {
	john, mary := message{text: []byte("john")}, message{text: []byte("mary")}
	odd := message{[]byte("ZZ"), "not in the encoding"}
	for _, test := range []struct {
		messages         []message
		text, unreadable string
	}{
		{nil, "", ""},
		{[]message{{}, john, john}, "john", ""},
		{[]message{mary, john}, "john" + doubt + "mary", "2 different messages"},
		{[]message{odd, {}}, "ZZ", "not in the encoding"},
		{[]message{john, odd}, "ZZ" + doubt + "john", "2 different messages"},
	} {
		got := join(test.messages)
		if !bytes.Equal(got.text, []byte(test.text)) || !strings.Contains(got.unreadable, test.unreadable) || (got.unreadable == "") != (test.unreadable == "") {
			t.Errorf("join(%v): got %q, %q, want %q, %q", test.messages, got.text, got.unreadable, test.text, test.unreadable)
		}
	}
}

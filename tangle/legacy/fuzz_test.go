package legacy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/encoding/ascii"
	"github.com/iotaledger/iota.go/trinary"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// answering is an http.RoundTripper that gives the same answer to everything.
type answering []byte

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(a))}, nil
}

// FuzzAnswer lets a node answer anything, to everything. It must neither end the
// process nor make up a payment: there is no transaction in the corpus.
func FuzzAnswer(f *testing.F) {
	nines := strings.Repeat("9", 2673)
	hash := strings.Repeat("A", 81)
	for _, seed := range []string{
		`{}`, `null`, `{"error":"x"}`, `{"hashes":[]}`,
		`{"hashes":["` + hash + `"],"states":[true],"trytes":["` + nines + `"],"balances":["5"],"milestoneIndex":7,"latestMilestoneIndex":7,"latestSolidSubtangleMilestoneIndex":7,"confirmedTxWithValue":[]}`,
		`{"hashes":[],"states":[],"trytes":[],"balances":["0"],"milestoneIndex":7,"latestMilestoneIndex":7,"latestSolidSubtangleMilestoneIndex":7,"isSynced":true}`,
	} {
		f.Add([]byte(seed))
	}
	address := addressOf(f, janeSeed, 0)
	f.Fuzz(func(t *testing.T, answer []byte) {
		logger, _ := logtest.NewNullLogger()
		l, err := New(Config{Nodes: []string{"http://node"}, Addresses: []string{address}, Log: logger, Timeout: time.Second, Client: &http.Client{Transport: answering(answer)}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if payments, _, _ := confirmed(l, t.Context()); len(payments) != 0 {
				t.Errorf("answer %q: got %v", answer, payments)
			}
		}
	})
}

// FuzzDecode holds that a message comes out as it was encoded, wherever it is
// divided between transactions.
func FuzzDecode(f *testing.F) {
	f.Add(fromJohn)
	f.Add("")
	f.Add("a")
	f.Add(strings.Repeat("x", maxMessage+1))
	f.Fuzz(func(t *testing.T, text string) {
		trytes, err := ascii.EncodeToTrytes(text)
		if err != nil {
			return
		}
		padded := trytes + strings.Repeat("9", 2187-len(trytes)%2187)
		want := strings.TrimRight(text, "\x00")
		if got := decode([]byte(padded)); string(got) != want[:min(len(want), maxMessage)] {
			t.Errorf("decode(%q): got %q", text, got)
		}
	})
}

// FuzzParse holds that no trytes end the process, and that a hash is that of the
// trytes, not of what iota.go would write in their place.
func FuzzParse(f *testing.F) {
	f.Add(strings.Repeat("9", 2673))
	f.Add(strings.Repeat("A", 2279) + strings.Repeat("9", 16) + strings.Repeat("M", 378))
	f.Add("")
	f.Fuzz(func(t *testing.T, trytes string) {
		hash, err := hashOf(trytes)
		if err != nil {
			return
		}
		parsed, err := parse(trytes, hash)
		if err != nil {
			return
		}
		if trinary.ValidTrytes(parsed.Hash) != nil || len(parsed.Hash) != 81 {
			t.Errorf("parse: got hash %q", parsed.Hash)
		}
		if b, err := assemble(parsed, nil); err == nil {
			_ = valid(b)
			effects(b, map[trinary.Hash]bool{parsed.Address: true})
		}
		if _, err := json.Marshal(claimed(parsed)); err != nil {
			t.Errorf("parse: a time of %s", fmt.Sprint(claimed(parsed)))
		}
	})
}

package legacy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// answering is an http.RoundTripper that gives the same answer to everything.
type answering []byte

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(a))}, nil
}

// FuzzAnswer gives the same answer to every request. It must neither end the process
// nor make up a payment: there is no transaction in the corpus.
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

// FuzzBundle holds that no transaction ends the process.
func FuzzBundle(f *testing.F) {
	f.Add(strings.Repeat("9", 2673))
	f.Add(strings.Repeat("A", 2279) + strings.Repeat("9", 16) + strings.Repeat("M", 378))
	f.Fuzz(func(t *testing.T, trytes string) {
		parsed, err := transaction.AsTransactionObject(trytes, strings.Repeat("A", 81))
		if err != nil {
			return
		}
		if b, err := assemble(parsed, nil); err == nil {
			_ = valid(b)
			effects(b, map[trinary.Hash]bool{parsed.Address: true})
		}
		if _, err := json.Marshal(claimed(parsed)); err != nil {
			t.Errorf("claimed: got a time of %v", claimed(parsed))
		}
	})
}

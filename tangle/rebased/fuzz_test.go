package rebased

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
)

// script answers requests with texts, one after another, the last one for ever.
type script struct {
	answers []string
	asked   int
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body := s.answers[min(s.asked, len(s.answers)-1)]
	s.asked++
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// pollAnswer is an answer to a poll of one address.
func pollAnswer(tip, previous string, blocks ...string) string {
	return `{"data":{"chainIdentifier":"2304aa97","checkpoint":{"sequenceNumber":` + tip + `,"timestamp":"2026-11-26T17:00:00Z"},"mark":null,
		"a0":{"pageInfo":{"hasPreviousPage":` + previous + `,"startCursor":"c"},"nodes":[` + strings.Join(blocks, ",") + `]}}}`
}

// FuzzAnswers: no answer makes the ledger panic, read on for ever, return what is
// no payment to us, or move a mark back or beyond the tip that it was told.
func FuzzAnswers(f *testing.F) {
	const digest, another = `"8j7hjSupWgbaNiYSiDMLLTXjEHbER2Ch7gdBYBxYqMwV"`, `"2er7C7AakCC9bFK9v9skRgPVnmd9i8Ky5hb5i4PkUWnE"`
	good := strings.Replace(block("SUCCESS", change(jane, long, "5000")), `"D"`, digest, 1)
	f.Add(pollAnswer("9", "false", good), pollAnswer("9", "false", good))
	f.Add(pollAnswer("9", "true", good), pollAnswer("9", "true", strings.ReplaceAll(good, digest, another)))
	f.Add(pollAnswer("9", "false", strings.Replace(good, `"effects":{`, `"x":{`, 1)), `{"data":{"chainIdentifier":"2304aa97","t0":`+good+`}}`)
	f.Add(pollAnswer("9", "false", strings.Replace(good, `"hasNextPage":false,"endCursor":null`, `"hasNextPage":true,"endCursor":"c"`, 1)), `{"data":{"chainIdentifier":"2304aa97","t0":`+good+`}}`)
	f.Add(`{"data":null,"errors":[{"message":"unknown field \"affectedAddress\""}]}`, pollAnswer("9", "false", good))
	f.Add(`{"data":{"chainIdentifier":"2304aa97","checkpoint":null}}`, `{}`)
	f.Add(pollAnswer("-1", "false"), pollAnswer("9223372036854775807", "false", strings.Replace(good, `:7}`, `:9223372036854775807}`, 1)))
	f.Fuzz(func(t *testing.T, a, b string) {
		s := &script{answers: []string{a, b, b, b, `{"data":null}`}}
		log := logrus.New()
		log.SetOutput(io.Discard)
		clock := time.Unix(1_800_000_000, 0)
		l, err := New(Config{Nodes: []string{"http://node.test"}, Addresses: []string{jane}, Client: &http.Client{Transport: s}, Log: log, Now: func() time.Time { return clock }})
		if err != nil {
			t.Fatal(err)
		}
		marks := map[string]tangle.Mark{jane: {Chain: "2304aa97", Position: 3}}
		for range 4 {
			batch, _ := l.Confirmed(t.Context(), marks)
			for _, p := range batch.Payments {
				if p.Amount <= 0 || p.Address != jane || p.Position <= 3 || p.Ledger != "iota" || p.Final.IsZero() || !strings.HasSuffix(p.ID, "/"+jane) {
					t.Errorf("payment is %+v", p)
				}
			}
			for address, m := range batch.Marks {
				if address != jane || m.Position < marks[jane].Position || m.Chain != "2304aa97" {
					t.Errorf("mark is %+v, was %+v", m, marks[jane])
				}
				marks[jane] = m
			}
			l.Balances(t.Context())
			l.Health()
			clock = clock.Add(15 * time.Second)
		}
		if s.asked > 10_000 {
			t.Errorf("%d requests", s.asked)
		}
	})
}

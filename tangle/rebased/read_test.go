package rebased

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

const jane = "0xabababababababababababababababababababababababababababababababab"

var (
	long  = "0x" + strings.Repeat("0", 63) + "2::iota::IOTA"
	other = "0x" + strings.Repeat("cd", 32)
)

func inputs(all ...txn.Pure) (in []struct{ Bytes *string }) {
	for _, p := range all {
		var bytes *string
		if p != nil {
			text := base64.StdEncoding.EncodeToString(p)
			bytes = &text
		}
		in = append(in, struct{ Bytes *string }{bytes})
	}
	return in
}

func TestMemo(t *testing.T) {
	john, mary := txn.PureString(`{"username": "john"}`), txn.PureString(`{"username":"mary"}`)
	for name, test := range map[string]struct {
		inputs []txn.Pure
		want   string // the username; empty if there is no message
		held   bool
	}{
		"none":              {},
		"amount and to":     {inputs: []txn.Pure{txn.PureU64(500), txn.PureAddress(txn.Address{1})}},
		"third":             {inputs: []txn.Pure{txn.PureU64(500), txn.PureAddress(txn.Address{1}), john}, want: "john"},
		"first":             {inputs: []txn.Pure{john, txn.PureU64(500)}, want: "john"},
		"after an object":   {inputs: []txn.Pure{nil, john}, want: "john"},
		"after other text":  {inputs: []txn.Pure{txn.PureString("hello"), txn.PureString(`{"order": 7}`), john}, want: "john"},
		"twice the same":    {inputs: []txn.Pure{john, txn.PureString(`{"username":"john"}`)}, want: "john"},
		"two of them":       {inputs: []txn.Pure{john, mary}, held: true},
		"two offers":        {inputs: []txn.Pure{john, txn.PureString(`{"username":"john","offer":"live"}`)}, held: true},
		"three of them":     {inputs: []txn.Pure{john, john, mary}, held: true},
		"without length":    {inputs: []txn.Pure{txn.Pure(`{"username": "john"}`)}},
		"not UTF-8":         {inputs: []txn.Pure{txn.PureString("{\"username\": \"j\xff\"}")}},
		"names one twice":   {inputs: []txn.Pure{txn.PureString(`{"username":"john","username":"mary"}`)}, held: true},
		"text around it":    {inputs: []txn.Pure{txn.PureString(`pay {"username": "john"}`)}},
		"longer than 4 KiB": {inputs: []txn.Pure{txn.PureString(`{"username": "john"}` + strings.Repeat(" ", 4096))}, held: true},
	} {
		message, err := memo(inputs(test.inputs...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, err := tangle.ParseMessage(message)
		if (err == nil) != (test.want != "") || m.Username != test.want || test.held != (err != nil && len(message) > 0) {
			t.Errorf("%s: got message %q, %v, want %q, held %t", name, message, err, test.want, test.held)
		}
	}
	bad := "***"
	if _, err := memo([]struct{ Bytes *string }{{&bad}}); err == nil {
		t.Error("not base64: got no error")
	}
}

// change is a balance change in JSON.
func change(owner, coin, amount string) string {
	return fmt.Sprintf(`{"amount":%q,"coinType":{"repr":%q},"owner":{"address":%q}}`, amount, coin, owner)
}

// block is a transaction in JSON.
func block(status string, changes ...string) string {
	return fmt.Sprintf(`{"digest":"D","sender":{"address":%q},"kind":{"inputs":{"nodes":[{"bytes":%q},{}]}},
		"effects":{"status":%q,"timestamp":"2026-11-26T17:00:00.123Z","checkpoint":{"sequenceNumber":7},
		"balanceChanges":{"pageInfo":{"hasNextPage":false,"endCursor":null},"nodes":[%s]}}}`,
		other, base64.StdEncoding.EncodeToString(txn.PureString(`{"username":"john"}`)), status, strings.Join(changes, ","))
}

func TestRead(t *testing.T) {
	to, err := txn.ParseAddress(jane)
	if err != nil {
		t.Fatal(err)
	}
	const short = "0x2::iota::IOTA"
	for name, test := range map[string]struct {
		json   string
		amount int64
		more   bool
		fails  bool
		err    error
	}{
		"payment":           {json: block("SUCCESS", change(other, long, "-7000"), change(jane, long, "5000")), amount: 5000},
		"short type":        {json: block("SUCCESS", change(jane, short, "5000")), amount: 5000},
		"upper case":        {json: block("SUCCESS", change(strings.ToUpper(jane), "0X2::iota::IOTA", "5000")), amount: 5000},
		"1 nano":            {json: block("SUCCESS", change(jane, long, "1")), amount: 1},
		"greatest":          {json: block("SUCCESS", change(jane, long, "9223372036854775807")), amount: 9223372036854775807},
		"too great":         {json: block("SUCCESS", change(jane, long, "9223372036854775808")), fails: true},
		"sum too great":     {json: block("SUCCESS", change(jane, long, "9223372036854775807"), change(jane, long, "1")), fails: true},
		"far too great":     {json: block("SUCCESS", change(jane, long, strings.Repeat("9", 10000))), fails: true},
		"no number":         {json: block("SUCCESS", change(jane, long, "0x10")), fails: true},
		"sweep":             {json: block("SUCCESS", change(jane, long, "-5000"), change(other, long, "4000")), amount: -5000},
		"failed":            {json: block("FAILURE", change(jane, long, "5000"))},
		"unknown status":    {json: block("MAYBE", change(jane, long, "5000")), fails: true},
		"another coin":      {json: block("SUCCESS", change(jane, other+"::iota::IOTA", "5000000000"))},
		"LP of IOTA":        {json: block("SUCCESS", change(jane, other+"::pool::LP<0x2::iota::IOTA>", "5000000000"))},
		"type not readable": {json: block("SUCCESS", change(jane, "IOTA", "5000000000"), change(jane, long, "5000")), amount: 5000},
		"somebody else's":   {json: block("SUCCESS", change(other, long, "5000"))},
		"owner not known":   {json: block("SUCCESS", `{"amount":"5","coinType":{"repr":"0x2::iota::IOTA"},"owner":null}`, change(jane, long, "5000")), amount: 5000},
		"no balance change": {json: block("SUCCESS")},
		"more pages":        {json: strings.Replace(block("SUCCESS", change(other, long, "5000")), `"hasNextPage":false`, `"hasNextPage":true`, 1), more: true},
		"ours was on this page": {
			json: strings.Replace(block("SUCCESS", change(jane, long, "5000")), `"hasNextPage":false`, `"hasNextPage":true`, 1), amount: 5000,
		},
		"not checkpointed": {json: strings.Replace(block("SUCCESS", change(jane, long, "5000")), `{"sequenceNumber":7}`, `null`, 1), err: errPending},
		"effects missing":  {json: `{"digest":"D","sender":null,"kind":null,"effects":null}`, err: errIncomplete},
		"kind missing":     {json: strings.Replace(block("SUCCESS", change(jane, long, "5000")), `"kind":{"inputs"`, `"x":{"inputs"`, 1), err: errIncomplete},
		"amount missing": {
			json: block("SUCCESS", fmt.Sprintf(`{"amount":null,"coinType":{"repr":"0x2::iota::IOTA"},"owner":{"address":%q}}`, jane)), err: errIncomplete,
		},
		"type missing": {json: block("SUCCESS", fmt.Sprintf(`{"amount":"5","coinType":null,"owner":{"address":%q}}`, jane)), err: errIncomplete},
		"time":         {json: strings.Replace(block("SUCCESS", change(jane, long, "5000")), "2026-11-26T17:00:00.123Z", "yesterday", 1), fails: true},
	} {
		var tx transaction
		if err := json.Unmarshal([]byte(test.json), &tx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, more, err := tx.read(to)
		switch {
		case test.err != nil || test.fails:
			if err == nil || test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("%s: got %+v, %v, want the error %v", name, r, err, test.err)
			}
		case err != nil || r.amount != test.amount || more != test.more:
			t.Errorf("%s: got %d, more %t, %v, want %d, %t", name, r.amount, more, err, test.amount, test.more)
		case r.amount > 0:
			p := r.payment(jane, time.Unix(1, 0))
			if p.ID != "D/"+jane || p.Position != 7 || p.Sender != other || p.Reference != other || p.Ledger != "iota" || p.Address != jane ||
				!p.Final.Equal(time.Date(2026, 11, 26, 17, 0, 0, 123e6, time.UTC)) {
				t.Errorf("%s: payment is %+v", name, p)
			}
			if want := `{"username":"john"}`; r.amount >= dust && string(p.Message) != want || r.amount < dust && p.Message != nil {
				t.Errorf("%s: message is %q", name, p.Message)
			}
		}
	}
}

func TestNotation(t *testing.T) {
	n := Notation{}
	if n.Ledger() != "iota" {
		t.Errorf("ledger: got %q", n.Ledger())
	}
	if a, err := n.ParseAddress(strings.ToUpper(jane)); err != nil || a != jane {
		t.Errorf("address: got %s, %v", a, err)
	}
	for _, text := range []string{"0x2", jane[2:], "0x" + strings.Repeat("0", 64)} {
		if _, err := n.ParseAddress(text); err == nil {
			t.Errorf("address %q: got no error", text)
		}
	}
	if v, err := n.Currency().Parse("0.5 IOTA"); err != nil || v != 500_000_000 {
		t.Errorf("0.5 IOTA: got %d, %v", v, err)
	}
	if _, err := NetworkByName("moonnet"); err == nil || !strings.Contains(err.Error(), "devnet, local, mainnet, testnet") {
		t.Errorf("moonnet: got %v", err)
	}
}

func FuzzMemo(f *testing.F) {
	f.Add([]byte(txn.PureString(`{"username":"john"}`)), []byte(txn.PureString(`{"username":"mary"}`)))
	f.Add([]byte{8, 0}, []byte(nil))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		message, err := memo(inputs(txn.Pure(a), txn.Pure(b)))
		if err != nil {
			t.Fatal(err)
		}
		m, err := tangle.ParseMessage(message)
		if len(message) == 0 || err != nil {
			return
		}
		// A message that settles was said, and nothing else was.
		for _, p := range []txn.Pure{a, b} {
			if text, ok := p.Text(); ok {
				if other, err := tangle.ParseMessage(text); err == nil && other != m {
					t.Errorf("got %+v, but there is %+v as well", m, other)
				}
			}
		}
	})
}

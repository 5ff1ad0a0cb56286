package buyer_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/buyer"
	"github.com/iotoll/iotoll/tangle/rebased"
)

var now = time.Date(2026, 11, 26, 15, 42, 7, 0, time.UTC)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("../../docs/account.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func conforms(s *jsonschema.Schema, document []byte) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(document)))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

func books(t *testing.T) buyer.Books {
	t.Helper()
	live, err := acl.ParseFilter("sensor/live")
	if err != nil {
		t.Fatal(err)
	}
	return buyer.Books{
		Username: "john", Currency: rebased.Notation{}.Currency(),
		Offers: []tangle.Offer{{ID: "live", Filters: []acl.Filter{live}, Price: 500_000_000, Period: 90 * time.Minute, Address: "0xjane"}},
	}
}

// Each document that serve can publish conforms to the schema and is read as it was
// written.
func TestAccount(t *testing.T) {
	s := schema(t)
	entry := tangle.Entry{Seq: 1, Kind: tangle.Paid, Payment: "p", Offer: "live", Amount: 1, NotBefore: now.Add(-time.Minute), NotAfter: now, End: now, At: now}
	for _, test := range []struct {
		name    string
		change  func(*buyer.Books)
		state   buyer.State
		notices string // their kinds
		next    time.Duration
	}{
		{"nothing", func(*buyer.Books) {}, buyer.None, "", 0},
		{"credit", func(b *buyer.Books) {
			b.Heads = map[string]tangle.Entry{"live": {Seq: 1, Kind: tangle.Paid, Credit: 1}}
		}, buyer.None, "underpaid", 0},
		{"credit above a price that fell", func(b *buyer.Books) {
			b.Heads = map[string]tangle.Entry{"live": {Seq: 1, Kind: tangle.Paid, Credit: 600_000_000}}
		}, buyer.None, "", 0},
		{"long", func(b *buyer.Books) {
			b.Heads = map[string]tangle.Entry{"live": {Seq: 1, Kind: tangle.Paid, End: now.Add(time.Hour)}}
		}, buyer.Open, "", 55 * time.Minute},
		{"short", func(b *buyer.Books) {
			b.Heads = map[string]tangle.Entry{"live": {Seq: 1, Kind: tangle.Paid, End: now.Add(5 * time.Minute)}}
		}, buyer.Open, "ending", 5 * time.Minute},
		{"over, with a receipt", func(b *buyer.Books) {
			b.Heads, b.Paid = map[string]tangle.Entry{"live": entry}, entry
		}, buyer.Ended, "ended", 0},
		{"another's, who was removed", func(b *buyer.Books) {
			b.Heads = map[string]tangle.Entry{"live": {Seq: 2, Kind: tangle.Closed, End: now}}
		}, buyer.None, "", 0},
		{"held", func(b *buyer.Books) {
			b.Held = []buyer.HeldPayment{{Payment: tangle.Payment{ID: "p", Amount: 1, Seen: now}, Reason: "there is no message"}}
		}, buyer.None, "held", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := books(t)
			test.change(&b)
			a, next := buyer.NewAccount(b, now)
			text, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			if err := conforms(s, text); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			if read, err := buyer.ParseAccount(text); err != nil || !reflect.DeepEqual(read, a) {
				t.Errorf("ParseAccount: got %+v, %v, want %+v", read, err, a)
			}
			var kinds []string
			for _, n := range a.Notices {
				kinds = append(kinds, string(n.Kind))
			}
			if got := strings.Join(kinds, " "); got != test.notices || a.Offers[0].State != test.state {
				t.Errorf("got %q, %s, want %q, %s", got, a.Offers[0].State, test.notices, test.state)
			}
			if test.next == 0 && !next.IsZero() || test.next != 0 && next.Sub(now) != test.next {
				t.Errorf("next change: got %s, want %s", next, test.next)
			}
		})
	}
}

// The schema refuses what breaks its promises.
func TestAccountSchema(t *testing.T) {
	s := schema(t)
	const good = `{"v":1,"username":"john","held":[],"notices":[],"offers":[{"id":"live","topics":["a"],"state":"open","until":"2026-11-26T15:42:07Z",` +
		`"credit":"0","renewal":"0.5","price":"0.5","unit":"IOTA","period_seconds":3600,"address":"0x1","how":"{}"}]}`
	if err := conforms(s, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2]string{{`"v":1`, `"v":2`}, {`"credit":"0"`, `"credit":0`}, {`"open"`, `"none"`}, {`"open"`, `"on"`}, {`,"until":"2026-11-26T15:42:07Z"`, ``}, {`T15:42:07Z`, ``}} {
		if err := conforms(s, []byte(strings.Replace(good, bad[0], bad[1], 1))); err == nil {
			t.Errorf("%s in place of %s: got no error", bad[1], bad[0])
		}
	}
}

func TestAccountTopic(t *testing.T) {
	for name, want := range map[string]bool{"john": true, "jürgen": true, "john doe": true, "": false, "a/b": false, "+": false, "#": false, "a\x00": false} {
		if topic, ok := buyer.AccountTopic(name); ok != want || ok && topic != "iotoll/account/"+name {
			t.Errorf("AccountTopic(%q): got %q, %t", name, topic, ok)
		}
	}
}

// Whatever is published, reading it neither panics nor yields another version.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"v":1,"offers":[{"id":"live","amount":"1","period_seconds":3600}]}`))
	f.Add([]byte(`{"v":1,"username":"john","offers":[{"until":"2026-11-26T15:42:07Z","period_seconds":1e308}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if o, err := buyer.ParseOffers(text); err == nil {
			for _, one := range o.Offers {
				if o.Version != 1 || one.Period() < 0 {
					t.Errorf("ParseOffers: got %+v", o)
				}
			}
		}
		if a, err := buyer.ParseAccount(text); err == nil && a.Version != 1 {
			t.Errorf("ParseAccount: got %+v", a)
		}
	})
}

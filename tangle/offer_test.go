package tangle

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
)

func offer(t testing.TB, id, topic, address string, former ...string) Offer {
	t.Helper()
	f, err := acl.ParseFilter(topic)
	if err != nil {
		t.Fatal(err)
	}
	return Offer{ID: id, Filters: []acl.Filter{f}, Price: 500, Period: time.Hour, Address: address, Former: former}
}

func TestOfferValidate(t *testing.T) {
	good := offer(t, "live-2", "sensor/live", "A", "B")
	if err := good.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	for _, test := range []struct {
		want string
		make func(*Offer)
	}{
		{"id", func(o *Offer) { o.ID = "" }},
		{"id", func(o *Offer) { o.ID = "Live" }},
		{"id", func(o *Offer) { o.ID = "a/b" }},
		{"id", func(o *Offer) { o.ID = "ä" }},
		{"id", func(o *Offer) { o.ID = strings.Repeat("a", 65) }},
		{"topics: required", func(o *Offer) { o.Filters = nil }},
		{"filter is empty", func(o *Offer) { o.Filters = []acl.Filter{{}} }},
		{"price: 0", func(o *Offer) { o.Price = 0 }},
		{"price: -5", func(o *Offer) { o.Price = -5 }},
		{"period: 0s", func(o *Offer) { o.Period = 0 }},
		{"period: -1h", func(o *Offer) { o.Period = -time.Hour }},
		{"whole milliseconds", func(o *Offer) { o.Period = time.Hour + 1 }},
		{"address: required", func(o *Offer) { o.Address = "" }},
		{"former: an address is empty", func(o *Offer) { o.Former = []string{""} }},
	} {
		o := good
		test.make(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Validate(%+v): got %v, want an error with %q", o, err, test.want)
		}
	}
}

func TestOffers(t *testing.T) {
	if _, err := NewOffers(); err == nil {
		t.Error("NewOffers(): got no error")
	}
	_, err := NewOffers(offer(t, "a", "x", "A"), offer(t, "a", "x", "B"), Offer{ID: "b"})
	for _, want := range []string{"used twice", `offer "b"`, "price: 0", "topics: required"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewOffers: got %v, want an error with %q", err, want)
		}
	}
	s, err := NewOffers(offer(t, "live", "sensor/live", "A", "OLD"), offer(t, "gold", "sensor/#", "A"), offer(t, "fan", "fan", "B", "OLD2", "B"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Addresses(), []string{"A", "B", "OLD", "OLD2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Addresses: got %q, want %q", got, want)
	}
	for _, test := range []struct{ address, named, want, reason string }{
		{"B", "", "fan", ""},
		{"B", "fan", "fan", ""},
		{"OLD", "", "live", ""},
		{"OLD", "live", "live", ""},
		{"OLD2", "", "fan", ""},
		{"A", "gold", "gold", ""},
		{"A", "live", "live", ""},
		{"A", "", "live", ""},
		{"A", "fan", "", "not sold at this address"},
		{"OLD", "gold", "", "not sold at this address"},
		{"A", "silver", "", "does not exist"},
		{"C", "", "", "no offer uses this address"},
	} {
		o, reason := s.choose(test.address, test.named)
		if o.ID != test.want || !strings.Contains(reason, test.reason) || (reason == "") != (test.reason == "") {
			t.Errorf("choose(%q, %q): got %q, %q, want %q, %q", test.address, test.named, o.ID, reason, test.want, test.reason)
		}
	}
}

package acl

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const maxAge = 24 * time.Hour

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

func grant(t testing.TB, id, subject, filter string, from, to float64) Grant {
	return Grant{ID: id, Subject: subject, Offer: "o", Filters: []Filter{mustFilter(t, filter)}, NotBefore: at(from), NotAfter: at(to)}
}

func TestDecide(t *testing.T) {
	s := NewSnapshot([]Filter{mustFilter(t, "sensor/1m"), mustFilter(t, "free/#"), mustFilter(t, "$SYS/broker/iotoll/#")}, maxAge).Load(t0, []User{
		{Name: "john"}, {Name: "jane", Superuser: true}, {Name: "off", Disabled: true, Superuser: true},
		{Name: "dev", Rights: []Right{{"dev/%u/#", Write}, {"cmd/%u", Read}, {"in/%c/x", Read | Write}, {"x/a%cb%c/y", Read}, {"%u/own", Read | Write}, {"only/sub", Subscribe}, {"bad#", Read | Write}}},
		{Name: "all", Rights: []Right{{"#", Read | Write}, {"%c/#", Read | Write}}},
		{Name: "+", Rights: []Right{{"home/%u", Read | Write}, {"plain", Read}}},
		{Name: "a/b", Rights: []Right{{"home/%u", Read | Write}}},
		{Name: "#", Rights: []Right{{"home/%u", Read | Write}, {"%u", Read}}},
		{Name: "%c", Rights: []Right{{"home/%u", Read | Write}}},
		{Name: "$SYS", Rights: []Right{{"%u/#", Read | Write}, {"home/%u", Read}}},
	}, []Grant{
		grant(t, "g1", "john", "sensor/live", 0, 100), grant(t, "g2", "john", "sensor/live", 100, 200), grant(t, "g3", "john", "other/#", 50, 60),
		grant(t, "g4", "ghost", "sensor/live", 0, 100), grant(t, "g5", "off", "sensor/live", 0, 100),
	})
	for _, c := range []struct {
		subject, client, topic string
		access                 Access
		now                    float64
		permit                 bool
		reason                 Reason
		until                  float64 // 0: none; -1: the snapshot's end
		grant                  string
	}{
		{"", "", "sensor/1m", Read, 1, true, Public, 0, ""},
		{"", "", "free", Read, 1, true, Public, 0, ""},
		{"", "", "free/a/b", Read, 1, true, Public, 0, ""},
		{"", "", "$SYS/broker/iotoll/age", Read, 1, true, Public, 0, ""},
		{"", "", "$SYS/broker/uptime", Read, 1, false, Anonymous, 0, ""},
		{"", "", "sensor/live", Read, 1, false, Anonymous, 0, ""},
		{"", "", "sensor/1m", Write, 1, false, Anonymous, 0, ""},
		{"", "", "sensor/#", Subscribe, 1, true, Public, 0, ""},
		{"", "", "#", Subscribe, 1, true, Public, 0, ""},
		{"", "", "$SYS/#", Subscribe, 1, true, Public, 0, ""},
		{"", "", "$SYS/broker/uptime", Subscribe, 1, false, Anonymous, 0, ""},
		{"", "", "$share/g/sensor/+", Subscribe, 1, false, Anonymous, 0, ""},
		{"", "", "$share/g/sensor/1m", Subscribe, 1, true, Public, 0, ""},
		{"", "", "$share/g/free/#", Subscribe, 1, true, Public, 0, ""},
		{"", "", "$share/g/#", Subscribe, 1, false, Anonymous, 0, ""},
		{"", "", "$share/g/sensor/live", Subscribe, 1, false, Anonymous, 0, ""},
		{"", "", "sensor/live", Subscribe, 1, false, Anonymous, 0, ""},
		{"", "", "anything", Unsubscribe, 1, true, Unsubscribing, 0, ""},
		{"", "", "sensor/+", Read, 1, false, Malformed, 0, ""},
		{"", "", "", Read, 1, false, Malformed, 0, ""},
		{"", "", "free/\x00", Read, 1, false, Malformed, 0, ""},
		{"", "", "free/\xff", Read, 1, false, Malformed, 0, ""},
		{"", "", "free/a#", Subscribe, 1, false, Malformed, 0, ""},
		{"", "", "$share/free/#", Subscribe, 1, false, Anonymous, 0, ""}, // group "free", filter #
		{"", "", "$share/sensor/free/+", Subscribe, 1, true, Public, 0, ""},
		{"", "", "$share/g", Subscribe, 1, false, Malformed, 0, ""},
		{"", "", "sensor/1m", 0, 1, false, Malformed, 0, ""},
		{"", "", "sensor/1m", Read | Write, 1, false, Malformed, 0, ""},
		{"", "", "sensor/1m", 16, 1, false, Malformed, 0, ""},
		{"nobody", "", "sensor/1m", Read, 1, true, Public, 0, ""},
		{"nobody", "", "sensor/live", Read, 1, false, UnknownUser, -1, ""},
		{"ghost", "", "sensor/live", Read, 1, false, UnknownUser, -1, ""},
		{"off", "", "sensor/live", Read, 1, false, Disabled, -1, ""},
		{"off", "", "sensor/1m", Read, 1, true, Public, 0, ""},

		{"john", "", "sensor/live", Read, 1, true, Granted, 100, "g1"},
		{"john", "", "sensor/live", Read, 99.9999, true, Granted, 100, "g1"},
		{"john", "", "sensor/live", Read, 100, true, Granted, 200, "g2"},
		{"john", "", "sensor/live", Read, 199.9999, true, Granted, 200, "g2"},
		{"john", "", "sensor/live", Read, 200, false, Ended, -1, "g2"},
		{"john", "", "sensor/live", Read, -0.0001, false, NotYet, 0.0000001, "g1"},
		{"john", "", "sensor/live", Write, 1, false, NoRight, -1, ""},
		{"john", "", "sensor/+", Subscribe, 1, true, Public, 0, ""},
		{"john", "", "sensor/live", Subscribe, 1, true, Granted, 100, "g1"},
		{"john", "", "$share/g/sensor/live", Subscribe, 1, true, Granted, 100, "g1"},
		{"john", "", "sensor/live/#", Subscribe, 1, true, Granted, 100, "g1"},
		{"john", "", "$share/g/sensor/live/#", Subscribe, 1, false, NoRight, -1, ""},
		{"john", "", "$share/g/sensor/+", Subscribe, 1, false, NoRight, -1, ""},
		{"john", "", "$share/g/other/+", Subscribe, 50, true, Granted, 60, "g3"},
		{"john", "", "$share/g/other/#", Subscribe, 60, false, Ended, -1, "g3"},
		{"jane", "", "$share/g/#", Subscribe, 1, true, Superuser, -1, ""},
		{"dev", "c1", "$share/g/in/c1/x", Subscribe, 1, true, Static, -1, ""},
		{"dev", "c1", "$share/g/in/+/x", Subscribe, 1, false, NoRight, -1, ""},
		{"john", "", "$share/g/sensor/live", Subscribe, 200, false, Ended, -1, "g2"},
		{"john", "", "other/x", Read, 49, false, NotYet, 50, "g3"},
		{"john", "", "other/x", Read, 50, true, Granted, 60, "g3"},
		{"john", "", "other/x", Read, 60, false, Ended, -1, "g3"},
		{"john", "", "sensor/liv", Read, 1, false, NoRight, -1, ""},
		{"john", "", "sensor/live/", Read, 1, false, NoRight, -1, ""},
		{"john", "", "Sensor/live", Read, 1, false, NoRight, -1, ""},
		{"JOHN", "", "sensor/live", Read, 1, false, UnknownUser, -1, ""},
		{"john", "", "sensor/live", Read, 86400, false, Stale, 0, ""},
		{"john", "", "sensor/1m", Read, 86400, true, Public, 0, ""},
		{"jane", "", "anything", Write, 86399, true, Superuser, -1, ""},
		{"jane", "", "$SYS/x", Read, 1, true, Superuser, -1, ""},
		{"jane", "", "a/#", Write, 1, false, Malformed, 0, ""},
		{"jane", "", "anything", Write, 86400, false, Stale, 0, ""},

		{"dev", "", "dev/dev/a/b", Write, 1, true, Static, -1, ""},
		{"dev", "", "dev/dev/a/b", Read, 1, false, NoRight, -1, ""},
		{"dev", "", "dev/john/a", Write, 1, false, NoRight, -1, ""},
		{"dev", "", "dev/%u/a", Write, 1, false, NoRight, -1, ""},
		{"dev", "", "cmd/dev", Read, 1, true, Static, -1, ""},
		{"dev", "", "cmd/+", Subscribe, 1, true, Static, -1, ""},
		{"dev", "", "cmd/dev", Write, 1, false, NoRight, -1, ""},
		{"dev", "", "only/sub", Subscribe, 1, true, Static, -1, ""},
		{"dev", "", "only/sub", Read, 1, false, NoRight, -1, ""},
		{"dev", "", "bad#", Read, 1, false, Malformed, 0, ""},
		{"dev", "", "dev/own", Read, 1, true, Static, -1, ""},
		{"dev", "c1", "in/c1/x", Read, 1, true, Static, -1, ""},
		{"dev", "c1", "in/c2/x", Read, 1, false, NoRight, -1, ""},
		{"dev", "c1", "in/+/x", Subscribe, 1, true, Static, -1, ""},
		{"dev", "c1", "in/c2/x", Subscribe, 1, false, NoRight, -1, ""},
		{"dev", "", "in//x", Read, 1, false, NoRight, -1, ""},
		{"dev", "+", "in/+/x", Write, 1, false, Malformed, 0, ""},
		{"dev", "+", "in/a/x", Write, 1, false, NoRight, -1, ""},
		{"dev", "+", "in/+/x", Subscribe, 1, false, NoRight, -1, ""},
		{"dev", "a/x/b", "in/a/x/b/x", Read, 1, false, NoRight, -1, ""},
		{"dev", "#", "in/#", Subscribe, 1, false, NoRight, -1, ""},
		{"dev", "%u", "in/dev/x", Read, 1, false, NoRight, -1, ""},
		{"dev", "%u", "in/%u/x", Read, 1, true, Static, -1, ""},
		{"dev", "$c", "in/$c/x", Read, 1, true, Static, -1, ""},
		{"dev", "1", "x/a1b1/y", Read, 1, true, Static, -1, ""},
		{"dev", "1", "x/a1b2/y", Read, 1, false, NoRight, -1, ""},
		{"dev", "1", "x/a1b1c/y", Read, 1, false, NoRight, -1, ""},
		{"dev", "1", "x/a1b/y", Read, 1, false, NoRight, -1, ""},
		{"all", "$SYS", "$SYS/broker", Read, 1, false, NoRight, -1, ""},
		{"all", "c", "$SYS/broker", Read, 1, false, NoRight, -1, ""},
		{"all", "c", "c/d", Write, 1, true, Static, -1, ""},
		{"+", "", "home/x", Read, 1, false, NoRight, -1, ""},
		{"+", "", "home/#", Subscribe, 1, false, NoRight, -1, ""},
		{"+", "", "plain", Read, 1, true, Static, -1, ""},
		{"a/b", "", "home/a/b", Read, 1, false, NoRight, -1, ""},
		{"#", "", "home/x", Write, 1, false, NoRight, -1, ""},
		{"#", "", "x", Read, 1, false, NoRight, -1, ""},
		{"%c", "john", "home/john", Read, 1, false, NoRight, -1, ""},
		{"%c", "john", "home/%c", Read, 1, true, Static, -1, ""},
		{"$SYS", "", "$SYS/broker", Read, 1, false, NoRight, -1, ""},
		{"$SYS", "", "home/$SYS", Read, 1, true, Static, -1, ""},
	} {
		r := Request{c.subject, c.client, c.topic, c.access}
		want := Decision{Permit: c.permit, Reason: c.reason, Grant: c.grant}
		switch c.until {
		case 0:
		case -1:
			want.Until = t0.Add(maxAge)
		default:
			want.Until = at(c.until)
		}
		got := s.Decide(r, at(c.now))
		if !got.Until.Equal(want.Until) && !(got.Until.Sub(want.Until).Abs() < time.Microsecond && got.Until.Equal(got.Until.Truncate(time.Millisecond))) {
			t.Errorf("Decide(%+v, %v).Until: got %v, want %v", r, c.now, got.Until, want.Until)
		}
		got.Until, want.Until, got.PerClient = time.Time{}, time.Time{}, false
		if got != want {
			t.Errorf("Decide(%+v, %v): got %+v, want %+v", r, c.now, got, want)
		}
	}
}

// A user may subscribe to what is for sale before paying for it. Nothing else is
// permitted before that, nobody else may, and $share keeps its rule.
func TestDecideForSale(t *testing.T) {
	offers := []Offer{{"live", []Filter{mustFilter(t, "sensor/live"), {}}}, {"rooms", []Filter{mustFilter(t, "room/+/power")}}, {"all", []Filter{mustFilter(t, "$x/#"), mustFilter(t, "iotoll/#")}}}
	users := []User{{Name: "john"}, {Name: "off", Disabled: true}}
	grants := []Grant{grant(t, "g1", "john", "sensor/live", 10, 20)}
	s := NewSnapshot(nil, maxAge).Load(t0, users, grants).With(t0, Change{Offers: &offers})
	for _, c := range []struct {
		subject, topic string
		access         Access
		now            float64
		want           Reason
		permit         bool
	}{
		{"john", "sensor/live", Subscribe, 1, ForSale, true},
		{"john", "sensor/live", Subscribe, 10, Granted, true},
		{"john", "sensor/live", Subscribe, 20, ForSale, true},
		{"john", "sensor/live", Read, 1, NotYet, false},
		{"john", "sensor/live", Read, 20, Ended, false},
		{"john", "sensor/live", Write, 1, NoRight, false},
		{"john", "sensor/#", Subscribe, 1, ForSale, true},
		{"john", "sensor/+", Subscribe, 1, ForSale, true},
		{"john", "sensor/live/#", Subscribe, 1, ForSale, true},
		{"john", "sensor/1m", Subscribe, 1, NoRight, false},
		{"john", "sensor/live/x", Subscribe, 1, NoRight, false},
		{"john", "room/kitchen/power", Subscribe, 1, ForSale, true},
		{"john", "room/kitchen/#", Subscribe, 1, ForSale, true},
		{"john", "room/kitchen/power", Read, 1, NoRight, false},
		{"john", "room/kitchen/light", Subscribe, 1, NoRight, false},
		{"john", "$x/y", Subscribe, 1, ForSale, true},
		{"john", "+/y", Subscribe, 1, ForSale, true}, // iotoll/y
		{"john", "other/y", Subscribe, 1, NoRight, false},
		{"john", "iotoll/account/jane", Subscribe, 1, NoRight, false},
		{"john", "$share/g/sensor/live", Subscribe, 1, NotYet, false},
		{"john", "$share/g/sensor/live", Subscribe, 10, Granted, true},
		{"john", "$share/g/sensor/live", Subscribe, 20, Ended, false},
		{"john", "$share/g/room/+/power", Subscribe, 1, NoRight, false},
		{"john", "sensor/live#", Subscribe, 1, Malformed, false},
		{"", "sensor/live", Subscribe, 1, Anonymous, false},
		{"nobody", "sensor/live", Subscribe, 1, UnknownUser, false},
		{"off", "sensor/live", Subscribe, 1, Disabled, false},
		{"john", "sensor/live", Subscribe, 86400, Stale, false},
	} {
		if got := s.Decide(Request{c.subject, "", c.topic, c.access}, at(c.now)); got.Reason != c.want || got.Permit != c.permit || got.Reason == ForSale && (got.Grant != "" || got.Until.IsZero()) {
			t.Errorf("Decide(%+v): got %+v, want %v", c, got, c.want)
		}
	}
	r := Request{"john", "", "sensor/live", Subscribe}
	none := []Offer{}
	for what, n := range map[string]*Snapshot{
		"that refuses":       s.RefuseUnpaid(true),
		"that refuses, made": NewSnapshot(nil, maxAge).RefuseUnpaid(true).Load(t0, users, grants).With(t0, Change{Offers: &offers}),
		"without offers":     s.With(t0, Change{Offers: &none}),
		"loaded again":       s.Load(t0, users, grants),
		"refuses, set up":    s.RefuseUnpaid(true).Configure(nil, maxAge),
	} {
		if got := n.Decide(r, at(1)); got.Permit || got.Reason != NotYet {
			t.Errorf("a snapshot %s: got %+v, want not yet", what, got)
		}
	}
	for what, n := range map[string]*Snapshot{"later": s.With(at(1)), "configured": s.Configure(nil, maxAge), "changed": s.With(t0, Change{RemovedUser: "off"}), "again": s.RefuseUnpaid(true).RefuseUnpaid(false)} {
		if got := n.Decide(r, at(1)); got.Reason != ForSale {
			t.Errorf("a snapshot %s: got %+v, want for sale", what, got)
		}
	}
}

// Each user may read its own account topic. Only static rights open those of others;
// everybody may read the offers and the sign-up key, and nobody write them.
func TestDecideAccounts(t *testing.T) {
	all := []Filter{mustFilter(t, "#"), mustFilter(t, "iotoll/account/+"), mustFilter(t, "$SYS/#")}
	offers := []Offer{{"all", all}}
	s := NewSnapshot(all, maxAge).Load(t0, []User{
		{Name: "john"}, {Name: "johnny"}, {Name: "off", Disabled: true}, {Name: "root", Superuser: true}, {Name: "+"}, {Name: "a/b"}, {Name: "%c"},
		{Name: "admin", Rights: []Right{{"#", Read}}}, {Name: "iotoll", Rights: []Right{{"iotoll/account/+", Write}, {"iotoll/offers", Write}}},
	}, []Grant{{ID: "g", Subject: "john", Filters: all, NotBefore: at(-10), NotAfter: at(10)}}).With(t0, Change{Offers: &offers})
	for _, c := range []struct {
		subject, topic string
		access         Access
		permit         bool
		want           Reason
	}{
		{"john", "iotoll/account/john", Read, true, Static},
		{"john", "iotoll/account/john", Subscribe, true, Static},
		{"john", "iotoll/account/+", Subscribe, true, Static},
		{"john", "iotoll/account/#", Subscribe, true, Static},
		{"john", "iotoll/+/john", Subscribe, true, Public},
		{"john", "$share/g/iotoll/account/john", Subscribe, true, Static},
		{"john", "$share/g/iotoll/account/+", Subscribe, false, NoRight},
		{"john", "$share/g/iotoll/+/john", Subscribe, false, NoRight},
		{"john", "$share/g/#", Subscribe, false, NoRight},
		{"john", "$share/g/sensor/#", Subscribe, true, Public},
		{"john", "iotoll/account/john", Write, false, NoRight},
		{"john", "iotoll/account/john/x", Read, false, NoRight},
		{"john", "iotoll/account/johnny", Read, false, NoRight},
		{"john", "iotoll/account/johnny", Subscribe, false, NoRight},
		{"john", "iotoll/account", Read, false, NoRight},
		{"john", "iotoll/account/", Read, false, NoRight},
		{"john", "iotoll/accounts", Read, true, Public},
		{"johnny", "iotoll/account/john", Read, false, NoRight},
		{"johnny", "iotoll/account/johnny", Read, true, Static},
		{"", "iotoll/account/john", Read, false, Anonymous},
		{"", "iotoll/account/+", Subscribe, false, Anonymous},
		{"", "iotoll/account/", Read, false, Anonymous},
		{"", "$share/g/#", Subscribe, false, Anonymous},
		{"nobody", "iotoll/account/nobody", Read, false, UnknownUser},
		{"off", "iotoll/account/off", Read, false, Disabled},
		{"root", "iotoll/account/john", Read, true, Superuser},
		{"admin", "iotoll/account/john", Read, true, Static},
		{"admin", "$share/g/#", Subscribe, true, Static},
		{"+", "iotoll/account/john", Read, false, NoRight},
		{"+", "iotoll/account/+", Subscribe, false, NoRight},
		{"a/b", "iotoll/account/a/b", Read, false, NoRight},
		{"%c", "iotoll/account/%c", Read, true, Static},
		{"%c", "iotoll/account/john", Read, false, NoRight},
		{"iotoll", "iotoll/account/john", Write, true, Static},
		{"iotoll", "iotoll/account/john", Read, false, NoRight},
	} {
		if got := s.Decide(Request{c.subject, "john", c.topic, c.access}, at(1)); got.Permit != c.permit || got.Reason != c.want || got.PerClient {
			t.Errorf("Decide(%+v): got %+v", c, got)
		}
	}

	s = NewSnapshot(nil, maxAge)
	for range 2 { // without a store, then configured anew
		for _, topic := range []string{"iotoll/offers", "$SYS/broker/iotoll/signup"} {
			for _, access := range []Access{Read, Subscribe} {
				if got := s.Decide(Request{Topic: topic, Access: access}, t0); !got.Permit || got.Reason != Public {
					t.Errorf("Decide %s, access %d: got %+v, want public", topic, access, got)
				}
			}
			if got := s.Decide(Request{Topic: topic, Access: Write}, t0); got.Permit {
				t.Errorf("Decide %s: got %+v, want nobody to write it", topic, got)
			}
		}
		for _, topic := range []string{"iotoll/offers/x", "iotoll", "$SYS/broker/iotoll/panics", "iotoll/account/john"} {
			if got := s.Decide(Request{Topic: topic, Access: Read}, t0); got.Permit {
				t.Errorf("Decide %s: got %+v, want denied", topic, got)
			}
		}
		s = s.Configure(nil, time.Minute)
	}
}

func TestDecidePerClient(t *testing.T) {
	s := NewSnapshot([]Filter{mustFilter(t, "free")}, maxAge).Load(t0, []User{
		{Name: "u", Rights: []Right{{"first", Read}, {"in/%c", Read}, {"last", Read}, {"out/%c", Write}}},
	}, nil)
	for _, c := range []struct {
		topic  string
		access Access
		want   bool
	}{
		{"free", Read, false}, {"first", Read, false}, {"in/x", Read, true}, {"in/y", Read, true}, {"last", Read, true}, {"none", Read, true}, {"in/x", Write, true}, {"in/x", Unsubscribe, false},
	} {
		if got := s.Decide(Request{"u", "x", c.topic, c.access}, t0); got.PerClient != c.want {
			t.Errorf("Decide(%v).PerClient: got %v, want %v", c, got.PerClient, c.want)
		}
	}
}

func TestDecideWithoutKnowledge(t *testing.T) {
	var none *Snapshot
	empty := NewSnapshot([]Filter{mustFilter(t, "free")}, maxAge)
	for _, c := range []struct {
		s       *Snapshot
		subject string
		topic   string
		want    Reason
	}{
		{none, "", "free", NoSnapshot}, {none, "john", "x", NoSnapshot},
		{empty, "", "free", Public}, {empty, "john", "free", Public}, {empty, "john", "x", NoSnapshot}, {empty, "", "x", Anonymous},
		{empty.With(t0, Change{User: &User{Name: "john", Superuser: true}}), "john", "x", NoSnapshot},
	} {
		d := c.s.Decide(Request{c.subject, "", c.topic, Read}, t0)
		if d.Reason != c.want || d.Permit != (c.want == Public) {
			t.Errorf("Decide(%s, %s): got %+v, want %v", c.subject, c.topic, d, c.want)
		}
	}
	if none.Fresh(t0) || empty.Fresh(t0) || none.With(t0) != nil {
		t.Error("a snapshot that was never loaded is fresh")
	}
	if d := (Decision{}); d.Permit {
		t.Error("the zero Decision permits")
	}
	for r := range Reason(Reasons) {
		if r.String() == "" {
			t.Errorf("reason %d has no name", r)
		}
	}
}

// Bounds below a millisecond are rounded so that the grant gets shorter.
func TestGrantBoundsRoundInwards(t *testing.T) {
	g := Grant{ID: "g", Subject: "u", Filters: []Filter{mustFilter(t, "x")}, NotBefore: t0.Add(1500 * time.Microsecond), NotAfter: t0.Add(3500 * time.Microsecond)}
	s := NewSnapshot(nil, maxAge).Load(t0, []User{{Name: "u"}}, []Grant{g})
	for us, want := range map[int]bool{0: false, 1499: false, 1600: false, 2000: true, 2999: true, 3000: false, 3499: false, 3500: false, 4000: false} {
		if got := s.Decide(Request{"u", "", "x", Read}, t0.Add(time.Duration(us)*time.Microsecond)); got.Permit != want {
			t.Errorf("Decide %d µs in: got %v, want %v", us, got.Permit, want)
		}
	}
}

// A grant may last longer than int64 nanoseconds can say.
func TestGrantForever(t *testing.T) {
	g := Grant{ID: "g", Subject: "u", Filters: []Filter{mustFilter(t, "x")}, NotBefore: t0, NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}
	s := NewSnapshot(nil, maxAge).Load(t0, []User{{Name: "u"}}, []Grant{g})
	if d := s.Decide(Request{"u", "", "x", Read}, at(1)); !d.Permit || !d.Until.Equal(t0.Add(maxAge)) {
		t.Errorf("Decide: got %+v, want a permit until the snapshot's end", d)
	}
}

// state is the model of a snapshot: users and grants after all changes.
type state struct {
	users  map[string]User
	grants map[string]Grant
	offers []Offer
}

// permits decides as documented, in the simplest way.
func (m *state) permits(r Request, public []Filter, now time.Time) bool {
	// Static rights open every topic; sold and public filters do not open accounts.
	var readable, static, writable, forSale []Filter
	readable = append(append(readable, public...), Filter{"iotoll/offers"}, Filter{"$SYS/broker/iotoll/signup"})
	if u, ok := m.users[r.Subject]; ok && !u.Disabled {
		if u.Superuser {
			return true
		}
		for _, right := range u.Rights {
			if strings.Contains(right.Pattern, "%u") && strings.ContainsAny(u.Name, "+#/") {
				continue
			}
			f, err := ParseFilter(strings.ReplaceAll(right.Pattern, "%u", u.Name))
			if err != nil {
				continue
			}
			if right.Access&Read != 0 {
				static = append(static, f)
			}
			if right.Access&Write != 0 {
				writable = append(writable, f)
			}
		}
		for _, o := range m.offers {
			forSale = append(forSale, o.Filters...)
		}
		if !strings.ContainsAny(u.Name, "+#/") {
			static = append(static, Filter{"iotoll/account/" + u.Name})
		}
		for _, g := range m.grants {
			if g.Subject == r.Subject && !now.Before(g.NotBefore) && now.Before(g.NotAfter) {
				readable = append(readable, g.Filters...)
			}
		}
	}
	switch r.Access {
	case Read:
		if !byDefinition("iotoll/account/#", r.Topic) {
			static = append(static, readable...)
		}
		return slices.ContainsFunc(static, func(f Filter) bool { return byDefinition(f.text, r.Topic) })
	case Write:
		return slices.ContainsFunc(writable, func(f Filter) bool { return byDefinition(f.text, r.Topic) })
	default:
		text, shared := strings.CutPrefix(r.Topic, "$share/g/")
		sub, err := ParseFilter(text)
		all := Filter{"iotoll/account/#"}
		if shared && !overlap(sub, all) || !shared && !all.Covers(sub) {
			static = append(static, readable...)
			if !shared {
				static = append(static, forSale...)
			}
		}
		return err == nil && slices.ContainsFunc(static, func(f Filter) bool {
			if shared {
				return f.Covers(sub)
			}
			return overlap(f, sub)
		})
	}
}

// After random batches of changes, a snapshot decides like the model, and old snapshots
// have not changed.
func TestWithAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	pick := func(s ...string) string { return s[rnd.IntN(len(s))] }
	name := func() string { return pick("a", "b", "c", "+", "x/y") }
	filter := func() string {
		return pick("a/b", "a/+", "a/#", "b", "#", "+", "$x/#", "c/+/d", "iotoll/#", "iotoll/account/+", "iotoll/account/a", "iotoll/+/b")
	}
	public := []Filter{mustFilter(t, "b")}

	m := state{users: make(map[string]User), grants: make(map[string]Grant)}
	s := NewSnapshot(public, maxAge).Load(t0, nil, nil)
	now := t0
	type frozen struct {
		s    *Snapshot
		r    Request
		now  time.Time
		want Decision
	}
	var old []frozen
	for range 3000 {
		now = now.Add(time.Duration(rnd.IntN(1000)) * time.Millisecond)
		var changes []Change
		for range rnd.IntN(3) {
			switch rnd.IntN(7) {
			case 6:
				m.offers = []Offer{}
				for range rnd.IntN(3) {
					m.offers = append(m.offers, Offer{Filters: []Filter{mustFilter(t, filter())}})
				}
				changes = append(changes, Change{Offers: &m.offers})
			case 0:
				n := name()
				delete(m.users, n)
				changes = append(changes, Change{RemovedUser: n})
			case 1, 2:
				u := User{Name: name(), Superuser: rnd.IntN(20) == 0, Disabled: rnd.IntN(10) == 0}
				for range rnd.IntN(3) {
					u.Rights = append(u.Rights, Right{pick("a/b", "h/%u", "%u/#", "a/+", "bad#", "#"), Access(1 + rnd.IntN(3))})
				}
				m.users[u.Name] = u
				changes = append(changes, Change{User: &u})
			default:
				id := fmt.Sprint(name(), "/", rnd.IntN(5))
				g := Grant{ID: id, Subject: strings.Split(id, "/")[0], NotBefore: now.Add(time.Duration(rnd.IntN(4000)-1000) * time.Millisecond).Truncate(time.Millisecond)}
				g.NotAfter = g.NotBefore.Add(time.Duration(rnd.IntN(9000)) * time.Millisecond)
				for range rnd.IntN(3) {
					g.Filters = append(g.Filters, mustFilter(t, filter()))
				}
				m.grants[id] = g
				changes = append(changes, Change{Grant: &g})
			}
		}
		s = s.With(now, changes...)
		if rnd.IntN(100) == 0 {
			var us []User
			var gs []Grant
			for _, u := range m.users {
				us = append(us, u)
			}
			for _, g := range m.grants {
				gs = append(gs, g)
			}
			s = s.Load(now, us, gs)
			m.offers = nil
		}
		if users, _ := s.Size(); users != len(m.users) {
			t.Fatalf("Size: got %d users, want %d", users, len(m.users))
		}
		for range 40 {
			r := Request{Subject: pick("", "a", "b", "c", "+", "x/y", "z"), Topic: pick("a/b", "a", "b", "h/a", "h/b", "c/c/d", "$x/y", "a/a", "iotoll/account/a", "iotoll/account/b", "iotoll/account", "iotoll/offers"), Access: 1 << rnd.IntN(3)}
			if r.Access == Subscribe {
				r.Topic = pick("", "$share/g/") + pick(r.Topic, filter())
			}
			when := now.Add(time.Duration(rnd.IntN(5000)) * time.Millisecond)
			got := s.Decide(r, when)
			if want := m.permits(r, public, when); got.Permit != want {
				t.Fatalf("Decide(%+v): got %+v, want %v", r, got, want)
			}
			// The answer holds until Until, and not a millisecond longer for a grant.
			if !got.Until.IsZero() {
				last := got.Until.Add(-time.Millisecond)
				if last.After(when) && s.Decide(r, last).Permit != got.Permit {
					t.Fatalf("Decide(%+v): got %+v, another answer before Until", r, got)
				}
			}
			if rnd.IntN(50) == 0 {
				old = append(old, frozen{s, r, when, got})
			}
		}
	}
	for _, o := range old {
		if got := o.s.Decide(o.r, o.now); got != o.want {
			t.Errorf("an old snapshot has changed: Decide(%+v): got %+v, want %+v", o.r, got, o.want)
		}
	}
}

// FuzzDecide checks that no client ID, username or topic opens more than the rights say.
func FuzzDecide(f *testing.F) {
	f.Add("john", "c", "home/john", uint8(1))
	f.Add("%c", "john", "home/john", uint8(2))
	f.Add("$SYS", "$SYS", "$SYS/x", uint8(1))
	f.Add("a", "+", "$share/g/in/+", uint8(4))
	f.Fuzz(func(t *testing.T, name, client, topic string, access uint8) {
		s := NewSnapshot(nil, maxAge).Load(t0, []User{{Name: name, Rights: []Right{{"home/%u", Read | Write}, {"in/%c/x", Read | Write}}}}, nil)
		d := s.Decide(Request{name, client, topic, Access(access)}, t0)
		if !d.Permit || d.Reason == Unsubscribing {
			return
		}
		if Access(access) == Subscribe {
			sub, shared, err := subscription(topic)
			opens := func(rule string) bool {
				f, err := ParseFilter(rule)
				return err == nil && (overlaps(rule, sub, "") && !shared || f.Covers(Filter{sub}))
			}
			if d.Reason == Public {
				if !opens("iotoll/offers") && !opens("$SYS/broker/iotoll/signup") {
					t.Errorf("everybody may subscribe to %q", topic)
				}
				return
			}
			if err != nil || !opens("home/"+name) && !opens("in/"+client+"/x") && !opens("iotoll/account/"+name) {
				t.Errorf("%q may subscribe to %q as client %q", name, topic, client)
			}
		} else if Access(access) == Read && (topic == "iotoll/account/"+name || d.Reason == Public && (topic == "iotoll/offers" || topic == "$SYS/broker/iotoll/signup")) {
			return
		} else if topic != "home/"+name && topic != "in/"+client+"/x" || strings.Count(topic, "/") > 2 || strings.ContainsAny(topic, "+#\x00") {
			t.Errorf("%q may access %q as client %q", name, topic, client)
		}
	})
}

func TestDecideDoesNotAllocate(t *testing.T) {
	s, rs := population(t, 1000)
	now := at(1)
	rs = append(rs, Request{"nobody", "c", "x", Read}, Request{"u1", "c", "$share/g/+/live", Subscribe}, Request{"u1", "c", "bad#", Subscribe}, Request{"u1", "c", "own/c/x", Write}, Request{"", "", "sensor/1m", Read},
		Request{"u2", "c", "iotoll/account/u2", Read}, Request{"u2", "c", "iotoll/account/+", Subscribe}, Request{"u2", "c", "other/live", Subscribe})
	s = s.With(now, Change{Offers: &[]Offer{{"other", []Filter{mustFilter(t, "other/live")}}}})
	if n := testing.AllocsPerRun(100, func() {
		for _, r := range rs {
			s.Decide(r, now)
		}
	}); n != 0 {
		t.Errorf("Decide allocates %v times for %d requests, want 0", n, len(rs))
	}
}

// population is n users who have a grant each, and requests of some of them.
func population(tb testing.TB, n int) (*Snapshot, []Request) {
	users := make([]User, n)
	grants := make([]Grant, n)
	for i := range n {
		users[i] = User{Name: fmt.Sprint("u", i)}
		grants[i] = grant(tb, fmt.Sprintf("live/%020d/u%d", 1, i), fmt.Sprint("u", i), "sensor/live", 0, 3600)
	}
	if n > 1 {
		users[n/2].Rights = []Right{{"own/%c/#", Read | Write}}
	}
	s := NewSnapshot([]Filter{mustFilter(tb, "sensor/1m")}, maxAge).Load(t0, users, grants)
	rnd := rand.New(rand.NewPCG(1, 2))
	rs := make([]Request, 1024)
	for i := range rs {
		rs[i] = Request{fmt.Sprint("u", rnd.IntN(n)), "client", "sensor/live", Read}
	}
	return s, rs
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		b.Run(fmt.Sprintf("grants=%d", n), func(b *testing.B) {
			s, rs := population(b, n)
			now := at(1)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !s.Decide(rs[i%len(rs)], now).Permit {
					b.Fatal("denied")
				}
			}
		})
	}
}

// BenchmarkSubscribe measures the SUBSCRIBE of a user who has not paid to the last of
// some offers.
func BenchmarkSubscribe(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("offers=%d", n), func(b *testing.B) {
			var offers []Offer
			for i := range n {
				offers = append(offers, Offer{fmt.Sprint(i), []Filter{mustFilter(b, fmt.Sprintf("room/%d/live", i))}})
			}
			s := NewSnapshot([]Filter{mustFilter(b, "sensor/1m")}, maxAge).Load(t0, []User{{Name: "john"}}, nil).With(t0, Change{Offers: &offers})
			r := Request{"john", "client", fmt.Sprintf("room/%d/live", n-1), Subscribe}
			b.ReportAllocs()
			for b.Loop() {
				if s.Decide(r, t0).Reason != ForSale {
					b.Fatal("not for sale")
				}
			}
		})
	}
}

// BenchmarkOneGrantArrives measures one new grant among many others.
func BenchmarkOneGrantArrives(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		b.Run(fmt.Sprintf("grants=%d", n), func(b *testing.B) {
			s, _ := population(b, n)
			g := grant(b, "new", fmt.Sprint("u", n/2), "sensor/live", 0, 7200)
			b.ReportAllocs()
			for b.Loop() {
				s.With(at(1), Change{Grant: &g})
			}
		})
	}
}

// BenchmarkLoad measures the time and the memory of a load for each user with a grant.
func BenchmarkLoad(b *testing.B) {
	const n = 1_000_000
	users := make([]User, n)
	grants := make([]Grant, n)
	for i := range n {
		users[i] = User{Name: fmt.Sprint("u", i)}
		grants[i] = grant(b, fmt.Sprintf("live/%020d/u%d", 1, i), fmt.Sprint("u", i), "sensor/live", 0, 3600)
	}
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := NewSnapshot(nil, maxAge).Load(t0, users, grants)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/user+grant")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/user+grant")
	runtime.KeepAlive(users)
	runtime.KeepAlive(grants)
}

func TestSnapshotUser(t *testing.T) {
	now := time.Unix(1000, 0)
	s := NewSnapshot(nil, time.Minute).Load(now, []User{{Name: "john", Password: "x"}}, []Grant{{ID: "1", Subject: "jane", NotAfter: now.Add(time.Hour)}})
	for _, test := range []struct {
		name string
		at   time.Time
		want bool
	}{
		{"john", now, true},
		{"john", now.Add(time.Minute), false}, // too old
		{"jane", now, false},                  // a grant and no user
		{"nobody", now, false},
	} {
		if u, ok := s.User(test.name, test.at); ok != test.want || ok && u.Name != test.name {
			t.Errorf("User %s: got %q, %v, want %v", test.name, u.Name, ok, test.want)
		}
	}
}

// The answer names the live grant that ends last, in any order of the grants.
func TestDecideNamesTheGrant(t *testing.T) {
	gs := []Grant{
		grant(t, "past", "u", "x", 0, 10), grant(t, "later", "u", "x", 0, 20),
		grant(t, "long", "u", "y", 0, 90), grant(t, "short", "u", "y", 0, 80),
	}
	for range 2 {
		s := NewSnapshot(nil, maxAge).Load(t0, []User{{Name: "u"}}, gs)
		for topic, want := range map[string]string{"x": "later", "y": "long"} {
			if d := s.Decide(Request{"u", "", topic, Read}, at(30)); d.Grant != want {
				t.Errorf("Decide %s: got %+v, want grant %s", topic, d, want)
			}
		}
		slices.Reverse(gs)
	}
}

// Grants that ended two days ago are neither kept nor counted, and a snapshot is as
// of its latest change.
func TestSnapshotSize(t *testing.T) {
	const slack = 48 * 3600
	s := NewSnapshot(nil, maxAge).Load(at(slack), []User{{Name: "u"}}, []Grant{
		grant(t, "over", "u", "x", -10, 0), grant(t, "empty", "u", "x", 5, 5), grant(t, "a", "u", "x", 0, 10), grant(t, "b", "u", "x", 0, 20),
	})
	if users, grants := s.Size(); users != 1 || grants != 2 {
		t.Errorf("Size: got %d users and %d grants, want 1 and 2", users, grants)
	}
	g := grant(t, "c", "u", "x", 0, 30)
	s = s.With(at(slack+10), Change{Grant: &g})
	if users, grants := s.Size(); users != 1 || grants != 2 {
		t.Errorf("Size after a was forgotten and c added: got %d users and %d grants, want 1 and 2", users, grants)
	}
	if !s.AsOf().Equal(at(slack+10)) || !s.With(at(slack+11)).AsOf().Equal(at(slack+11)) {
		t.Errorf("AsOf: got %v, want %v and then a second more", s.AsOf(), at(slack+10))
	}
}

// A snapshot that was made while the clock was hours ahead still has the grants
// that are live once it is right.
func TestSnapshotSurvivesAForwardJump(t *testing.T) {
	ahead := at(40 * 3600)
	s := NewSnapshot(nil, 100*time.Hour).Load(ahead, []User{{Name: "u"}}, []Grant{grant(t, "g", "u", "x", 0, 3600)})
	h := grant(t, "h", "u", "y", 0, 3600)
	s = s.With(ahead, Change{Grant: &h})
	for _, topic := range []string{"x", "y"} {
		r := Request{"u", "", topic, Read}
		if d := s.Decide(r, ahead); d.Permit || d.Reason != Ended {
			t.Errorf("Decide %s with the clock ahead: got %+v, want it ended", topic, d)
		}
		if d := s.Decide(r, at(60)); !d.Permit {
			t.Errorf("Decide %s once the clock is right: got %+v, want it permitted", topic, d)
		}
	}
}

func TestLogouts(t *testing.T) {
	users := []User{{Name: "same", Password: "1"}, {Name: "passwd", Password: "1"}, {Name: "removed", Password: "1"}, {Name: "disabled", Password: "1"}, {Name: "off", Password: "1", Disabled: true}, {Name: "rights", Password: "1"}}
	for i := range 1000 {
		users = append(users, User{Name: fmt.Sprint("u", i)})
	}
	s := NewSnapshot(nil, maxAge).Load(t0, users, []Grant{grant(t, "g", "ghost", "x", 0, 10)})
	after := slices.Clone(users)
	after[1].Password, after[3].Disabled, after[4].Password, after[5].Superuser = "2", true, "2", true
	changes := []Change{{RemovedUser: "removed"}, {User: &User{Name: "new"}}, {RemovedUser: "ghost"}}
	for i := range after[:6] {
		if i != 2 {
			changes = append(changes, Change{User: &after[i]})
		}
	}
	for what, next := range map[string]*Snapshot{"With": s.With(t0, changes...), "Load": s.Load(t0, slices.Delete(after, 2, 3), nil)} {
		got := s.Logouts(next)
		slices.Sort(got)
		if want := []string{"disabled", "passwd", "removed"}; !slices.Equal(got, want) {
			t.Errorf("Logouts after %s: got %v, want %v", what, got, want)
		}
	}
	if got := s.Logouts(s.With(at(1))); got != nil {
		t.Errorf("Logouts without a change: got %v, want none", got)
	}
	if got := NewSnapshot(nil, maxAge).Logouts(s); got != nil {
		t.Errorf("Logouts of a snapshot without users: got %v, want none", got)
	}
}

func TestConfigure(t *testing.T) {
	s := NewSnapshot([]Filter{mustFilter(t, "old")}, maxAge).Load(t0, []User{{Name: "u"}}, nil)
	n := s.Configure([]Filter{mustFilter(t, "new")}, time.Minute)
	for topic, want := range map[string]bool{"old": false, "new": true} {
		if got := n.Decide(Request{"", "", topic, Read}, t0).Permit; got != want {
			t.Errorf("Decide %s: got %v, want %v", topic, got, want)
		}
	}
	if n.Fresh(at(60)) || !n.Fresh(at(59)) || !s.Fresh(at(60)) {
		t.Error("Fresh: not by the new maximum age, or also in the old snapshot")
	}
}

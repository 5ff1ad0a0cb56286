package gate

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// kicks returns the names and client IDs of all kicks that wait.
func (g *testGate) kicks() (out []string) {
	for {
		kicks := g.Kicks()
		if len(kicks) == 0 {
			slices.Sort(out)
			return out
		}
		for _, k := range kicks {
			out = append(out, "user:"+k.Username+" id:"+k.ClientID)
		}
	}
}

func (g *testGate) wantKicks(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := g.kicks(); !slices.Equal(got, want) {
		t.Errorf("kicks %s: got %q, want %q", when, got, want)
	}
}

func TestKickAfterAChangeOfUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		john := acl.User{Name: "john", Password: "1"}
		f := &fakeStore{users: []acl.User{john, {Name: "jane", Password: "1"}}}
		g := newTestGate(t, f)
		change := func(changes ...acl.Change) {
			f.do(func() { f.log = append(f.log, changes...) })
			settle()
		}
		settle()
		g.wantKicks(t, "after the first load")
		john.Rights, john.Superuser = []acl.Right{{Pattern: "x", Access: acl.Read}}, true
		change(acl.Change{User: &john})
		g.wantKicks(t, "after a change of rights")
		woken := g.woken.Load()
		passwd := john
		passwd.Password = "2"
		change(acl.Change{User: &passwd})
		g.wantKicks(t, "after a new password", "user:john id:")
		if g.woken.Load() == woken {
			t.Error("the broker was not woken for a kick")
		}
		disabled := passwd
		disabled.Disabled = true
		change(acl.Change{User: &disabled})
		g.wantKicks(t, "after disabling", "user:john id:")
		change(acl.Change{User: &passwd})
		g.wantKicks(t, "after enabling")
		change(acl.Change{RemovedUser: "john"})
		g.wantKicks(t, "after removing", "user:john id:")
		change(acl.Change{User: &john})
		g.wantKicks(t, "after adding again")
		change(acl.Change{RemovedUser: "john"}, acl.Change{User: &passwd})
		g.wantKicks(t, "after removing and adding at once", "user:john id:")

		// The same by a load, as after the log of changes was lost.
		f.do(func() {
			f.users, f.log = []acl.User{{Name: "john", Password: "3"}, {Name: "jane", Password: "1"}}, nil
			f.reload = true
		})
		settle()
		g.wantKicks(t, "after a load", "user:john id:")
	})
}

// Many kicks do not keep the broker busy at once.
func TestKicksInPortions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		for i := range 250 {
			f.users = append(f.users, acl.User{Name: fmt.Sprint("u", i)})
		}
		g := newTestGate(t, f)
		settle()
		f.do(func() { f.users = nil })
		g.Reload()
		settle()
		for _, want := range []int{100, 100, 50, 0} {
			woken := g.woken.Load()
			if got := len(g.Kicks()); got != want {
				t.Errorf("Kicks: got %d, want %d", got, want)
			}
			if want == 100 && g.woken.Load() == woken {
				t.Error("the broker was not woken for the rest")
			}
		}
	})
}

// A member of a shared subscription is kicked when its right ends for any reason, and
// only then.
func TestKickEndsShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short, long := minute(t, "short", "sensor/#"), minute(t, "long", "sensor/#")
		short.NotAfter = short.NotBefore.Add(10 * time.Second)
		f := &fakeStore{
			users:  []acl.User{{Name: "short"}, {Name: "long"}, {Name: "static", Rights: []acl.Right{{Pattern: "sensor/#", Access: acl.Read}}}},
			grants: []acl.Grant{short, long},
		}
		g := newTestGate(t, f)
		settle()
		share := func(subject, id, topic string, conn Conn) Verdict {
			return g.Subscribe(acl.Request{Subject: subject, ClientID: id, Topic: topic, Access: acl.Subscribe}, conn).Verdict
		}
		for i, c := range []struct {
			subject, id, topic string
			want               Verdict
		}{
			{"short", "s1", "$share/g/sensor/+", Permit}, {"short", "s2", "sensor/+", Permit}, {"short", "s3", "$share/g/sensor/+", Permit},
			{"short", "s4", "$share/g/sensor/+", Permit}, {"short", "s5", "$share/g/free", Permit}, {"short", "s6", "$share/g/#", Deny},
			{"long", "l1", "$share/g/sensor/+", Permit}, {"static", "st", "$share/g/sensor/live", Permit}, {"", "a1", "$share/g/sensor/+", Deny}, {"", "a2", "$share/g/free", Permit},
		} {
			if got := share(c.subject, c.id, c.topic, Conn(i+1)); got != c.want {
				t.Errorf("%s subscribes to %s: got %v, want %v", c.subject, c.topic, got, c.want)
			}
		}
		g.Unsubscribe("s3", "$share/g/sensor/+")
		g.Disconnected("s4", 4, true)
		time.Sleep(time.Until(short.NotAfter) - time.Millisecond)
		synctest.Wait()
		g.wantKicks(t, "before the end")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		g.wantKicks(t, "at the end", "user: id:s1")
		if len(g.sessions.members) != 2 || len(g.sessions.shares) != 2 {
			t.Errorf("members: got %v, shares %v, want those of long and static", g.sessions.members, g.sessions.shares)
		}

		// A revocation, and the removal of a static right.
		revoked := long
		revoked.NotAfter = time.Now()
		f.do(func() {
			f.log = append(f.log, acl.Change{Grant: &revoked}, acl.Change{User: &acl.User{Name: "static"}})
		})
		settle()
		g.wantKicks(t, "after revocations", "user: id:l1", "user: id:st")

		// Paying again within the same connection moves the end.
		again, more := minute(t, "long", "sensor/#"), minute(t, "long", "sensor/#")
		again.ID, again.NotAfter = "again", again.NotBefore.Add(10*time.Second)
		more.ID, more.NotBefore = "more", again.NotAfter
		f.do(func() { f.log = append(f.log, acl.Change{Grant: &again}) })
		settle()
		if got := share("long", "l1", "$share/g/sensor/+", 20); got != Permit {
			t.Fatalf("long subscribes again: got %v", got)
		}
		f.do(func() { f.log = append(f.log, acl.Change{Grant: &more}) })
		time.Sleep(time.Until(more.NotAfter) - time.Millisecond)
		synctest.Wait()
		g.wantKicks(t, "after paying again")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		g.wantKicks(t, "after the second end", "user: id:l1")
	})
}

// A session with a shared subscription may change hands.
func TestKickFollowsTheSession(t *testing.T) {
	for name, c := range map[string]struct {
		events func(*testGate)
		want   []string // after john's time
	}{
		"nothing":               {func(g *testGate) {}, []string{"user: id:c"}},
		"connection lost":       {func(g *testGate) { g.Disconnected("c", 1, false) }, []string{"user: id:c"}},
		"came back":             {func(g *testGate) { g.Disconnected("c", 1, false); g.Connected("c", "john", 1, false) }, []string{"user: id:c"}},
		"new session":           {func(g *testGate) { g.Disconnected("c", 1, false); g.Connected("c", "john", 1, true) }, nil},
		"new session in place":  {func(g *testGate) { g.Connected("c", "john", 2, true); g.Disconnected("c", 1, true) }, nil},
		"session ended":         {func(g *testGate) { g.Disconnected("c", 1, true) }, nil},
		"asked again at SIGHUP": {func(g *testGate) { g.Connected("c", "john", 1, true) }, []string{"user: id:c"}},
		"refused login":         {func(g *testGate) { g.Disconnected("c", 2, true); g.Disconnected("", 3, true) }, []string{"user: id:c"}},
		"taken over":            {func(g *testGate) { g.Connected("c", "john", 2, false); g.Disconnected("c", 1, true) }, []string{"user: id:c"}},
		"refused anonymous":     {func(g *testGate) { g.Arriving("c", 2); g.Disconnected("", 2, true); g.Kicks() }, []string{"user: id:c"}},
		"goes after a refused anonymous": {func(g *testGate) {
			g.Arriving("c", 2)
			g.Kicks() // the broker's next tick
			g.Disconnected("c", 1, true)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeStore{users: []acl.User{{Name: "john"}}, grants: []acl.Grant{minute(t, "john", "x")}}
				g := newTestGate(t, f)
				settle()
				if a := g.Subscribe(acl.Request{Subject: "john", ClientID: "c", Topic: "$share/g/x", Access: acl.Subscribe}, 1); a.Verdict != Permit {
					t.Fatalf("Subscribe: got %+v", a)
				}
				c.events(g)
				settle()
				g.wantKicks(t, "at once")
				time.Sleep(time.Minute)
				g.wantKicks(t, "at the end", c.want...)
			})
		})
	}
	for name, takeover := range map[string]func(*testGate){
		"2.1":               func(g *testGate) { g.Connected("c", "", 2, false); g.Disconnected("c", 1, true) },
		"2.0":               func(g *testGate) { g.Arriving("c", 2); g.Disconnected("c", 1, true) },
		"2.0, same address": func(g *testGate) { g.Disconnected("c", 1, false); g.Arriving("c", 1); g.Disconnected("c", 1, true) },
	} {
		t.Run("taken over by an anonymous client, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeStore{users: []acl.User{{Name: "john"}}, grants: []acl.Grant{minute(t, "john", "x")}}
				g := newTestGate(t, f)
				settle()
				g.Subscribe(acl.Request{Subject: "john", ClientID: "c", Topic: "$share/g/x", Access: acl.Subscribe}, 1)
				takeover(g)
				settle()
				g.wantKicks(t, "at once", "user: id:c")
			})
		})
	}
}

// The shared subscriptions of a subject are bounded. Sessions without a connection make
// room for others.
func TestSharesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{users: []acl.User{{Name: "john", Superuser: true}, {Name: "jane", Superuser: true}}}
		g := newTestGate(t, f)
		settle()
		share := func(subject string, n int) Verdict {
			id := fmt.Sprint(subject, n)
			return g.Subscribe(acl.Request{Subject: subject, ClientID: id, Topic: "$share/g/x", Access: acl.Subscribe}, Conn(n+1)).Verdict
		}
		for i := range sharesAtMost {
			if got := share("john", i); got != Permit {
				t.Fatalf("shared subscription %d: got %v, want permitted", i, got)
			}
		}
		if a, b := share("john", sharesAtMost), share("jane", 0); a != Deny || b != Permit {
			t.Errorf("shared subscription %d: got %v, want denied; another subject's: got %v, want permitted", sharesAtMost, a, b)
		}
		g.Disconnected("john7", 8, false)
		if got := share("john", sharesAtMost); got != Permit {
			t.Errorf("after a disconnection: got %v, want permitted", got)
		}
		if n := len(g.sessions.members); n != sharesAtMost+1 {
			t.Errorf("members: got %d, want %d", n, sharesAtMost+1)
		}
	})
}

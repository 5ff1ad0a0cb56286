package gate

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// What the store announces to those who want to sign up is published once for each
// change, and removed when sign-up is off.
func TestGateAnnouncesSignup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		g := newTestGate(t, f)
		want := func(when string, payloads ...string) {
			t.Helper()
			settle()
			var want []Message
			for _, p := range payloads {
				want = append(want, Message{"$SYS/broker/iotoll/signup", p})
			}
			woken := g.woken.Swap(0) > 0
			if got := g.Announcements(); fmt.Sprint(got) != fmt.Sprint(want) || woken != (want != nil) {
				t.Errorf("%s: got %v, the broker woken: %t; want %v", when, got, woken, want)
			}
		}
		change := func(text []byte) {
			f.do(func() { f.signup, f.log = text, append(f.log, acl.Change{Signup: &text}) })
		}
		want("sign-up is off")
		change([]byte("key 1"))
		want("sign-up is on", "key 1")
		want("later")
		f.do(func() { f.reload = true })
		want("loaded again, the same key")
		f.do(func() { f.signup, f.reload = []byte("key 2"), true })
		want("loaded again, another key", "key 2")
		f.do(func() { f.err = errors.New("away") })
		want("the store is away")
		f.do(func() { f.err = nil })
		time.Sleep(retryAtMost)
		change(nil)
		change([]byte("key 3"))
		want("two changes", "key 3")
		f.do(func() {
			f.loading = func(f *fakeStore) {
				last := []byte("key 5")
				f.signup, f.log = []byte("key 4"), append(f.log, acl.Change{Signup: &last})
			}
		})
		g.Reload()
		want("a change during a load", "key 5")
		f.do(func() { f.loading = nil })
		change(nil)
		want("sign-up is off again", "")
		want("later")
	})

	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{signup: []byte("key")}
		g := newTestGate(t, f)
		settle()
		if got := g.Announcements(); len(got) != 1 || got[0].Payload != "key" {
			t.Errorf("at the start: got %v, want the key", got)
		}
	})
}

package signup_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle/signup"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

const day = 24 * time.Hour

var (
	start  = time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC)
	atLive = signup.Context{Ledger: "test", Address: "JANE", Offer: "live"}
)

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// ring is a Keyring with a clock.
type ring struct {
	signup.Keyring
	now time.Time
}

func newRing(store *tangletest.Store) *ring {
	r := &ring{now: start}
	r.Keyring = signup.Keyring{Store: store, Now: func() time.Time { return r.now }, Log: quiet()}
	return r
}

func (r *ring) ensure(t testing.TB) {
	t.Helper()
	if err := r.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// announced returns what a buyer's program reads at an instant.
func announced(t testing.TB, store signup.KeyStore, now time.Time) signup.Announcement {
	t.Helper()
	text, err := store.SignupAnnouncement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := signup.ParseAnnouncement(text, now)
	if err != nil {
		t.Fatalf("announced %s: %v", text, err)
	}
	return a
}

// newCredentials returns credentials with the hash of a fresh generated password.
func newCredentials(t testing.TB, name string) signup.Credentials {
	t.Helper()
	verifier, err := password.Hash(password.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return signup.Credentials{Username: name, Verifier: verifier}
}

func sealed(t testing.TB, a signup.Announcement, c signup.Credentials, to signup.Context) string {
	t.Helper()
	text, err := a.Seal(c, to)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestKeysRotate runs a seller for 90 days. Whatever day a buyer reads the key and
// however late within its time he seals, what is settled a month later opens.
func TestKeysRotate(t *testing.T) {
	store := new(tangletest.Store)
	r := newRing(store)
	c := newCredentials(t, "john")
	type text struct {
		sealed string
		until  time.Time
	}
	var texts []text
	seen := make(map[string]bool)
	for today := range 90 {
		r.ensure(t)
		a := announced(t, store, r.now)
		if seen[a.KeyID] {
			t.Errorf("%s: key %s is announced a second day", r.now, a.KeyID)
		}
		seen[a.KeyID] = true
		if left := a.NotAfter.Sub(r.now); left < 6*day || left > 7*day {
			t.Errorf("%s: the key is announced until %s", r.now, a.NotAfter)
		}
		texts = append(texts, text{sealed(t, a, c, atLive), a.NotAfter.Add(30 * day)})
		for i, text := range texts {
			if (today-i)%6 != 0 && today-i != 36 && today-i != 37 { // opening takes time
				continue
			}
			got, err := r.Open(t.Context(), text.sealed, atLive)
			switch {
			case !r.now.After(text.until) && (err != nil || got != c):
				t.Fatalf("%s: text of day %d: got %v", r.now, i, err)
			case r.now.After(text.until.Add(day)) && !errors.Is(err, signup.ErrKey):
				t.Errorf("%s: text of day %d, over since %s: got %v, want %v", r.now, i, text.until, err, signup.ErrKey)
			}
		}
		r.now = r.now.Add(day)
	}
	if keys, _ := store.SignupKeys(t.Context()); len(keys) > 40 {
		t.Errorf("got %d keys, want about 38", len(keys))
	}
	if got := store.SignupsAnnounced(); got != 90 {
		t.Errorf("followers were told %d times, want 90", got)
	}
}

// TestKeysAfterAbsence: nobody ran for 60 days. What was sealed before, and paid
// meanwhile, opens for another month.
func TestKeysAfterAbsence(t *testing.T) {
	store := new(tangletest.Store)
	before := newRing(store)
	before.ensure(t)
	c := newCredentials(t, "john")
	text := sealed(t, announced(t, store, before.now), c, atLive)
	r := newRing(store)
	r.now = start.Add(60 * day)
	for _, test := range []struct {
		days int
		want error
	}{{0, nil}, {29, nil}, {31, signup.ErrKey}} {
		r.now = start.Add(time.Duration(60+test.days) * day)
		r.ensure(t)
		if _, err := r.Open(t.Context(), text, atLive); !errors.Is(err, test.want) {
			t.Errorf("%d days after the return: got %v, want %v", test.days, err, test.want)
		}
	}
}

// TestKeysOfTwo: two processes on one store agree on the keys, also if the clock of
// one is a day behind, and none undoes what the other announced.
func TestKeysOfTwo(t *testing.T) {
	store := new(tangletest.Store)
	a, b := newRing(store), newRing(store)
	c := newCredentials(t, "john")
	for range 10 {
		fails := make(chan error)
		for _, r := range []*ring{a, b} {
			go func() { fails <- r.Ensure(context.WithoutCancel(t.Context())) }()
		}
		for range 2 {
			if err := <-fails; err != nil {
				t.Fatal(err)
			}
		}
		text := sealed(t, announced(t, store, a.now), c, atLive)
		for name, r := range map[string]*ring{"a": a, "b": b} {
			if got, err := r.Open(t.Context(), text, atLive); err != nil || got != c {
				t.Fatalf("%s: %v", name, err)
			}
		}
		a.now, b.now = a.now.Add(day), b.now.Add(day)
	}
	if keys, _ := store.SignupKeys(t.Context()); len(keys) != 10 {
		t.Errorf("got %d keys, want 10", len(keys))
	}
	b.now = a.now.Add(-day)
	a.ensure(t)
	want := announced(t, store, a.now)
	for range 3 {
		b.ensure(t)
		a.ensure(t)
		if got := announced(t, store, a.now); got != want {
			t.Errorf("with a clock a day behind: got %+v, want %+v", got, want)
		}
	}
}

// TestAnnouncementReplaced: an announcement of a key that is not in the store, or
// of one by a clock that was far ahead, is replaced.
func TestAnnouncementReplaced(t *testing.T) {
	store := new(tangletest.Store)
	foreign, err := signup.NewKey(start.Add(7 * day))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(foreign.Announcement())
	ahead := newRing(store)
	ahead.now = start.Add(1000 * day)
	ahead.ensure(t)
	far, err := store.SignupAnnouncement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, before := range map[string][]byte{"another store's": text, "far ahead": far, "nonsense": []byte("nonsense"), "withdrawn": nil} {
		if err := store.AnnounceSignup(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		r := newRing(store)
		r.ensure(t)
		a := announced(t, store, start)
		if left := a.NotAfter.Sub(start); left < 6*day || left > 7*day {
			t.Errorf("%s: got %+v", name, a)
		}
		if _, err := r.Open(t.Context(), sealed(t, a, newCredentials(t, "john"), atLive), atLive); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysKilled kills the making of a key at every point. The next start ends with
// an announced key that opens, of which followers were told.
func TestKeysKilled(t *testing.T) {
	for stop := 1; ; stop++ {
		store := new(tangletest.Store)
		points := 0
		var struck tangletest.Point
		ctx := tangletest.WithFault(t.Context(), func(p tangletest.Point) error {
			if points++; points == stop {
				struck = p
				return errors.New("killed")
			}
			return nil
		})
		first := newRing(store)
		if err := first.Ensure(ctx); err == nil {
			t.Logf("%d points", stop-1)
			return
		}
		told := store.SignupsAnnounced()
		r := newRing(store)
		r.now = start.Add(time.Minute)
		r.ensure(t)
		if store.SignupsAnnounced() == told {
			t.Errorf("killed at %+v: followers were not told afterwards", struck)
		}
		a := announced(t, store, r.now)
		if _, err := r.Open(t.Context(), sealed(t, a, newCredentials(t, "john"), atLive), atLive); err != nil {
			t.Errorf("killed at %+v: %v", struck, err)
		}
		if keys, _ := store.SignupKeys(t.Context()); len(keys) != 1 {
			t.Errorf("killed at %+v: got %d keys, want 1", struck, len(keys))
		}
	}
}

func TestWithdraw(t *testing.T) {
	store := new(tangletest.Store)
	if err := signup.Withdraw(t.Context(), store); err != nil || store.SignupsAnnounced() != 0 {
		t.Errorf("Withdraw of nothing: got %v, followers told %d times", err, store.SignupsAnnounced())
	}
	r := newRing(store)
	r.ensure(t)
	text := sealed(t, announced(t, store, start), newCredentials(t, "john"), atLive)
	if err := signup.Withdraw(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	if got, err := store.SignupAnnouncement(t.Context()); err != nil || got != nil {
		t.Errorf("after Withdraw: got %s, %v", got, err)
	}
	if _, err := newRing(store).Open(t.Context(), text, atLive); err != nil {
		t.Errorf("keys stay: %v", err)
	}
}

// TestRun: Run makes a key at once, says once that the store fails, and ends with
// its context.
func TestRun(t *testing.T) {
	store := new(tangletest.Store)
	failing := make(chan struct{})
	var log strings.Builder
	r := newRing(store)
	logger := logrus.New()
	logger.SetOutput(&log)
	r.Log = logger
	ctx, cancel := context.WithCancel(t.Context())
	ctx = tangletest.WithFault(ctx, func(p tangletest.Point) error {
		close(failing)
		return errors.New("store is away")
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx)
	}()
	<-failing
	time.AfterFunc(50*time.Millisecond, cancel) // it waits for its next attempt
	<-ended
	if !strings.Contains(log.String(), "store is away") {
		t.Errorf("got log %q", log.String())
	}
	store = new(tangletest.Store)
	r = newRing(store)
	ctx, cancel = context.WithCancel(t.Context())
	var ops []string
	ctx = tangletest.WithFault(ctx, func(p tangletest.Point) error {
		if ops = append(ops, p.Op); p.Op == "AnnounceSignup/written" {
			cancel()
		}
		return nil
	})
	r.Run(ctx)
	if !slices.Contains(ops, "AddSignupKey") {
		t.Errorf("got %v", ops)
	}
}

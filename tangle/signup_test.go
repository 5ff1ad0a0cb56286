package tangle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// strangers seal sign-ups, and settle them in one world after another. Opening a text
// takes most of the time, so each is opened once.
type strangers struct {
	store     tangletest.Store // the keys
	ring      signup.Keyring
	announced signup.Announcement
	verifiers []string // of john or mary, whoever a payment names
	claims    map[string]tangle.Claim
	accounts  struct{ signup.Accounts } // the world's
	rule      signup.Rule
}

func newStrangers(t testing.TB) *strangers {
	t.Helper()
	s := &strangers{claims: make(map[string]tangle.Claim)}
	s.ring = signup.Keyring{Store: &s.store, Now: func() time.Time { return start }}
	if err := s.ring.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := s.store.SignupAnnouncement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.announced, err = signup.ParseAnnouncement(text, start); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		verifier, err := password.Hash(password.Generate())
		if err != nil {
			t.Fatal(err)
		}
		s.verifiers = append(s.verifiers, verifier)
	}
	s.rule = signup.Rule{
		Keys: &s.ring, Accounts: &s.accounts, CheckName: func(string) error { return nil },
		Currency: tangle.Currency{Unit: "i"},
	}
	return s
}

// payment returns a payment of a stranger.
func (s *strangers) payment(t testing.TB, id, name string, verifier int, amount int64) tangle.Payment {
	t.Helper()
	text, err := s.announced.Seal(signup.Credentials{Username: name, Verifier: s.verifiers[verifier]}, signup.Context{Ledger: "test", Address: "JANE", Offer: "live"})
	if err != nil {
		t.Fatal(err)
	}
	return payment(id, fmt.Sprintf(`{"signup": %q, "offer": "live"}`, text), amount)
}

// Claim implements tangle.Rule.
func (s *strangers) Claim(ctx context.Context, p tangle.Payment) (tangle.Claim, error) {
	if c, ok := s.claims[string(p.Message)]; ok && c.By == "" {
		return c, nil
	}
	key := fmt.Sprintf("%s %d %s", p.ID, p.Amount, p.Message)
	if c, ok := s.claims[key]; ok {
		return c, nil
	}
	c, err := s.rule.Claim(ctx, p)
	if err == nil {
		s.claims[key] = c
	}
	return c, err
}

// world returns a world without users, in which the payments are recorded.
func (s *strangers) world(t testing.TB, payments ...tangle.Payment) *world {
	t.Helper()
	w := newWorld(t, payments...)
	for _, name := range []string{"john", "mary"} {
		w.store.SetUser(name, tangle.UserUnknown)
	}
	s.accounts.Accounts = w.store
	return w
}

// watcher settles payments in the given order.
func (s *strangers) watcher(w *world, name string, payments ...tangle.Payment) *actor {
	return &actor{name: name, work: func(ctx context.Context, store tangle.Store) error {
		settler := &tangle.Settler{Store: store, Offers: w.offers, Rules: []tangle.Rule{tangle.MessageRule{}, s}, Now: w.now}
		for _, p := range payments {
			_, err := settler.Settle(ctx, p)
			for err != nil && strings.Contains(err.Error(), "try again") {
				_, err = settler.Settle(ctx, p)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

// final settles everything once more, as the next start does.
func (s *strangers) final(w *world, payments ...tangle.Payment) {
	last := s.watcher(w, "last", slices.Concat(payments, payments)...)
	last.start(w.store)
	last.run(-1)
}

// check checks that each name has one account, made once, and that it got exactly
// the payments that name its verifier.
func (s *strangers) check(t testing.TB, w *world, sealed map[string]int, payments ...tangle.Payment) {
	t.Helper()
	paid := map[string]map[string]int64{"john": {}, "mary": {}}
	verifiers := make(map[string]string)
	for name := range paid {
		state, verifier, err := w.store.Verifier(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if state == tangle.UserReady {
			verifiers[name] = verifier
			if !w.store.UserAnnounced(name) {
				t.Errorf("followers were not told of user %s", name)
			}
		}
	}
	for _, p := range payments {
		name := "john"
		if strings.HasPrefix(p.ID, "m") {
			name = "mary"
		}
		if verifiers[name] == s.verifiers[sealed[p.ID]] {
			paid[name][p.ID] = p.Amount
		} else if outcome, reason := w.store.Outcome(p.ID); outcome != tangle.Unmatched || reason == "" {
			t.Errorf("payment %s with another verifier is %s (%s)", p.ID, outcome, reason)
		}
	}
	for name, of := range paid {
		check(t, w.store, w.offer, name, of)
		if len(of) > 0 && len(w.store.Account(name, "live")) != len(of) {
			t.Errorf("%s: got entries %+v, want %d", name, w.store.Account(name, "live"), len(of))
		}
	}
	names := w.store.SignedUp()
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) || len(names) != len(verifiers) {
		t.Errorf("accounts made: %q, want each of %v once", names, verifiers)
	}
}

// TestSignUpsPausedAnywhere pauses one watcher after each of its steps, lets a second
// one go each number of steps, and wakes the first; in turn, nobody, the first or the
// second is killed where it stands.
func TestSignUpsPausedAnywhere(t *testing.T) {
	s := newStrangers(t)
	for _, test := range []struct {
		name          string
		payments      []tangle.Payment
		sealed        map[string]int
		first, second []int // the order of payments
	}{
		{
			"one payment", []tangle.Payment{s.payment(t, "j1", "john", 0, 700)}, nil,
			[]int{0}, []int{0},
		},
		{
			"two strangers, one name", []tangle.Payment{s.payment(t, "j1", "john", 0, 700), s.payment(t, "j2", "john", 1, 500)},
			map[string]int{"j2": 1}, []int{0, 1}, []int{1, 0},
		},
		{
			"two parts", []tangle.Payment{s.payment(t, "m1", "mary", 0, 300), s.payment(t, "m2", "mary", 0, 250)}, nil,
			[]int{0, 1, 0}, []int{1, 0, 1},
		},
		{
			"a sign-up and a payment by name", []tangle.Payment{s.payment(t, "j1", "john", 0, 500), payment("j2", fromJohn, 300)}, nil,
			[]int{0, 1}, []int{1, 0},
		},
	} {
		order := func(order []int) (payments []tangle.Payment) {
			for _, i := range order {
				payments = append(payments, test.payments[i])
			}
			return payments
		}
		runs := 0
		for _, kill := range []string{"nobody", "first", "second"} {
			for pause, ended := 0, false; !ended; pause++ {
				for second, over := 0, false; !over; second++ {
					w := s.world(t, test.payments...)
					a, b := s.watcher(w, "first", order(test.first)...), s.watcher(w, "second", order(test.second)...)
					a.start(w.store)
					a.run(pause)
					ended = a.done
					b.start(w.store)
					b.run(second)
					over = b.done
					switch kill {
					case "first":
						a.crash(w.store)
					case "second":
						b.crash(w.store)
					}
					a.run(-1)
					b.run(-1)
					s.final(w, test.payments...)
					s.check(t, w, test.sealed, test.payments...)
					runs++
					if t.Failed() {
						t.Fatalf("%s: kill %s, pause after %d, second goes %d steps", test.name, kill, pause, second)
					}
				}
			}
		}
		t.Logf("%s: %d interleavings", test.name, runs)
	}
}

// TestSignUpsKilledAtEveryWrite kills a watcher at each point of settling sign-ups,
// once, and starts it again.
func TestSignUpsKilledAtEveryWrite(t *testing.T) {
	s := newStrangers(t)
	payments := []tangle.Payment{
		s.payment(t, "m1", "mary", 1, 200), s.payment(t, "j1", "john", 0, 500), s.payment(t, "j2", "john", 1, 500),
		s.payment(t, "m2", "mary", 1, 400), s.payment(t, "j3", "john", 0, 700),
	}
	sealed := map[string]int{"m1": 1, "m2": 1, "j2": 1}
	for stop := 0; ; stop++ {
		w := s.world(t, payments...)
		a := s.watcher(w, "watcher", slices.Concat(payments, payments)...)
		a.start(w.store)
		a.run(stop)
		if a.done {
			t.Logf("%d points", stop)
			return
		}
		a.crash(w.store)
		a.run(-1)
		s.check(t, w, sealed, payments...)
		if t.Failed() {
			t.Fatalf("stop after %d", stop)
		}
	}
}

// TestRandomSignUps lets two watchers settle what strangers paid for two names, while
// the seller removes who has them, in random order of steps and with crashes.
func TestRandomSignUps(t *testing.T) {
	const histories = 1500
	s := newStrangers(t)
	var pool []tangle.Payment // sealing takes time
	sealed := make(map[string]int)
	for i := range 40 {
		name, verifier := []string{"john", "john", "mary"}[i%3], i/3%2
		p := s.payment(t, fmt.Sprintf("%c%d", name[0], i), name, verifier, []int64{500, 700, 200, 300, 1250}[i%5])
		sealed[p.ID] = verifier
		pool = append(pool, p)
	}
	outcomes := make(map[tangle.Outcome]int)
	made, empty, removed := 0, 0, 0
	for seed := range uint64(histories) {
		r := rand.New(rand.NewPCG(seed, 13))
		now := start
		var payments []tangle.Payment
		for _, i := range r.Perm(len(pool))[:2+r.IntN(4)] {
			payments = append(payments, at(pool[i], start.Add(time.Duration(r.IntN(7200))*time.Second)))
		}
		w := s.world(t, payments...)
		w.now = func() time.Time { return now }
		settler := func(store tangle.Store) *tangle.Settler {
			return &tangle.Settler{Store: store, Offers: w.offers, Now: w.now}
		}
		if err := settler(w.store).RecordTerms(t.Context()); err != nil {
			t.Fatal(err)
		}
		shuffled := func() []tangle.Payment {
			all := slices.Concat(payments, payments)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all
		}
		waits := make([]int, r.IntN(3))
		for i := range waits {
			waits[i] = r.IntN(40)
		}
		removals := 0
		remover := &actor{name: "remover", work: func(ctx context.Context, store tangle.Store) error {
			for _, steps := range waits {
				for range steps {
					if _, err := store.UserState(ctx, "john"); err != nil {
						return err
					}
				}
				if state, err := store.UserState(ctx, "john"); err != nil || state == tangle.UserUnknown {
					return err
				}
				w.store.SetUser("john", tangle.UserDisabled)
				if err := settler(store).Close(ctx, "john", "removed"); err != nil {
					return err
				}
				w.store.SetUser("john", tangle.UserUnknown)
				removals++
			}
			return nil
		}}
		actors := []*actor{s.watcher(w, "first", shuffled()...), s.watcher(w, "second", shuffled()...), remover}
		for _, a := range actors {
			a.start(w.store)
		}
		crashes := r.IntN(6)
		for {
			live := slices.DeleteFunc(slices.Clone(actors), func(a *actor) bool { return a.done })
			if len(live) == 0 {
				break
			}
			a := live[r.IntN(len(live))]
			switch {
			case crashes > 0 && r.IntN(15) == 0:
				crashes--
				a.crash(w.store)
			case r.IntN(10) == 0:
				now = now.Add(time.Duration(r.IntN(3600)) * time.Second)
			default:
				a.run(1 + r.IntN(5))
			}
		}
		s.final(w, payments...)
		ledgerOf(t, w.store, w.offer, payments, "john", "mary")
		for _, name := range []string{"john", "mary"} {
			lives := make(map[int64]int) // the verifier that paid in each life
			for _, g := range w.store.Account(name, "live") {
				if g.Kind != tangle.Paid {
					continue
				}
				if of, ok := lives[g.Life]; ok && of != sealed[g.Payment] {
					t.Errorf("%s: holder %d was paid for by two strangers", name, g.Life)
				}
				lives[g.Life] = sealed[g.Payment]
			}
			// Whoever paid last can log in, unless he was removed since.
			state, verifier, err := w.store.Verifier(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			account := w.store.Account(name, "live")
			switch {
			case len(account) == 0 || account[len(account)-1].Kind == tangle.Closed:
				if state == tangle.UserReady {
					empty++
				}
			case state != tangle.UserReady || verifier != s.verifiers[lives[account[len(account)-1].Life]]:
				t.Errorf("%s is %s, and another one paid last", name, state)
			}
		}
		names := w.store.SignedUp()
		made += len(names)
		removed += removals
		john := len(slices.DeleteFunc(names, func(name string) bool { return name != "john" }))
		if john > removals+1 {
			t.Errorf("john was made %d times and removed %d times", john, removals)
		}
		for _, p := range payments {
			outcome, _ := w.store.Outcome(p.ID)
			outcomes[outcome]++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	// A watcher that slept while the name was taken and freed again may make an
	// account that nobody pays for. It opens nothing.
	if empty > histories/100 {
		t.Errorf("%d accounts without a payment", empty)
	}
	t.Logf("%d histories: %v, %d accounts made, %d removed, %d without a payment", histories, outcomes, made, removed, empty)
}

// TestSignUpsTogether settles the same sign-ups in many goroutines at once.
func TestSignUpsTogether(t *testing.T) {
	s := newStrangers(t)
	var payments []tangle.Payment
	sealed := make(map[string]int)
	for i := range 20 {
		name := []string{"john", "mary"}[i%2]
		p := s.payment(t, fmt.Sprintf("%c%d", name[0], i), name, i/2%2, int64(100+137*i))
		sealed[p.ID] = i / 2 % 2
		payments = append(payments, p)
	}
	w := s.world(t, payments...)
	fails := make(chan error)
	for i := range 8 {
		go func() {
			r := rand.New(rand.NewPCG(uint64(i), 17))
			settler := &tangle.Settler{Store: w.store, Offers: w.offers, Rules: []tangle.Rule{tangle.MessageRule{}, &s.rule}, Now: w.now}
			var err error
			for _, i := range r.Perm(len(payments)) {
				_, itsErr := settler.Settle(context.WithoutCancel(t.Context()), payments[i])
				err = errors.Join(err, itsErr)
			}
			fails <- err
		}()
	}
	for range 8 {
		if err := <-fails; err != nil {
			t.Error(err)
		}
	}
	s.final(w, payments...)
	s.check(t, w, sealed, payments...)
}

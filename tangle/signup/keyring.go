package signup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// rotateEvery is how often a new key is made and announced. Periods of this
	// length are numbered from the beginning of 1970 UTC.
	rotateEvery = 24 * time.Hour
	// announcedFor is how long after the beginning of its period a buyer may seal
	// with a key. It covers several rotations, so that a seller who is away for some
	// days still sells.
	announcedFor = 7 * 24 * time.Hour
	// keptFor is how long a key opens texts after it expired and after it was
	// replaced: what was sealed in time may be paid, final or settled late.
	keptFor = 30 * 24 * time.Hour

	ensureEvery = 10 * time.Minute // between checks whether a new key is due
	retryAfter  = 10 * time.Second // after a failed check
)

// StoredKey is a [Key] as a [KeyStore] keeps it.
type StoredKey struct {
	Period   int64     // the number of the period that it was made in; unique
	Private  []byte    // secret, see [Key.Private]
	NotAfter time.Time // as [Key.NotAfter]
	Made     time.Time
}

// KeyStore keeps the keys of a seller, and which of them is announced.
type KeyStore interface {
	// SignupKeys returns all keys, in no order.
	SignupKeys(ctx context.Context) ([]StoredKey, error)
	// AddSignupKey keeps a key, and reports whether it did: it changes nothing if
	// there is one of the same period.
	AddSignupKey(ctx context.Context, k StoredKey) (added bool, err error)
	// RemoveSignupKey removes the key of a period, if there is one.
	RemoveSignupKey(ctx context.Context, period int64) error
	// SignupAnnouncement returns what was announced last; nil if sign-up is off.
	SignupAnnouncement(ctx context.Context) ([]byte, error)
	// AnnounceSignup replaces the announcement, and tells those who follow the
	// store. Nil means that sign-up is off.
	AnnounceSignup(ctx context.Context, announcement []byte) error
}

// Keyring makes, announces and retires the keys in a store, and opens texts with
// them. Any number of them may work on one store at once, in any number of
// processes. Its methods may be called by several goroutines.
type Keyring struct {
	Store KeyStore
	Now   func() time.Time // time.Now if nil
	Log   logrus.FieldLogger

	ensuring sync.Mutex // held by Ensure
	told     bool       // an announcement was written, or repeated, since the start

	mu   sync.Mutex
	keys Keys // as they were read last
}

// Run calls [Keyring.Ensure] until the context ends, often enough that a new key
// is announced long before the one before it expires.
func (r *Keyring) Run(ctx context.Context) {
	failing := false
	for {
		err := r.Ensure(ctx)
		wait := ensureEvery
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = retryAfter
			if !failing {
				r.Log.WithError(err).Warn("sign-up key cannot be checked")
			}
		case failing:
			r.Log.Info("sign-up key is checked again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Ensure makes the key of this period unless the store has it, announces it, and
// removes keys that open nothing any more.
func (r *Keyring) Ensure(ctx context.Context) error {
	r.ensuring.Lock()
	defer r.ensuring.Unlock()
	now := r.now()
	period := now.Unix() / int64(rotateEvery/time.Second)
	stored, err := r.read(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(stored, func(k StoredKey) bool { return k.Period == period }) {
		if err := r.add(ctx, period, now); err != nil {
			return err
		}
		if stored, err = r.read(ctx); err != nil {
			return err
		}
	}
	if err := r.announce(ctx, stored, period, now); err != nil {
		return err
	}
	over := retired(stored, now)
	for _, k := range over {
		if err := r.Store.RemoveSignupKey(ctx, k.Period); err != nil {
			return fmt.Errorf("remove sign-up key of period %d: %w", k.Period, err)
		}
	}
	if len(over) > 0 {
		_, err = r.read(ctx)
	}
	return err
}

// add makes a key for a period. If another process does so first, that one counts.
func (r *Keyring) add(ctx context.Context, period int64, now time.Time) error {
	begin := time.Unix(period*int64(rotateEvery/time.Second), 0)
	k, err := NewKey(begin.Add(announcedFor))
	if err != nil {
		return err
	}
	private, err := k.Private()
	if err != nil {
		return fmt.Errorf("encode sign-up key: %w", err)
	}
	if _, err := r.Store.AddSignupKey(ctx, StoredKey{Period: period, Private: private, NotAfter: k.NotAfter, Made: now}); err != nil {
		return fmt.Errorf("store sign-up key of period %d: %w", period, err)
	}
	return nil
}

// announce announces the key of a period, unless one is announced that is newer by
// the clock of another process.
func (r *Keyring) announce(ctx context.Context, stored []StoredKey, period int64, now time.Time) error {
	i := slices.IndexFunc(stored, func(k StoredKey) bool { return k.Period == period })
	if i < 0 {
		return fmt.Errorf("announce sign-up key of period %d: it is not in the store", period)
	}
	k, err := ParseKey(stored[i].Private, stored[i].NotAfter)
	if err != nil {
		return err
	}
	text, err := json.Marshal(k.Announcement())
	if err != nil {
		return fmt.Errorf("encode sign-up key: %w", err)
	}
	before, err := r.Store.SignupAnnouncement(ctx)
	if err != nil {
		return fmt.Errorf("read announced sign-up key: %w", err)
	}
	if a, err := ParseAnnouncement(before, now); err == nil && r.has(a.KeyID) {
		newer := a.NotAfter.After(k.NotAfter) && a.NotAfter.Before(now.Add(announcedFor+rotateEvery))
		// A crash may have come between writing an announcement and telling those
		// who follow: once after the start, it is repeated.
		if (newer || a == k.Announcement()) && r.told {
			return nil
		}
		if newer {
			text = before
		}
	}
	if err := r.Store.AnnounceSignup(ctx, text); err != nil {
		return fmt.Errorf("announce sign-up key: %w", err)
	}
	r.told = true
	return nil
}

func (r *Keyring) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.keys, func(k Key) bool { return k.ID() == id })
}

// retired returns the keys that open nothing any more. A key is kept for a time
// after the next one was made: nobody looked while no process ran.
func retired(stored []StoredKey, now time.Time) []StoredKey {
	var over []StoredKey
	for i, k := range stored {
		if i+1 == len(stored) {
			break
		}
		last := k.NotAfter
		if next := stored[i+1].Made; next.After(last) {
			last = next
		}
		if now.After(last.Add(keptFor)) {
			over = append(over, k)
		}
	}
	return over
}

// read reads the keys, and returns them by period.
func (r *Keyring) read(ctx context.Context) ([]StoredKey, error) {
	stored, err := r.Store.SignupKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read sign-up keys: %w", err)
	}
	slices.SortFunc(stored, func(a, b StoredKey) int { return cmp.Compare(a.Period, b.Period) })
	var keys Keys
	for _, s := range stored {
		k, err := ParseKey(s.Private, s.NotAfter)
		if err != nil {
			return nil, fmt.Errorf("read sign-up key of period %d: %w", s.Period, err)
		}
		keys = append(keys, k)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = keys
	return stored, nil
}

// Open returns the credentials that a buyer sealed, as [Keys.Open] does with all
// keys in the store. Any other error than that one's means that the store could
// not be read.
func (r *Keyring) Open(ctx context.Context, text string, in Context) (Credentials, error) {
	r.mu.Lock()
	keys := r.keys
	r.mu.Unlock()
	c, err := keys.Open(text, in)
	if !errors.Is(err, ErrKey) {
		return c, err
	}
	if _, err := r.read(ctx); err != nil { // another process may have made one
		return Credentials{}, err
	}
	r.mu.Lock()
	keys = r.keys
	r.mu.Unlock()
	return keys.Open(text, in)
}

// Withdraw announces that sign-up is off. Keys stay in the store.
func Withdraw(ctx context.Context, store KeyStore) error {
	before, err := store.SignupAnnouncement(ctx)
	if err != nil {
		return fmt.Errorf("read announced sign-up key: %w", err)
	}
	if before == nil {
		return nil
	}
	if err := store.AnnounceSignup(ctx, nil); err != nil {
		return fmt.Errorf("withdraw sign-up key: %w", err)
	}
	return nil
}

func (r *Keyring) now() time.Time {
	if r.Now == nil {
		return time.Now().UTC().Truncate(time.Millisecond)
	}
	return r.Now().UTC().Truncate(time.Millisecond)
}

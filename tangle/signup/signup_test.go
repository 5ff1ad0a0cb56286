package signup

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl/password"
)

var (
	update = flag.Bool("update", false, "write testdata/vectors.json anew")
	now    = time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC)
	live   = Context{Ledger: "iota", Address: "0x" + strings.Repeat("ab", 32), Offer: "live"}
)

func newKey(t testing.TB) Key {
	k, err := NewKey(now.Add(24 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func john(t testing.TB) Credentials {
	verifier, err := password.Hash(password.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return Credentials{Username: "john-k3x7", Verifier: verifier}
}

func seal(t testing.TB, a Announcement, c Credentials, to Context) string {
	text, err := a.Seal(c, to)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// announced is the announcement as a buyer's program receives it.
func announced(t testing.TB, k Key) Announcement {
	text, err := json.Marshal(k.Announcement())
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAnnouncement(text, now)
	if err != nil {
		t.Fatalf("ParseAnnouncement(%s): %v", text, err)
	}
	return a
}

func TestSealOpen(t *testing.T) {
	old, current := newKey(t), newKey(t)
	want := john(t)
	for _, k := range []Key{old, current} {
		text := seal(t, announced(t, k), want, live)
		if got, err := (Keys{current, old}).Open(text, live); err != nil || got != want {
			t.Errorf("Open: got %+v, %v, want %+v", got, err, want)
		}
		if again := seal(t, announced(t, k), want, live); again == text {
			t.Error("Seal made the same text twice")
		}
	}
}

func TestKeyRoundTrip(t *testing.T) {
	k := newKey(t)
	private, err := k.Private()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKey(private, k.NotAfter)
	if err != nil || again.Announcement() != k.Announcement() {
		t.Errorf("ParseKey: got %+v, %v, want %+v", again.Announcement(), err, k.Announcement())
	}
	if _, err := ParseKey(private[1:], now); err == nil {
		t.Error("ParseKey of 31 bytes: got no error")
	}
}

func TestOpenRefuses(t *testing.T) {
	k, other := newKey(t), newKey(t)
	text := seal(t, announced(t, k), john(t), live)
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		keys Keys
		text string
		in   Context
		want error
	}{
		"retired key":     {Keys{other}, text, live, ErrKey},
		"no keys":         {nil, text, live, ErrKey},
		"another ledger":  {Keys{k}, text, Context{"legacy", live.Address, live.Offer}, ErrSealed},
		"another address": {Keys{k}, text, Context{live.Ledger, live.Address[:65] + "0", live.Offer}, ErrSealed},
		"another offer":   {Keys{k}, text, Context{live.Ledger, live.Address, "gold"}, ErrSealed},
		"empty":           {Keys{k}, "", live, ErrSealed},
		"not base64url":   {Keys{k}, text[:40] + "+/" + text[42:], live, ErrSealed},
		"padded":          {Keys{k}, text + "==", live, ErrSealed},
		"header only":     {Keys{k}, base64.RawURLEncoding.EncodeToString(raw[:headerLen]), live, ErrSealed},
		"no ciphertext":   {Keys{k}, base64.RawURLEncoding.EncodeToString(raw[:headerLen+encLen]), live, ErrSealed},
		"huge":            {Keys{k}, strings.Repeat("A", 1<<20), live, ErrSealed},
	} {
		if _, err := test.keys.Open(test.text, test.in); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	for i := range raw { // every byte counts
		changed := append([]byte(nil), raw...)
		changed[i] ^= 0x40
		if got, err := (Keys{k}).Open(base64.RawURLEncoding.EncodeToString(changed), live); err == nil {
			t.Errorf("byte %d changed: got %+v", i, got)
		}
		if got, err := (Keys{k}).Open(base64.RawURLEncoding.EncodeToString(raw[:i]), live); err == nil {
			t.Errorf("cut off at byte %d: got %+v", i, got)
		}
	}
}

// TestCredentials: only the cheap hash of a generated password is a verifier,
// when sealing and when opening what another implementation sealed.
func TestCredentials(t *testing.T) {
	slow, err := password.Hash("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	a := announced(t, newKey(t))
	for name, c := range map[string]Credentials{
		"no username":      {"", john(t).Verifier},
		"no verifier":      {"john", ""},
		"a password":       {"john", "secret"},
		"argon2id":         {"john", slow},
		"cut off verifier": {"john", john(t).Verifier[:30]},
	} {
		if _, err := a.Seal(c, live); !errors.Is(err, ErrCredentials) {
			t.Errorf("Seal with %s: got %v, want %v", name, err, ErrCredentials)
		}
		text, _ := json.Marshal(c)
		if _, err := parseCredentials(text); !errors.Is(err, ErrCredentials) {
			t.Errorf("open with %s: got %v, want %v", name, err, ErrCredentials)
		}
	}
	good, _ := json.Marshal(john(t))
	for _, text := range []string{"", "null", "[]", `"x"`, string(good) + "{}", strings.Replace(string(good), "{", `{"superuser":true,`, 1),
		strings.Replace(string(good), "username", "Username", 1), strings.Replace(string(good), "{", `{"username":"mary",`, 1),
		string(good[:len(good)-1]), `{"username":5,"verifier":null}`, "{}", "{5:6}"} {
		if _, err := parseCredentials([]byte(text)); !errors.Is(err, ErrCredentials) {
			t.Errorf("open %.60s: got %v, want %v", text, err, ErrCredentials)
		}
	}
}

func TestParseAnnouncement(t *testing.T) {
	good := newKey(t).Announcement()
	for name, test := range map[string]struct {
		change func(*Announcement)
		want   string
	}{
		"version":   {func(a *Announcement) { a.Version = 2 }, "v is 2, want 1"},
		"suite":     {func(a *Announcement) { a.Suite = "P256" }, `suite is "P256"`},
		"expired":   {func(a *Announcement) { a.NotAfter = now }, "expired at 2026-11-26T17:00:00Z"},
		"encoding":  {func(a *Announcement) { a.Public = "+/" }, "not base64url"},
		"short key": {func(a *Announcement) { a.Public = a.Public[:40] }, "not an X25519 key"},
		"key ID":    {func(a *Announcement) { a.KeyID = "00000000" }, `kid is "00000000"`},
	} {
		a := good
		test.change(&a)
		text, _ := json.Marshal(a)
		if _, err := ParseAnnouncement(text, now); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
	if _, err := ParseAnnouncement([]byte("nonsense"), now); err == nil {
		t.Error("ParseAnnouncement of nonsense: got no error")
	}
}

// vector is an example for other implementations: what private opens sealed to.
type vector struct {
	Private      string       `json:"private"` // base64url
	Announcement Announcement `json:"announcement"`
	Ledger       string       `json:"ledger"`
	Address      string       `json:"address"`
	Offer        string       `json:"offer"`
	Username     string       `json:"username"`
	Password     string       `json:"password"`
	Verifier     string       `json:"verifier"`
	Sealed       string       `json:"sealed"`
}

func TestVectors(t *testing.T) {
	const file = "testdata/vectors.json"
	if *update {
		var vectors []vector
		for _, to := range []Context{live, {"legacy", strings.Repeat("ABCDEFGH9", 10), "live"}, {"iota", live.Address, "gold-2"}} {
			k := newKey(t)
			private, err := k.Private()
			if err != nil {
				t.Fatal(err)
			}
			word := password.Generate()
			verifier, err := password.Hash(word)
			if err != nil {
				t.Fatal(err)
			}
			c := Credentials{Username: "jürgen-" + to.Offer, Verifier: verifier}
			vectors = append(vectors, vector{
				Private: base64.RawURLEncoding.EncodeToString(private), Announcement: k.Announcement(),
				Ledger: to.Ledger, Address: to.Address, Offer: to.Offer,
				Username: c.Username, Password: word, Verifier: verifier, Sealed: seal(t, k.Announcement(), c, to),
			})
		}
		text, _ := json.MarshalIndent(vectors, "", "  ")
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	for i, v := range vectors {
		private, err := base64.RawURLEncoding.DecodeString(v.Private)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseKey(private, v.Announcement.NotAfter)
		if err != nil || k.Announcement() != v.Announcement {
			t.Errorf("vector %d: got announcement %+v, %v, want %+v", i, k.Announcement(), err, v.Announcement)
			continue
		}
		want := Credentials{v.Username, v.Verifier}
		if got, err := (Keys{k}).Open(v.Sealed, Context{v.Ledger, v.Address, v.Offer}); err != nil || got != want {
			t.Errorf("vector %d: got %+v, %v, want %+v", i, got, err, want)
		}
		if ok, err := password.Verify(v.Verifier, v.Password); err != nil || !ok {
			t.Errorf("vector %d: the verifier refuses the password: %t, %v", i, ok, err)
		}
	}
}

// FuzzOpen: whatever a stranger writes into a payment, opening it either gives
// usable credentials or an error of the closed set.
func FuzzOpen(f *testing.F) {
	k := newKey(f)
	f.Add(seal(f, k.Announcement(), john(f), live))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := (Keys{k}).Open(text, live)
		if err == nil {
			err = c.check()
		} else if errors.Is(err, ErrKey) || errors.Is(err, ErrSealed) || errors.Is(err, ErrCredentials) {
			return
		}
		if err != nil {
			t.Errorf("Open(%q): %v", text, err)
		}
	})
}

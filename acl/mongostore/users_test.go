package mongostore

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
)

// pbkdf2 is "secret" as mosquitto-auth-plug's tool np would write it.
const pbkdf2 = "PBKDF2$sha256$901$cTL/+Aj1wCkQVTEZ$gXGzHlHVJnOjJRkn+7TcUZgNYJWXJVIA"

func TestParseUser(t *testing.T) {
	const rw = acl.Read | acl.Write
	for _, test := range []struct {
		name     string
		document bson.D
		want     acl.User
		faults   []string // a part of each
	}{
		{
			name: "demo of 2017",
			document: bson.D{
				{Key: "_id", Value: bson.NewObjectID()}, {Key: "username", Value: "john"}, {Key: "password", Value: pbkdf2},
				{Key: "superuser", Value: false}, {Key: "topics", Value: bson.D{{Key: "sensor/live", Value: "r"}}},
			},
			want: acl.User{Name: "john", Password: pbkdf2, Rights: []acl.Right{{Pattern: "sensor/live", Access: acl.Read}}},
		},
		{
			name: "mosquitto-auth-plug: dots, dollars, every access",
			document: bson.D{{Key: "username", Value: "john"}, {Key: "superuser", Value: int32(0)}, {Key: "topics", Value: bson.D{
				{Key: "v1.0/#", Value: "r"}, {Key: "$SYS/#", Value: "w"}, {Key: "u/%u/%c", Value: "rw"},
			}}},
			want: acl.User{Name: "john", Rights: []acl.Right{
				{Pattern: "v1.0/#", Access: acl.Read}, {Pattern: "$SYS/#", Access: acl.Write}, {Pattern: "u/%u/%c", Access: rw},
			}},
		},
		{
			name:     "array is readwrite",
			document: bson.D{{Key: "username", Value: "john"}, {Key: "topics", Value: bson.A{"a/+", "b"}}},
			want:     acl.User{Name: "john", Rights: []acl.Right{{Pattern: "a/+", Access: rw}, {Pattern: "b", Access: rw}}},
		},
		{name: "superuser int32", document: bson.D{{Key: "username", Value: "x"}, {Key: "superuser", Value: int32(1)}}, want: acl.User{Name: "x", Superuser: true}},
		{name: "superuser int64", document: bson.D{{Key: "username", Value: "x"}, {Key: "superuser", Value: int64(2)}}, want: acl.User{Name: "x", Superuser: true}},
		{name: "superuser double", document: bson.D{{Key: "username", Value: "x"}, {Key: "superuser", Value: 1.0}}, want: acl.User{Name: "x", Superuser: true}},
		{name: "superuser double 0", document: bson.D{{Key: "username", Value: "x"}, {Key: "superuser", Value: 0.0}}, want: acl.User{Name: "x"}},
		{name: "superuser null", document: bson.D{{Key: "username", Value: "x"}, {Key: "superuser", Value: nil}}, want: acl.User{Name: "x"}},
		{name: "topics null", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: nil}}, want: acl.User{Name: "x"}},
		{name: "unknown fields", document: bson.D{{Key: "username", Value: "x"}, {Key: "email", Value: 1}}, want: acl.User{Name: "x"}},
		{name: "disabled", document: bson.D{{Key: "username", Value: "x"}, {Key: "disabled", Value: true}}, want: acl.User{Name: "x", Disabled: true}},

		{
			name:     "password that is no hash, topics that are none",
			document: bson.D{{Key: "username", Value: "x"}, {Key: "password", Value: "swordfish"}, {Key: "topics", Value: 12}, {Key: "superuser", Value: true}},
			want:     acl.User{Name: "x", Password: "swordfish", Superuser: true},
			faults:   []string{"password: is not a hash", "topics: is of type 32-bit integer"},
		},
		{name: "no name", document: bson.D{{Key: "password", Value: pbkdf2}}, faults: []string{"username: is missing"}},
		{name: "empty name", document: bson.D{{Key: "username", Value: ""}}, faults: []string{"username: is empty"}},
		{name: "name a number", document: bson.D{{Key: "username", Value: 7}}, faults: []string{"username: is of type 32-bit integer, want a string"}},
		{name: "password a number", document: bson.D{{Key: "username", Value: "x"}, {Key: "password", Value: 4711}}, want: acl.User{Name: "x"}, faults: []string{"password: is of type 32-bit integer"}},
		{name: "superuser a string", document: bson.D{{Key: "username", Value: "x"}, {Key: "superuser", Value: "False"}}, want: acl.User{Name: "x"}, faults: []string{"superuser: is of type string"}},
		{name: "disabled a string", document: bson.D{{Key: "username", Value: "x"}, {Key: "disabled", Value: "no"}}, want: acl.User{Name: "x", Disabled: true}, faults: []string{"disabled: is of type string"}},
		{name: "topics a reference", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.NewObjectID()}}, want: acl.User{Name: "x"}, faults: []string{"topics: is of type objectID"}},
		{name: "access unknown", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.D{{Key: "a", Value: "x"}}}}, want: acl.User{Name: "x"}, faults: []string{`topics: access "x" for "a": want r, w or rw`}},
		{name: "access a number", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.D{{Key: "a", Value: 1}}}}, want: acl.User{Name: "x"}, faults: []string{`topics: access for "a": is of type 32-bit`}},
		{name: "bad filter", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.D{{Key: "a/#/b", Value: "r"}}}}, want: acl.User{Name: "x"}, faults: []string{"topics: "}},
		{name: "bad element", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.A{"a", 1}}}, want: acl.User{Name: "x"}, faults: []string{"topics: element 1: is of type 32-bit"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw, err := bson.Marshal(test.document)
			if err != nil {
				t.Fatal(err)
			}
			u, faults := parseUser(raw)
			if len(faults) != len(test.faults) {
				t.Fatalf("parseUser: got faults %v, want %q", faults, test.faults)
			}
			for i, want := range test.faults {
				if got := faults[i].Error(); !strings.Contains(got, want) || strings.Contains(got, "swordfish") {
					t.Errorf("parseUser: got fault %q, want %q in it", got, want)
				}
			}
			if !reflect.DeepEqual(u, test.want) {
				t.Errorf("parseUser: got %+v, want %+v", u, test.want)
			}
		})
	}
}

// FuzzParseUser checks that any bytes are a user or a fault, and that no fault holds
// the password.
func FuzzParseUser(f *testing.F) {
	for _, d := range []bson.D{
		{{Key: "username", Value: "john"}, {Key: "password", Value: pbkdf2}, {Key: "topics", Value: bson.A{"a", bson.D{{Key: "filter", Value: "b"}, {Key: "access", Value: "r"}}}}},
		{{Key: "username", Value: "john"}, {Key: "superuser", Value: 1.5}, {Key: "topics", Value: bson.D{{Key: "a.b", Value: "rw"}}}},
	} {
		raw, err := bson.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		u, faults := parseUser(bson.Raw(b))
		if len(faults) == 0 && u.Name == "" {
			t.Errorf("parseUser(%x): got a user without name and no fault", b)
		}
		for _, fault := range faults {
			if len(u.Password) > 20 && strings.Contains(fault.Error(), u.Password) {
				t.Errorf("parseUser(%x): got fault %v with the password", b, fault)
			}
		}
	})
}

// TestOneAnswer checks that logins, payments and lists agree on who exists,
// whatever is wrong with a document.
func TestOneAnswer(t *testing.T) {
	s := newStore(t)
	log := logTo(s)
	h := hash(t, "secret")
	for _, test := range []struct {
		document bson.M
		state    tangle.UserState
		loaded   bool   // it counts for decisions
		fault    string // in the log and in the record; empty: none
	}{
		{bson.M{"username": "ready", "password": h}, tangle.UserReady, true, ""},
		{bson.M{"username": "certificate"}, tangle.UserReady, true, ""},
		{bson.M{"username": "reference", "password": h, "topics": 12}, tangle.UserReady, true, "topics: is of type"},
		{bson.M{"username": "yes", "password": h, "superuser": "yes"}, tangle.UserReady, true, "superuser: is of type string"},
		{bson.M{"username": "barred", "password": h, "disabled": true}, tangle.UserDisabled, true, ""},
		{bson.M{"username": "perhaps", "password": h, "disabled": "perhaps"}, tangle.UserDisabled, true, "disabled: is of type string"},
		{bson.M{"username": "plain", "password": "s3cret-swordfish"}, tangle.UserUnusable, true, "password: is not a hash"},
		{bson.M{"username": "number", "password": 4711}, tangle.UserUnusable, true, "password: is of type"},
		{bson.M{"_id": "nameless", "password": h}, tangle.UserUnknown, false, "username: is missing"},
		{bson.M{"_id": "absent"}, tangle.UserUnknown, false, "username: is missing"},
	} {
		put(t, s, test.document)
		name, _ := test.document["username"].(string)
		if got, err := s.UserState(t.Context(), name); name != "" && err == nil && got != test.state {
			s.foreign.updating <- struct{}{} // no update runs
			s.foreign.read = time.Time{}     // it need not see so soon what others wrote
			<-s.foreign.updating
			got, err = s.UserState(t.Context(), name)
			if got != test.state || err != nil {
				t.Errorf("UserState(%s): got %s, error %v, want %s", name, got, err, test.state)
			}
		}
		users, err := s.Users(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(users, func(r UserRecord) bool {
			return r.Name == name && (name != "" || strings.Contains(r.Document, test.document["_id"].(string)))
		})
		if i < 0 {
			t.Errorf("Users: got no record of %v", test.document)
			continue
		}
		wantState := test.state
		if name == "" {
			wantState = tangle.UserUnusable
		}
		if r := users[i]; r.State != wantState || (test.fault != "") != (len(r.Faults) == 1) || test.fault != "" && !strings.Contains(r.Faults[0].Error(), test.fault) {
			t.Errorf("Users: got %+v, want state %s and fault %q", r, wantState, test.fault)
		}
		loaded, _, _, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(loaded, func(u acl.User) bool { return u.Name == name }); got != test.loaded {
			t.Errorf("Load: got %s loaded: %t, want %t", name, got, test.loaded)
		}
		if !strings.Contains(log.String(), test.fault) {
			t.Errorf("log: got %s, want %q in it", log, test.fault)
		}
	}
	if text := log.String(); strings.Contains(text, "swordfish") || strings.Contains(text, "argon2id") {
		t.Errorf("log: got %s, which holds a password or its hash", text)
	}
}

func TestUsers(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	h := hash(t, "secret")
	want := acl.User{Name: "john", Password: h, Rights: []acl.Right{
		{Pattern: "v1.0/$x", Access: acl.Write}, {Pattern: "$SYS/#", Access: acl.Read}, {Pattern: "a", Access: acl.Read | acl.Write},
	}}
	if err := s.AddUser(ctx, want); err != nil {
		t.Fatal(err)
	}
	got, err := s.User(ctx, "john")
	if err != nil || got.State != tangle.UserReady || !reflect.DeepEqual(got.User, want) {
		t.Errorf("User: got %+v, error %v, want %+v", got, err, want)
	}
	if err := s.AddUser(ctx, want); !errors.Is(err, ErrExists) {
		t.Errorf("AddUser again: got %v, want ErrExists", err)
	}
	if err := s.SetUser(ctx, "john", UserChange{Disabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	newHash := hash(t, "another")
	if err := s.SetPassword(ctx, "john", newHash); err != nil {
		t.Fatal(err)
	}
	got, err = s.User(ctx, "john")
	if err != nil || !got.Disabled || got.Password != newHash {
		t.Errorf("User after changes: got %+v, error %v, want it disabled and with the new hash", got, err)
	}
	if err := s.RemoveUser(ctx, "john"); err != nil {
		t.Fatal(err)
	}
	if state, err := s.UserState(ctx, "john"); state != tangle.UserUnknown || err != nil {
		t.Errorf("UserState after removal: got %s, error %v, want unknown", state, err)
	}
	for name, f := range map[string]func() error{
		"User":        func() error { _, err := s.User(ctx, "john"); return err },
		"RemoveUser":  func() error { return s.RemoveUser(ctx, "john") },
		"SetPassword": func() error { return s.SetPassword(ctx, "john", newHash) },
		"SetUser":     func() error { return s.SetUser(ctx, "john", UserChange{Superuser: new(true)}) },
	} {
		if err := f(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of nobody: got %v, want ErrNotFound", name, err)
		}
	}
}

// TestLegacyUsers checks that users that others wrote can be read, changed and
// removed, and that nobody is added under the same name.
func TestLegacyUsers(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	put(t, s, bson.M{"username": "john", "password": pbkdf2, "superuser": 0, "topics": bson.M{"sensor/live": "r"}})
	if state, err := s.UserState(ctx, "john"); state != tangle.UserReady || err != nil {
		t.Errorf("UserState: got %s, error %v, want ready", state, err)
	}
	if err := s.AddUser(ctx, acl.User{Name: "john"}); !errors.Is(err, ErrExists) {
		t.Errorf("AddUser: got %v, want ErrExists", err)
	}
	_, _, at, err := s.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddUser(ctx, acl.User{Name: "john"}); !errors.Is(err, ErrExists) {
		t.Errorf("AddUser again: got %v, want ErrExists", err)
	}
	changes, at, err := s.Changes(ctx, at)
	if err != nil || len(changes) != 1 || changes[0].User == nil || changes[0].User.Name != "john" {
		t.Errorf("Changes after AddUser was refused: got %+v, error %v, want john as he is", changes, err)
	}
	h := hash(t, "secret")
	if err := s.SetPassword(ctx, "john", h); err != nil {
		t.Fatal(err)
	}
	changes, at, err = s.Changes(ctx, at)
	if err != nil || len(changes) != 1 || changes[0].User == nil || changes[0].User.Password != h || len(changes[0].User.Rights) != 1 {
		t.Errorf("Changes after SetPassword: got %+v, error %v, want john with the new hash and his topic", changes, err)
	}
	if err := s.RemoveUser(ctx, "john"); err != nil {
		t.Fatal(err)
	}
	changes, _, err = s.Changes(ctx, at)
	if err != nil || len(changes) != 1 || changes[0].RemovedUser != "john" {
		t.Errorf("Changes after RemoveUser: got %+v, error %v, want john removed", changes, err)
	}
}

// A user is found by the username, although the _id of another one who was
// renamed by hand is the same.
func TestRenamedUser(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	put(t, s, bson.M{"_id": "john", "username": "jane"})
	if state, err := s.UserState(ctx, "john"); state != tangle.UserUnknown || err != nil {
		t.Errorf("UserState of the old name: got %s, error %v, want unknown", state, err)
	}
	if err := s.SetUser(ctx, "john", UserChange{Disabled: new(true)}); !errors.Is(err, ErrNotFound) {
		t.Errorf("SetUser of the old name: got %v, want ErrNotFound", err)
	}
	put(t, s, bson.M{"username": "john"})
	if u, err := s.User(ctx, "john"); err != nil || u.Name != "john" {
		t.Errorf("User: got %q, error %v, want john", u.Name, err)
	}
	if u, err := s.User(ctx, "jane"); err != nil || u.Disabled {
		t.Errorf("User jane: got %+v, error %v, want her as she was", u, err)
	}
}

func TestAddUserRefuses(t *testing.T) {
	s := newStore(t)
	for _, test := range []struct {
		user acl.User
		want string
	}{
		{acl.User{Name: ""}, "is empty"},
		{acl.User{Name: "a+b"}, "contains + # or /"},
		{acl.User{Name: "a#"}, "contains + # or /"},
		{acl.User{Name: "a/b"}, "contains + # or /"},
		{acl.User{Name: "a\x00b"}, "NUL"},
		{acl.User{Name: "a\xffb"}, "not UTF-8"},
		{acl.User{Name: strings.Repeat("a", MaxUsername+1)}, "is 257 bytes long, want at most 256"},
		{acl.User{Name: strings.Repeat("a", 70_000)}, "is 70000 bytes long"},
		{acl.User{Name: "a\x1b[31m"}, "contains U+001B"},
		{acl.User{Name: "a\u202eb"}, "contains U+202E"},
		{acl.User{Name: "a\u00a0b"}, "contains U+00A0"},
		{acl.User{Name: "a\ue000"}, "contains U+E000"},
		{acl.User{Name: " a"}, "begins or ends with a space"},
		{acl.User{Name: "a "}, "begins or ends with a space"},
		{acl.User{Name: "Ondr\u030cej"}, "is not in Unicode normalization form C"},
		{acl.User{Name: "a", Password: "swordfish"}, "password: is not a hash"},
		{acl.User{Name: "a", Rights: []acl.Right{{Pattern: "a/#/b", Access: acl.Read}}}, "a/#/b"},
		{acl.User{Name: "a", Rights: []acl.Right{{Pattern: "a"}}}, "want Read, Write or both"},
	} {
		err := s.AddUser(t.Context(), test.user)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("AddUser(%.80q): got error %v, want one with %q", test.user.Name, err, test.want)
		} else if strings.Contains(err.Error(), "swordfish") || len(err.Error()) > 300 {
			t.Errorf("AddUser(%.80q): the error %q tells too much", test.user.Name, err)
		}
	}
	if users, err := s.Users(t.Context()); err != nil || len(users) != 0 {
		t.Errorf("users after refusals: got %v, error %v, want none", users, err)
	}
	if err := s.AddUser(t.Context(), acl.User{Name: strings.Repeat("ä", MaxUsername/2), Password: hash(t, "x")}); err != nil {
		t.Errorf("AddUser with the longest name: %v", err)
	}
	if err := s.SetPassword(t.Context(), strings.Repeat("ä", MaxUsername/2), "swordfish"); err == nil || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("SetPassword of a password that is no hash: got error %v, want one without it", err)
	}
	for _, name := range []string{"", "a\xff", strings.Repeat("a", 70_000), "a\x00b"} {
		if state, err := s.UserState(t.Context(), name); state != tangle.UserUnknown || err != nil {
			t.Errorf("UserState(%.10q): got %s, error %v, want unknown", name, state, err)
		}
	}
}

func TestPBKDF2IsVerified(t *testing.T) {
	// AddUser takes over hashes of an older installation.
	if err := checkHash(pbkdf2); err != nil {
		t.Errorf("checkHash of a PBKDF2 hash: %v", err)
	}
	if _, err := password.Verify(pbkdf2, "x"); err != nil {
		t.Error(err)
	}
}

func TestUsersAreSorted(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"zoe", "adam", "mia"} {
		if err := s.AddUser(t.Context(), acl.User{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	users, err := s.Users(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(users, func(a, b UserRecord) int { return strings.Compare(a.Name, b.Name) }) || len(users) != 3 {
		t.Errorf("Users: got %v, want three by name", users)
	}
}

// TestOldNames checks that users whose names nobody new may have can be changed
// and removed.
func TestOldNames(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{" john", "a\u202eb", "Ondr\u030cej", "a/b", strings.Repeat("x", MaxUsername+1)} {
		put(t, s, userDocument{ID: name, Username: name})
		if err := s.SetUser(t.Context(), name, UserChange{Disabled: new(true)}); err != nil {
			t.Errorf("SetUser(%.20q): %v", name, err)
		}
		if state, err := s.UserState(t.Context(), name); state != tangle.UserDisabled || err != nil {
			t.Errorf("UserState(%.20q): got %s, error %v, want disabled", name, state, err)
		}
		if err := s.RemoveUser(t.Context(), name); err != nil {
			t.Errorf("RemoveUser(%.20q): %v", name, err)
		}
	}
}

func TestSetUser(t *testing.T) {
	s := newStore(t)
	right := func(pattern string, access acl.Access) []acl.Right {
		return []acl.Right{{Pattern: pattern, Access: access}}
	}
	put(t, s, bson.M{"username": "john", "password": pbkdf2, "topics": 12})
	if err := s.SetUser(t.Context(), "john", UserChange{Rights: new(right("v1.0/#", acl.Write)), Superuser: new(true)}); err != nil {
		t.Fatal(err)
	}
	u, err := s.User(t.Context(), "john")
	if want := right("v1.0/#", acl.Write); err != nil || !reflect.DeepEqual(u.Rights, want) || !u.Superuser || u.Disabled || u.Password != pbkdf2 || len(u.Faults) > 0 {
		t.Errorf("User: got %+v, error %v, want rights %v, a superuser, and the rest as it was", u, err, want)
	}
	for _, c := range []UserChange{{Rights: new(right("a/#/b", acl.Read))}, {Rights: new(right("a", 0))}} {
		if err := s.SetUser(t.Context(), "john", c); err == nil {
			t.Errorf("SetUser with rights %v: got no error", *c.Rights)
		}
	}
}

// TestForeignUsersAreBounded asks for unknown names while others add users, and
// checks that all users are read once, and again when the index has rested.
func TestForeignUsersAreBounded(t *testing.T) {
	s := newStore(t)
	now := epoch
	s.Now = func() time.Time { return now }
	put(t, s, bson.M{"username": "jane"})
	ask := func(name string, want tangle.UserState) {
		t.Helper()
		if got, err := s.UserState(t.Context(), name); got != want || err != nil {
			t.Errorf("UserState(%s): got %s, error %v, want %s", name, got, err, want)
		}
	}
	updated := func() { // waits for the update in the background, if one runs
		t.Helper()
		s.foreign.updating <- struct{}{}
		<-s.foreign.updating
	}
	ask("jane", tangle.UserReady)
	read := s.foreign.read
	put(t, s, bson.M{"username": "mary"})
	ask("mary", tangle.UserUnknown) // known to be old, and bounded
	ask("eve", tangle.UserUnknown)
	if s.foreign.read != read {
		t.Error("all users were read again at once")
	}
	now = now.Add(countEvery + s.foreign.rest)
	s.UserState(t.Context(), "mary") // old or new: it does not wait
	updated()
	ask("mary", tangle.UserReady)

	// What this Store does itself changes nothing in what others wrote.
	read = s.foreign.read
	for i := range 3 {
		if err := s.AddUser(t.Context(), acl.User{Name: fmt.Sprint("john", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RemoveUser(t.Context(), "john1"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(countEvery + s.foreign.rest)
	ask("eve", tangle.UserUnknown)
	updated()
	if s.foreign.read != read {
		t.Error("all users were read again for our own")
	}
	// A name that was changed by hand is found in the end.
	if _, err := s.users.UpdateOne(t.Context(), bson.M{"username": "mary"}, bson.M{"$set": bson.M{"username": "maria"}}); err != nil {
		t.Fatal(err)
	}
	ask("mary", tangle.UserUnknown)
	now = now.Add(rereadEvery)
	s.UserState(t.Context(), "maria")
	updated()
	ask("maria", tangle.UserReady)
}

// TestFirstIndexKeepsNobodyWaiting: while the users that others wrote are read for
// the first time, only those who ask for one of them must ask again.
func TestFirstIndexKeepsNobodyWaiting(t *testing.T) {
	s := newStore(t)
	put(t, s, bson.M{"username": "jane"})
	if err := s.AddUser(t.Context(), acl.User{Name: "john"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}) // until then, the index is not finished
	s.foreign.updating <- struct{}{}
	s.foreign.stop = func() {}
	s.foreign.update.Go(func() { <-done; <-s.foreign.updating })
	if got, err := s.UserState(t.Context(), "john"); got != tangle.UserReady || err != nil {
		t.Errorf("UserState(john): got %s, error %v, want ready", got, err)
	}
	if _, err := s.UserState(t.Context(), "jane"); !errors.Is(err, errIndexing) {
		t.Errorf("UserState(jane): got error %v, want %v", err, errIndexing)
	}
	close(done)
	s.foreign.update.Wait()
	if got, err := s.UserState(t.Context(), "jane"); got != tangle.UserReady || err != nil {
		t.Errorf("UserState(jane) afterwards: got %s, error %v, want ready", got, err)
	}
	if err := s.IndexUsers(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.foreign.close() // waits for what runs, and lets nothing begin
	if err := s.IndexUsers(t.Context()); err != nil || len(s.foreign.updating) != 0 {
		t.Errorf("IndexUsers after the end: got error %v and %d updates, want none", err, len(s.foreign.updating))
	}
}

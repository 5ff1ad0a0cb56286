package mongostore

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
)

// pbkdf2 is "secret" as mosquitto-auth-plug's tool np would write it.
const pbkdf2 = "PBKDF2$sha256$901$cTL/+Aj1wCkQVTEZ$gXGzHlHVJnOjJRkn+7TcUZgNYJWXJVIA"

func TestParseUser(t *testing.T) {
	const rw = acl.Read | acl.Write
	for _, test := range []struct {
		name     string
		document bson.D
		want     acl.User
		err      string
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

		{name: "no name", document: bson.D{{Key: "password", Value: pbkdf2}}, err: "username: is missing"},
		{name: "empty name", document: bson.D{{Key: "username", Value: ""}}, err: "username: is empty"},
		{name: "name a number", document: bson.D{{Key: "username", Value: 7}}, err: "username: is of type 32-bit integer, want a string"},
		{name: "password a number", document: bson.D{{Key: "username", Value: "x"}, {Key: "password", Value: 4711}}, err: "password: is of type 32-bit integer"},
		{name: "superuser a string", document: bson.D{{Key: "username", Value: "x"}, {Key: "superuser", Value: "False"}}, err: "superuser: is of type string"},
		{name: "disabled a string", document: bson.D{{Key: "username", Value: "x"}, {Key: "disabled", Value: "no"}}, err: "disabled: is of type string"},
		{name: "topics a reference", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.NewObjectID()}}, err: "topics: is of type objectID"},
		{name: "access unknown", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.D{{Key: "a", Value: "x"}}}}, err: `topics: access "x" for "a": want r, w or rw`},
		{name: "access a number", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.D{{Key: "a", Value: 1}}}}, err: `topics: access for "a": is of type 32-bit`},
		{name: "bad filter", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.D{{Key: "a/#/b", Value: "r"}}}}, err: "topics: "},
		{name: "bad element", document: bson.D{{Key: "username", Value: "x"}, {Key: "topics", Value: bson.A{"a", 1}}}, err: "topics: element 1: is of type 32-bit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw, err := bson.Marshal(test.document)
			if err != nil {
				t.Fatal(err)
			}
			u, err := parseUser(raw)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("parseUser: got error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(u, test.want) {
				t.Errorf("parseUser: got %+v, want %+v", u, test.want)
			}
		})
	}
}

// FuzzParseUser: whatever bytes a document holds, it is a user or an error, and
// the error does not hold the password.
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
		u, err := parseUser(bson.Raw(b))
		if err == nil && u.Name == "" {
			t.Errorf("parseUser(%x): got a user without name and no error", b)
		}
		if err != nil && u.Password != "" {
			t.Errorf("parseUser(%x): got a password with error %v", b, err)
		}
	})
}

// TestMalformedUser: one user who cannot be read does not keep the others from
// being loaded, and the log tells which field is at fault.
func TestMalformedUser(t *testing.T) {
	s := newStore(t)
	text := logTo(s)
	put(t, s,
		bson.M{"username": "jane", "password": pbkdf2, "superuser": true},
		bson.M{"username": "john", "password": "s3cret-" + pbkdf2, "superuser": "yes"},
		bson.M{"_id": "no name"},
	)
	users, _, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(users) != 1 || users[0].Name != "jane" || !users[0].Superuser {
		t.Errorf("users: got %v, want jane alone", users)
	}
	for _, want := range []string{"superuser: is of type string", "username=john", "username: is missing", "no name"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("log: got %s, want %q in it", text, want)
		}
	}
	if strings.Contains(text.String(), "PBKDF2") {
		t.Errorf("log: got %s, which holds a password hash", text)
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
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("User: got %+v, error %v, want %+v", got, err, want)
	}
	if err := s.AddUser(ctx, want); !errors.Is(err, ErrExists) {
		t.Errorf("AddUser again: got %v, want ErrExists", err)
	}
	if err := s.SetDisabled(ctx, "john", true); err != nil {
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
	if ok, err := s.UserExists(ctx, "john"); ok || err != nil {
		t.Errorf("UserExists after removal: got %v, error %v, want false", ok, err)
	}
	for name, f := range map[string]func() error{
		"User":        func() error { _, err := s.User(ctx, "john"); return err },
		"RemoveUser":  func() error { return s.RemoveUser(ctx, "john") },
		"SetPassword": func() error { return s.SetPassword(ctx, "john", newHash) },
		"SetDisabled": func() error { return s.SetDisabled(ctx, "john", false) },
	} {
		if err := f(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of nobody: got %v, want ErrNotFound", name, err)
		}
	}
}

// TestLegacyUsers: users that others wrote can be read, changed and removed, and
// nobody is added beside them.
func TestLegacyUsers(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	put(t, s, bson.M{"username": "john", "password": pbkdf2, "superuser": 0, "topics": bson.M{"sensor/live": "r"}})
	if ok, err := s.UserExists(ctx, "john"); !ok || err != nil {
		t.Errorf("UserExists: got %v, error %v, want true", ok, err)
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
	if ok, err := s.UserExists(ctx, "john"); ok || err != nil {
		t.Errorf("UserExists of the old name: got %v, error %v, want false", ok, err)
	}
	if err := s.SetDisabled(ctx, "john", true); !errors.Is(err, ErrNotFound) {
		t.Errorf("SetDisabled of the old name: got %v, want ErrNotFound", err)
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
		if ok, err := s.UserExists(t.Context(), name); ok || err != nil {
			t.Errorf("UserExists(%.10q): got %v, error %v, want false", name, ok, err)
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
	if !slices.IsSortedFunc(users, func(a, b acl.User) int { return strings.Compare(a.Name, b.Name) }) || len(users) != 3 {
		t.Errorf("Users: got %v, want three by name", users)
	}
}

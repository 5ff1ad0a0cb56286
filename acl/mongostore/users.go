package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
)

// MaxUsername is how many bytes the name of a new user may have. MQTT would
// allow 65,535; older databases may hold longer ones than this, which work.
const MaxUsername = 256

// userDocument is a user as this package writes it. How others wrote theirs is
// read by parseUser.
type userDocument struct {
	ID        string          `bson:"_id"` // the username
	Username  string          `bson:"username"`
	Password  string          `bson:"password"`
	Superuser bool            `bson:"superuser"`
	Disabled  bool            `bson:"disabled"`
	Topics    []topicDocument `bson:"topics"`
}

// topicDocument is a static right. It is not written as {filter: access}, as
// others did, since FerretDB allows neither . nor a leading $ in the name of a
// field.
type topicDocument struct {
	Filter string `bson:"filter"`
	Access string `bson:"access"`
}

// accesses are the words for access in the documents of mosquitto-auth-plug.
var accesses = map[string]acl.Access{"r": acl.Read, "w": acl.Write, "rw": acl.Read | acl.Write}

func wordFor(access acl.Access) (string, error) {
	for word, a := range accesses {
		if a == access&(acl.Read|acl.Write) {
			return word, nil
		}
	}
	return "", errors.New("want Read, Write or both")
}

// parseUser reads a user as this package, the demo of 2017 or mosquitto-auth-plug
// wrote it. The error names the field that cannot be understood, and never holds
// the password.
func parseUser(raw bson.Raw) (acl.User, error) {
	var u acl.User
	elements, err := raw.Elements()
	if err != nil {
		return u, errors.New("document: is not BSON")
	}
	// The name first, so that the log can tell whose document is at fault.
	name, err := raw.LookupErr("username")
	if err != nil {
		return u, errors.New("username: is missing")
	}
	if u.Name, err = text(name); err == nil && u.Name == "" {
		err = errors.New("is empty")
	}
	if err != nil {
		return u, fmt.Errorf("username: %w", err)
	}
	for _, e := range elements {
		value := e.Value()
		switch e.Key() {
		case "password":
			u.Password, err = text(value)
		case "superuser":
			u.Superuser, err = truth(value)
		case "disabled":
			u.Disabled, err = truth(value)
		case "topics":
			u.Rights, err = rights(value)
		}
		if err != nil {
			return acl.User{Name: u.Name}, fmt.Errorf("%s: %w", e.Key(), err)
		}
	}
	return u, nil
}

func text(value bson.RawValue) (string, error) {
	s, ok := value.StringValueOK()
	if !ok {
		return "", fmt.Errorf("is of type %s, want a string", value.Type)
	}
	return s, nil
}

// truth reads a bool, or a number as mosquitto-auth-plug allows: 0 is false.
func truth(value bson.RawValue) (bool, error) {
	switch value.Type {
	case bson.TypeBoolean:
		return value.Boolean(), nil
	case bson.TypeInt32, bson.TypeInt64:
		return value.AsInt64() != 0, nil
	case bson.TypeDouble:
		return value.Double() != 0, nil
	case bson.TypeNull, bson.TypeUndefined:
		return false, nil
	}
	return false, fmt.Errorf("is of type %s, want true, false or a number", value.Type)
}

// rights reads {filter: access}, an array of filters, which may then be read and
// written, or an array of {filter, access}.
func rights(value bson.RawValue) ([]acl.Right, error) {
	var list []acl.Right
	add := func(filter, access string) error {
		a, ok := accesses[access]
		if !ok {
			return fmt.Errorf("access %.20q for %.80q: want r, w or rw", access, filter)
		}
		if err := acl.CheckPattern(filter); err != nil {
			return err
		}
		list = append(list, acl.Right{Pattern: filter, Access: a})
		return nil
	}
	switch value.Type {
	case bson.TypeNull, bson.TypeUndefined:
		return nil, nil
	case bson.TypeEmbeddedDocument:
		elements, err := value.Document().Elements()
		if err != nil {
			return nil, errors.New("is not BSON")
		}
		for _, e := range elements {
			access, err := text(e.Value())
			if err != nil {
				return nil, fmt.Errorf("access for %.80q: %w", e.Key(), err)
			}
			if err := add(e.Key(), access); err != nil {
				return nil, err
			}
		}
		return list, nil
	case bson.TypeArray:
		values, err := value.Array().Values()
		if err != nil {
			return nil, errors.New("is not BSON")
		}
		for i, v := range values {
			filter, access := "", "rw"
			if v.Type == bson.TypeEmbeddedDocument {
				var d topicDocument
				if err := bson.Unmarshal(v.Document(), &d); err != nil {
					return nil, fmt.Errorf("element %d: want {filter, access}", i)
				}
				filter, access = d.Filter, d.Access
			} else if filter, err = text(v); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
			if err := add(filter, access); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("is of type %s, want {filter: access} or an array of filters", value.Type)
}

// usable parses a user and logs why, if it cannot: that user, and nobody else,
// then does not exist.
func (s *Store) usable(raw bson.Raw) (acl.User, bool) {
	u, err := parseUser(raw)
	if err != nil {
		s.Log.WithError(err).WithFields(map[string]any{"id": idText(raw), "username": u.Name}).
			Warn("user in the store cannot be used")
		return u, false
	}
	return u, true
}

func idText(raw bson.Raw) string { return strings.ToValidUTF8(raw.Lookup("_id").String(), "\uFFFD") }

// findUser returns the document of a user, nil if there is none.
func (s *Store) findUser(ctx context.Context, name string) (bson.Raw, error) {
	raw, err := get[bson.Raw](ctx, s.users, name)
	if err != nil {
		return nil, fmt.Errorf("read user %q: %w", name, err)
	}
	if raw != nil && raw.Lookup("username").Equal(raw.Lookup("_id")) {
		return *raw, nil
	}
	// Not ours, or renamed by hand: then the _id tells nothing.
	var found bson.Raw
	err = each(ctx, s.users, bson.D{{Key: "username", Value: name}}, func(raw bson.Raw) error {
		found = slices.Clone(raw)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find user %q: %w", name, err)
	}
	return found, nil
}

// UserExists implements [tangle.Store]. A user that is disabled exists.
func (s *Store) UserExists(ctx context.Context, name string) (bool, error) {
	if name == "" || name != textOf(name) {
		return false, nil // and some servers would make it an error
	}
	raw, err := s.findUser(ctx, name)
	return raw != nil, err
}

// User returns a user; the error wraps [ErrNotFound] if there is none.
func (s *Store) User(ctx context.Context, name string) (acl.User, error) {
	raw, err := s.findUser(ctx, name)
	if err != nil {
		return acl.User{}, err
	}
	if raw == nil {
		return acl.User{}, fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	u, err := parseUser(raw)
	if err != nil {
		return acl.User{}, fmt.Errorf("user %.80q: %w", name, err)
	}
	return u, nil
}

// Users returns all users by name. Those that cannot be used are logged and left
// out.
func (s *Store) Users(ctx context.Context) ([]acl.User, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	users, err := s.readUsers(ctx)
	slices.SortFunc(users, func(a, b acl.User) int { return strings.Compare(a.Name, b.Name) })
	return users, err
}

// readUsers returns every user that can be used, in no order. A name that two
// documents bear belongs to neither: which of them is meant cannot be told.
func (s *Store) readUsers(ctx context.Context) ([]acl.User, error) {
	var users []acl.User
	names := make(map[string]int) // how many documents bear each
	err := each(ctx, s.users, bson.D{}, func(raw bson.Raw) error {
		u, ok := s.usable(raw)
		if ok {
			users = append(users, u)
		}
		names[u.Name]++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return slices.DeleteFunc(users, func(u acl.User) bool {
		if names[u.Name] > 1 {
			s.Log.WithField("username", u.Name).Warn("users in the store have one name, none of them can be used")
		}
		return names[u.Name] > 1
	}), nil
}

// AddUser adds a user. u.Password is a hash as of package password, not a
// password, or empty for one who cannot log in. The error wraps [ErrExists] if
// there is a user of that name, in whatever form.
func (s *Store) AddUser(ctx context.Context, u acl.User) error {
	if err := checkUser(u); err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	d := userDocument{
		ID: u.Name, Username: u.Name, Password: u.Password, Superuser: u.Superuser, Disabled: u.Disabled,
		Topics: make([]topicDocument, len(u.Rights)),
	}
	for i, r := range u.Rights {
		word, err := wordFor(r.Access)
		if err != nil {
			return fmt.Errorf("add user: access to %q: %w", r.Pattern, err)
		}
		d.Topics[i] = topicDocument{Filter: r.Pattern, Access: word}
	}
	raw, err := s.findUser(ctx, u.Name)
	if err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	added := false
	var id any = u.Name
	if raw != nil {
		id = raw.Lookup("_id") // as others wrote it
	} else if added, err = insert(ctx, s.users, d); err != nil {
		return fmt.Errorf("insert user %q: %w", u.Name, err)
	}
	// Also if it was there: perhaps an earlier attempt ended here.
	if err := s.announce(ctx, userChanged, id, u.Name); err != nil {
		return err
	}
	if !added {
		return fmt.Errorf("user %q: %w", u.Name, ErrExists)
	}
	return nil
}

func checkUser(u acl.User) error {
	if len(u.Name) > MaxUsername {
		return fmt.Errorf("username %.40q…: is %d bytes long, want at most %d", u.Name, len(u.Name), MaxUsername)
	}
	if err := acl.CheckName(u.Name); err != nil {
		return err
	}
	for _, r := range u.Rights {
		if err := acl.CheckPattern(r.Pattern); err != nil {
			return err
		}
	}
	return checkHash(u.Password)
}

// checkHash refuses what is no hash, before a password is stored as it is.
func checkHash(hash string) error {
	if hash == "" {
		return nil
	}
	if _, err := password.Verify(hash, ""); err != nil {
		return errors.New("password: is not a hash that can be verified")
	}
	return nil
}

// SetPassword changes a user's password hash; see [Store.AddUser] for what it
// may be. The error wraps [ErrNotFound] if there is no such user.
func (s *Store) SetPassword(ctx context.Context, name, hash string) error {
	if err := checkHash(hash); err != nil {
		return fmt.Errorf("user %.80q: %w", name, err)
	}
	return s.changeUser(ctx, name, "password", hash)
}

// SetDisabled bars a user, or lets it in again. The error wraps [ErrNotFound] if
// there is no such user.
func (s *Store) SetDisabled(ctx context.Context, name string, disabled bool) error {
	return s.changeUser(ctx, name, "disabled", disabled)
}

// changeUser sets a field. FerretDB 1 may lose one of two changes that are made
// to a user in the same instant.
func (s *Store) changeUser(ctx context.Context, name, field string, value any) error {
	raw, err := s.findUser(ctx, name)
	if err != nil {
		return err
	}
	if raw == nil {
		return fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	id := raw.Lookup("_id")
	found, err := set(ctx, s.users, id, bson.D{{Key: field, Value: value}})
	if err != nil {
		return fmt.Errorf("set %s of user %q: %w", field, name, err)
	}
	if !found {
		return fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	return s.announce(ctx, userChanged, id, name)
}

// RemoveUser deletes a user, who then can do what an anonymous client can. What
// was sold to that name stays in the book, and counts for a user who is given
// the name later. The error wraps [ErrNotFound] if there is no such user.
func (s *Store) RemoveUser(ctx context.Context, name string) error {
	raw, err := s.findUser(ctx, name)
	if err != nil {
		return err
	}
	removed := false
	var id any = name
	if raw != nil {
		id = raw.Lookup("_id")
		if removed, err = remove(ctx, s.users, id); err != nil {
			return fmt.Errorf("remove user %q: %w", name, err)
		}
	}
	// Also if it was gone: perhaps an earlier attempt ended here.
	if err := s.announce(ctx, userChanged, id, name); err != nil {
		return err
	}
	if !removed {
		return fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	return nil
}

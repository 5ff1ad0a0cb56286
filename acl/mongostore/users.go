package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/text/unicode/norm"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
)

// MaxUsername is the maximum length of a new username in bytes. MQTT allows 65,535;
// longer names in older databases work.
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
// wrote it. An unreadable field is a fault and affects nothing but itself: unreadable
// rights grant nothing, and an unreadable "disabled" bars the user. Without a
// username there is no user. No fault quotes the password.
func parseUser(raw bson.Raw) (u acl.User, faults []error) {
	fault := func(field string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", field, err))
		}
	}
	elements, err := raw.Elements()
	if err != nil {
		return u, []error{errors.New("document: is not BSON")}
	}
	name, err := raw.LookupErr("username")
	if err != nil {
		return u, []error{errors.New("username: is missing")}
	}
	if u.Name, err = text(name); err == nil && u.Name == "" {
		err = errors.New("is empty")
	}
	if err != nil {
		return u, []error{fmt.Errorf("username: %w", err)}
	}
	for _, e := range elements {
		value := e.Value()
		switch e.Key() {
		case "password":
			u.Password, err = text(value)
			if err == nil {
				err = checkHash(u.Password)
			}
			fault(passwordField, err)
		case "superuser":
			u.Superuser, err = truth(value)
			fault(e.Key(), err)
		case "disabled":
			u.Disabled, err = truth(value)
			u.Disabled = u.Disabled || err != nil
			fault(e.Key(), err)
		case "topics":
			u.Rights, err = rights(value)
			fault(e.Key(), err)
		}
	}
	return u, faults
}

const passwordField = "password"

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

// usable parses a user and logs its faults. It returns false if the document has no
// readable username.
func (s *Store) usable(raw bson.Raw) (acl.User, bool) {
	u, faults := parseUser(raw)
	for _, fault := range faults {
		s.Log.WithError(fault).WithFields(map[string]any{"id": idText(raw), "username": u.Name}).
			Warn("user in the store is not readable")
	}
	return u, u.Name != ""
}

func idText(raw bson.Raw) string { return strings.ToValidUTF8(raw.Lookup("_id").String(), "\uFFFD") }

// UserRecord is a user as the seller sees it.
type UserRecord struct {
	acl.User
	State    tangle.UserState
	Document string  // the _id, as text
	Faults   []error // one for each unreadable field
}

// errTwice is the fault of documents with the same username, which is ambiguous.
var errTwice = errors.New("username: another document has the same one")

// userRecord describes what documents say of one user.
func userRecord(raw bson.Raw, twice bool) UserRecord {
	r := UserRecord{Document: idText(raw), State: tangle.UserReady}
	r.User, r.Faults = parseUser(raw)
	if twice {
		r.Faults = append(r.Faults, errTwice)
	}
	unreadable := func(err error) bool { return strings.HasPrefix(err.Error(), passwordField+":") }
	switch {
	case r.Name == "" || twice || slices.ContainsFunc(r.Faults, unreadable):
		r.State = tangle.UserUnusable
	case r.Disabled:
		r.State = tangle.UserDisabled
	}
	return r
}

// UserState implements [tangle.Users]. A user without a password hash is Ready: the
// broker may know it by other means, such as a certificate.
//
// On FerretDB 1 a user that others wrote may be Unknown for some time after it was
// written, or known after it was removed: see foreignUsers.
func (s *Store) UserState(ctx context.Context, name string) (tangle.UserState, error) {
	documents, err := s.findUser(ctx, name, false)
	if err != nil || len(documents) == 0 {
		return tangle.UserUnknown, err
	}
	return userRecord(documents[0], len(documents) > 1).State, nil
}

// User returns a user; the error wraps [ErrNotFound] if there is none.
func (s *Store) User(ctx context.Context, name string) (UserRecord, error) {
	documents, err := s.findUser(ctx, name, true)
	if err != nil {
		return UserRecord{}, err
	}
	if len(documents) == 0 {
		return UserRecord{}, fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	return userRecord(documents[0], len(documents) > 1), nil
}

// Users returns all users by name, also those that cannot log in. A document
// without a readable username has none in its record.
func (s *Store) Users(ctx context.Context) ([]UserRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	var users []UserRecord
	documents := make(map[string]int) // how many bear each name
	err := each(ctx, s.users, bson.D{}, func(raw bson.Raw) error {
		r := userRecord(raw, false)
		users = append(users, r)
		documents[r.Name]++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	for i := range users {
		if r := &users[i]; r.Name != "" && documents[r.Name] > 1 {
			r.State, r.Faults = tangle.UserUnusable, append(r.Faults, errTwice)
		}
	}
	slices.SortFunc(users, func(a, b UserRecord) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Document, b.Document))
	})
	return users, nil
}

// readUsers returns every user, in no order. A name that two documents bear
// belongs to neither.
func (s *Store) readUsers(ctx context.Context) ([]acl.User, error) {
	var users []acl.User
	documents := make(map[string]int) // how many bear each name
	err := each(ctx, s.users, bson.D{}, func(raw bson.Raw) error {
		u, ok := s.usable(raw)
		if ok {
			users = append(users, u)
		}
		documents[u.Name]++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return slices.DeleteFunc(users, func(u acl.User) bool {
		if documents[u.Name] > 1 {
			s.Log.WithField("username", u.Name).Warn("users in the store have one name, none of them can be used")
		}
		return documents[u.Name] > 1
	}), nil
}

// CheckNewName returns an error that says why nobody new may have a name. It
// refuses more than [acl.CheckName]: what looks like another name, or like
// nothing. Users that have such names keep them.
func CheckNewName(name string) error {
	if len(name) > MaxUsername {
		return fmt.Errorf("username %.40q…: is %d bytes long, want at most %d", name, len(name), MaxUsername)
	}
	if err := acl.CheckName(name); err != nil {
		return err
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("username %q: contains %U, which is not a letter, mark, number, punctuation, symbol or plain space", name, r)
		}
	}
	if strings.TrimSpace(name) != name {
		return fmt.Errorf("username %q: begins or ends with a space", name)
	}
	if composed := norm.NFC.String(name); composed != name {
		return fmt.Errorf("username %+q: is not in Unicode normalization form C, want %+q", name, composed)
	}
	return nil
}

// AddUser adds a user. u.Password is a hash as of package password, not a
// password, or empty for one who cannot log in. The error wraps [ErrExists] if
// a user of that name exists, also if others wrote it.
func (s *Store) AddUser(ctx context.Context, u acl.User) error {
	if err := checkUser(u); err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	topics, err := topicDocuments(u.Rights)
	if err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	d := userDocument{ID: u.Name, Username: u.Name, Password: u.Password, Superuser: u.Superuser, Disabled: u.Disabled, Topics: topics}
	unique, err := s.namesAreUnique(ctx)
	if err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	// With a unique index, the insertion fails if the name is taken.
	var documents []bson.Raw
	if !unique {
		if documents, err = s.findUser(ctx, u.Name, true); err != nil {
			return fmt.Errorf("add user: %w", err)
		}
	}
	added := false
	if len(documents) == 0 {
		if added, err = insert(ctx, s.users, d); err != nil {
			return fmt.Errorf("insert user %q: %w", u.Name, err)
		}
	}
	var id any = u.Name
	if added {
		s.foreign.noteOurs(1)
	} else if documents == nil {
		if documents, err = s.findUser(ctx, u.Name, false); err != nil {
			return fmt.Errorf("add user: %w", err)
		}
	}
	if len(documents) > 0 {
		id = documents[0].Lookup("_id") // as others wrote it
	}
	// Announce it also if it existed: an earlier attempt may have ended here.
	if err := s.announce(ctx, userChanged, id, u.Name); err != nil {
		return err
	}
	if !added {
		return fmt.Errorf("user %q: %w", u.Name, ErrExists)
	}
	return nil
}

func checkUser(u acl.User) error {
	if err := CheckNewName(u.Name); err != nil {
		return err
	}
	if err := checkHash(u.Password); err != nil {
		return fmt.Errorf("%s: %w", passwordField, err)
	}
	return nil
}

// checkHash returns an error for a text that is not a hash, such as a password.
func checkHash(hash string) error {
	if hash == "" {
		return nil
	}
	if password.Check(hash) != nil { // whose error says more of the hash than need be
		return errors.New("is not a hash that can be verified")
	}
	return nil
}

// SetPassword changes a user's password hash; see [Store.AddUser] for what it
// may be. The error wraps [ErrNotFound] if there is no such user.
func (s *Store) SetPassword(ctx context.Context, name, hash string) error {
	if err := checkHash(hash); err != nil {
		return fmt.Errorf("user %.80q: %s: %w", name, passwordField, err)
	}
	return s.changeUser(ctx, name, bson.D{{Key: passwordField, Value: hash}})
}

// UserChange is what SetUser changes. A nil field stays as it is.
type UserChange struct {
	Superuser, Disabled *bool
	Rights              *[]acl.Right
}

// SetUser changes a user's rights, or bars it, or lets it in again. The error
// wraps [ErrNotFound] if there is no such user.
func (s *Store) SetUser(ctx context.Context, name string, c UserChange) error {
	var fields bson.D
	if c.Superuser != nil {
		fields = append(fields, bson.E{Key: "superuser", Value: *c.Superuser})
	}
	if c.Disabled != nil {
		fields = append(fields, bson.E{Key: "disabled", Value: *c.Disabled})
	}
	if c.Rights != nil {
		topics, err := topicDocuments(*c.Rights)
		if err != nil {
			return fmt.Errorf("user %.80q: %w", name, err)
		}
		fields = append(fields, bson.E{Key: "topics", Value: topics})
	}
	if len(fields) == 0 {
		return nil
	}
	return s.changeUser(ctx, name, fields)
}

// SetDisabled bars a user, or lets it in again. The error wraps [ErrNotFound] if
// there is no such user.
func (s *Store) SetDisabled(ctx context.Context, name string, disabled bool) error {
	return s.SetUser(ctx, name, UserChange{Disabled: &disabled})
}

// topicDocuments writes rights as they are stored.
func topicDocuments(rights []acl.Right) ([]topicDocument, error) {
	topics := make([]topicDocument, len(rights))
	for i, r := range rights {
		if err := acl.CheckPattern(r.Pattern); err != nil {
			return nil, err
		}
		word, err := wordFor(r.Access)
		if err != nil {
			return nil, fmt.Errorf("access to %q: %w", r.Pattern, err)
		}
		topics[i] = topicDocument{Filter: r.Pattern, Access: word}
	}
	return topics, nil
}

// changeUser sets fields. FerretDB 1 may lose one of two changes that are made to
// a user in the same instant.
func (s *Store) changeUser(ctx context.Context, name string, fields bson.D) error {
	documents, err := s.findUser(ctx, name, true)
	if err != nil {
		return err
	}
	if len(documents) == 0 {
		return fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	id := documents[0].Lookup("_id")
	found, err := set(ctx, s.users, id, fields)
	if err != nil {
		return fmt.Errorf("set %s of user %q: %w", fields[0].Key, name, err)
	}
	if !found {
		return fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	return s.announce(ctx, userChanged, id, name)
}

// RemoveUser deletes a user, who then can do what an anonymous client can. It
// leaves the accounts alone: disable the user and end them with
// [tangle.Settler.Close] first, or the next user of that name has what is left of
// them. The error wraps [ErrNotFound] if there is no such user.
func (s *Store) RemoveUser(ctx context.Context, name string) error {
	documents, err := s.findUser(ctx, name, true)
	if err != nil {
		return err
	}
	removed := false
	var id any = name
	if len(documents) > 0 {
		id = documents[0].Lookup("_id")
		if removed, err = remove(ctx, s.users, id); err != nil {
			return fmt.Errorf("remove user %q: %w", name, err)
		}
	}
	// Announce it also if it was gone: an earlier attempt may have ended here.
	if err := s.announce(ctx, userChanged, id, name); err != nil {
		return err
	}
	if !removed {
		return fmt.Errorf("user %.80q: %w", name, ErrNotFound)
	}
	s.foreign.noteOurs(-1)
	return nil
}

// Package mongostore keeps users, payments and grants in MongoDB, or in a server
// that speaks its protocol.
//
// It uses only what MongoDB 6 and FerretDB 1.24 have in common. FerretDB reads,
// changes and writes back a document without a lock, so no update here depends on
// the previous value: what must happen once is the insertion of one document under
// a unique _id. FerretDB finds a document quickly by its _id alone, so frequent
// lookups use the _id.
//
// The collections:
//
//	users        who may log in; also as the demo of 2017 and mosquitto-auth-plug wrote them
//	addresses    the deposit addresses that are watched, and how far each was read
//	payments     what was paid; never changed
//	pending      the payments that are not settled yet, and why not
//	assignments  what was decided about a payment: whose it is, or that it is dismissed or refunded; never changed
//	offers       what each offer cost over time; never changed
//	dust         sums of payments that are too small to count; never changed
//	grants       the entries of the accounts; only a revocation marks them
//	active       what decisions need of the grants that may not be over
//	settlements  which entry a payment or manual act became; never changed
//	changes      the log by which others follow the store, see [Store.Changes]
//	signup_keys  the seller's key pairs for sealed sign-ups, private halves included; never changed
//	signup_parts payments that are each below the price of the account that they ask for; never changed
//	audit        what the seller did by hand
//	meta         the schema's version, and single facts
//
// Instants are kept in milliseconds. Passwords are kept as hashes only, and no
// error or log line holds one.
package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/iotoll/iotoll/tangle"
)

const (
	// selectTimeout is how long a call waits for a server to answer.
	selectTimeout = 3 * time.Second
	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 10 * time.Second
	// keepAlive is how often TCP checks an idle connection, as the driver does by
	// default.
	keepAlive = 5 * time.Minute
	// readAllTimeout bounds calls that read whole collections.
	readAllTimeout = 5 * time.Minute
)

// Errors that callers can act upon.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
)

// Store is the store in one database. Its methods may be called by several
// goroutines, and several Stores, in any number of processes, may use one
// database. Every method returns within its context's deadline, or within 10
// seconds if it has none (5 minutes where it reads whole collections).
type Store struct {
	// Log receives warnings about unreadable documents. Open sets a silent one.
	Log logrus.FieldLogger
	// Now is the clock; Open sets time.Now. It dates the log of changes and decides
	// which grants are over.
	Now func() time.Time

	client *mongo.Client

	users, addresses, payments, pending, decisions, offers, dust, grants, active, settlements, changes, signupKeys, signupParts, audit, meta *mongo.Collection

	announcing chan struct{} // holds one while the log of changes is written to

	accounts accounts
	foreign  foreignUsers

	mu    sync.Mutex
	named map[string]bool // offers that have terms for sure
	facts serverFacts
	head  ResumeToken // an end that the log of changes had, to look from
}

var _ tangle.Store = (*Store)(nil)

// Open returns the store in a database. It does not wait for the server: the
// calls that follow do. Only mongodb+srv URIs are looked up in the DNS at once.
//
// Where the URI names a Unix socket, those calls fail if another user than root,
// this process's and the owner of the socket's directory could have made it.
func Open(uri, database string) (*Store, error) { return open(uri, database, nil) }

// open is Open with a monitor that sees every command.
func open(uri, database string, monitor *event.CommandMonitor) (*Store, error) {
	if err := CheckDatabase(database); err != nil {
		return nil, err
	}
	opts := options.Client().ApplyURI(uri)
	if opts.AppName == nil {
		opts.SetAppName("iotoll")
	}
	opts.SetServerSelectionTimeout(selectTimeout).SetConnectTimeout(selectTimeout).SetTimeout(callTimeout).
		// Regardless of the URI: acknowledged writes must stay, and reads must
		// return the latest.
		SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Local()).SetReadPreference(readpref.Primary())
	opts.SetDialer(&dialer{net.Dialer{KeepAlive: keepAlive}})
	inject(opts)
	if monitor != nil {
		opts.SetMonitor(monitor)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, unusable(uri)
	}
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	db := client.Database(database)
	return &Store{
		Log:         silent,
		Now:         time.Now,
		client:      client,
		announcing:  make(chan struct{}, 1),
		foreign:     foreignUsers{updating: make(chan struct{}, 1)},
		users:       db.Collection("users"),
		addresses:   db.Collection("addresses"),
		payments:    db.Collection("payments"),
		pending:     db.Collection("pending"),
		decisions:   db.Collection("assignments"),
		offers:      db.Collection("offers"),
		dust:        db.Collection("dust"),
		grants:      db.Collection("grants"),
		active:      db.Collection("active"),
		settlements: db.Collection("settlements"),
		changes:     db.Collection("changes"),
		signupKeys:  db.Collection("signup_keys"),
		signupParts: db.Collection("signup_parts"),
		audit:       db.Collection("audit"),
		meta:        db.Collection("meta"),
	}, nil
}

// Close ends what runs in the background, and the connections to the server.
func (s *Store) Close(ctx context.Context) error {
	s.foreign.close()
	if err := s.client.Disconnect(ctx); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// databaseName is what both MongoDB and FerretDB allow.
var databaseName = regexp.MustCompile(`^[a-zA-Z_-][a-zA-Z0-9_-]{0,62}$`)

// CheckDatabase returns an error unless a database may have that name.
func CheckDatabase(name string) error {
	if !databaseName.MatchString(name) {
		return fmt.Errorf("database name %.80q: want up to 63 letters, digits, _ and -, not beginning with a digit", name)
	}
	return nil
}

// CheckURI reports what is wrong with the URI of a store, in an error that holds
// no password. It connects to nothing, but looks mongodb+srv up in the DNS.
func CheckURI(uri string) error {
	if err := options.Client().ApplyURI(uri).Validate(); err != nil {
		return unusable(uri)
	}
	return nil
}

// unusable returns the error for a URI that the driver refuses.
func unusable(uri string) error {
	return fmt.Errorf("store URI is not usable: %s; want for instance mongodb://127.0.0.1:27017", faultOf(uri))
}

// faultOf says what is wrong with a URI without quoting its user and password, as
// the driver's message may.
func faultOf(uri string) string {
	scheme, rest, ok := strings.Cut(uri, "://")
	if scheme += "://"; !ok {
		scheme, rest = "", uri
	}
	// Cut at the last @: an unescaped @ or / in the password is a common mistake.
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if err := options.Client().ApplyURI(scheme + rest).Validate(); err != nil {
		return err.Error()
	}
	return "its user or password holds a character that must be written as %XX, or does not fit the authentication mechanism"
}

// insert adds a document under its _id. added is false if there is one with
// that _id, or with another value that is unique.
func insert(ctx context.Context, c *mongo.Collection, document any) (added bool, err error) {
	_, err = c.InsertOne(ctx, document)
	if mongo.IsDuplicateKeyError(err) {
		return false, nil
	}
	return err == nil, err
}

// get reads the document with an _id; nil if there is none.
func get[T any](ctx context.Context, c *mongo.Collection, id any) (*T, error) {
	document := new(T)
	err := c.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(document)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return document, nil
}

// each calls f for every document that a filter matches, in no order. It asks
// for a thousand at a time.
func each(ctx context.Context, c *mongo.Collection, filter bson.D, f func(bson.Raw) error) error {
	cursor, err := c.Find(ctx, filter, options.Find().SetBatchSize(1000))
	if err != nil {
		return err
	}
	defer cursor.Close(context.WithoutCancel(ctx))
	for cursor.Next(ctx) {
		if err := f(cursor.Current); err != nil {
			return err
		}
	}
	return cursor.Err()
}

// remove deletes the document with an _id, if there is one.
func remove(ctx context.Context, c *mongo.Collection, id any) (removed bool, err error) {
	result, err := c.DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	if err != nil {
		return false, err
	}
	return result.DeletedCount > 0, nil
}

// removeAll deletes the documents with these _ids, one after another in their
// order, as far as they are there.
func removeAll(ctx context.Context, c *mongo.Collection, ids []any) (removed int64, err error) {
	for some := range slices.Chunk(ids, 500) {
		batch := make([]mongo.WriteModel, len(some))
		for i, id := range some {
			batch[i] = mongo.NewDeleteOneModel().SetFilter(bson.D{{Key: "_id", Value: id}})
		}
		result, err := c.BulkWrite(ctx, batch, options.BulkWrite().SetOrdered(true))
		if result != nil {
			removed += result.DeletedCount
		}
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// set writes fields of the document with an _id, if there is one.
func set(ctx context.Context, c *mongo.Collection, id any, fields bson.D) (found bool, err error) {
	result, err := c.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$set", Value: fields}})
	if err != nil {
		return false, err
	}
	return result.MatchedCount > 0, nil
}

// readAll gives a call that reads whole collections the time it may take.
func readAll(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, readAllTimeout)
}

// now is in milliseconds, as a BSON datetime is.
func (s *Store) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// textOf makes a string of any bytes: BSON's are UTF-8.
func textOf(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

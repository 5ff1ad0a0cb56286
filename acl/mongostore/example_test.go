package mongostore_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
)

// A program that is given a URI opens the store, brings the database up to date
// and works on it.
func ExampleOpen() {
	uri, stop := startServer()
	defer stop()

	ctx := context.Background()
	store, err := mongostore.Open(uri, "mosquitto")
	if err != nil {
		panic(err)
	}
	defer store.Close(ctx)
	if err := store.Migrate(ctx); err != nil {
		panic(err)
	}
	hash, err := password.Hash("correct horse battery staple")
	if err != nil {
		panic(err)
	}
	john := acl.User{Name: "john", Password: hash, Rights: []acl.Right{{Pattern: "john/#", Access: acl.Read}}}
	fmt.Println(store.AddUser(ctx, john))
	fmt.Println(store.AddUser(ctx, john))
	// Output:
	// <nil>
	// user "john": exists already
}

// A follower loads everything once, and from then on asks what changed.
func ExampleStore_Changes() {
	uri, stop := startServer()
	defer stop()
	ctx := context.Background()
	store, err := mongostore.Open(uri, "mosquitto")
	if err != nil {
		panic(err)
	}
	defer store.Close(ctx)
	if err := store.Migrate(ctx); err != nil {
		panic(err)
	}

	users, grants, at, err := store.Load(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(users), "users,", len(grants), "grants")

	// Somewhere else, Jane adds a user.
	if err := store.AddUser(ctx, acl.User{Name: "john"}); err != nil {
		panic(err)
	}

	// An error wrapping mongostore.ErrReload would ask for another Load.
	changes, at, err := store.Changes(ctx, at)
	if err != nil {
		panic(err)
	}
	for _, c := range changes {
		fmt.Println("changed:", c.User.Name)
	}
	changes, _, err = store.Changes(ctx, at)
	fmt.Println(len(changes), "more,", err)
	// Output:
	// 0 users, 0 grants
	// changed: john
	// 0 more, <nil>
}

// startServer starts a store of its own for an example.
func startServer() (uri string, stop func()) {
	directory, err := os.MkdirTemp("", "iotoll")
	if err != nil {
		panic(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	server, err := embedded.Open(embedded.Config{Directory: filepath.Join(directory, "store")}, log)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- server.Run(ctx) }()
	return server.URI(), func() {
		cancel()
		<-stopped
		os.RemoveAll(directory)
	}
}

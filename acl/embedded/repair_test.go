package embedded

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// with runs a store in a directory for the time that do takes.
func with(t *testing.T, directory string, do func(*mongo.Client)) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := Open(Config{Directory: directory}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI()).SetTimeout(10 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	do(client)
	if err := client.Disconnect(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// once inserts a document twice into a collection: the second must be refused.
func once(t *testing.T, c *mongo.Collection, id string) {
	t.Helper()
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}}); err != nil {
		t.Errorf("insert into %s: %v", c.Name(), err)
	}
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}}); !mongo.IsDuplicateKeyError(err) {
		t.Errorf("insert into %s again: got %v, want a duplicate key", c.Name(), err)
	}
}

// tableOf is the table that FerretDB makes for a collection.
func tableOf(collection string) string {
	h := fnv.New32a()
	h.Write([]byte(collection))
	return fmt.Sprintf("%s_%08x", collection, h.Sum32())
}

// TestRepair leaves a database as a FerretDB does that is killed after each of
// the statements that make a database, a collection and an index.
func TestRepair(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	index := mongo.IndexModel{Keys: bson.D{{Key: "name", Value: 1}}, Options: options.Index().SetName("name")}
	with(t, directory, func(c *mongo.Client) {
		once(t, c.Database("d").Collection("whole"), "before")
	})

	if err := os.WriteFile(filepath.Join(directory, "empty.sqlite"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(directory, "d.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`CREATE TABLE "` + tableOf("table") + `" (_ferretdb_sjson TEXT NOT NULL CHECK(_ferretdb_sjson != '')) STRICT`,

		`CREATE TABLE "` + tableOf("listed") + `" (_ferretdb_sjson TEXT NOT NULL CHECK(_ferretdb_sjson != '')) STRICT`,
		`INSERT INTO _ferretdb_collections (name, table_name, settings) VALUES ('listed', '` + tableOf("listed") + `', '{}')`,

		`CREATE TABLE "` + tableOf("indexed") + `" (_ferretdb_sjson TEXT NOT NULL CHECK(_ferretdb_sjson != '')) STRICT`,
		`INSERT INTO _ferretdb_collections (name, table_name, settings) VALUES ('indexed', '` + tableOf("indexed") + `', '{}')`,
		`CREATE UNIQUE INDEX "` + tableOf("indexed") + `__id_" ON "` + tableOf("indexed") + `" (_ferretdb_sjson->'_id')`,

		`CREATE INDEX "` + tableOf("whole") + `_name" ON "` + tableOf("whole") + `" (_ferretdb_sjson->'name')`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	with(t, directory, func(c *mongo.Client) {
		once(t, c.Database("empty").Collection("any"), "x")
		d := c.Database("d")
		for _, name := range []string{"table", "listed", "indexed", "whole"} {
			once(t, d.Collection(name), "x")
		}
		if _, err := d.Collection("whole").Indexes().CreateOne(t.Context(), index); err != nil {
			t.Errorf("create index: %v", err)
		}
		if n, err := d.Collection("whole").CountDocuments(t.Context(), bson.D{}); n != 2 || err != nil {
			t.Errorf("what was there: got %d documents, %v, want 2", n, err)
		}
	})
	// What is in order is left alone.
	with(t, directory, func(c *mongo.Client) {
		specifications, err := c.Database("d").Collection("whole").Indexes().ListSpecifications(t.Context())
		if err != nil || len(specifications) != 2 {
			t.Errorf("indexes of a whole collection: got %+v, %v, want 2", specifications, err)
		}
		if n, err := c.Database("d").Collection("listed").CountDocuments(t.Context(), bson.D{}); n != 1 || err != nil {
			t.Errorf("documents in a collection that was repaired: got %d, %v, want 1", n, err)
		}
	})
}

// TestRepairRefuses checks that a collection with documents is never dropped.
func TestRepairRefuses(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	with(t, directory, func(c *mongo.Client) { once(t, c.Database("d").Collection("a"), "x") })
	db, err := sql.Open("sqlite", "file:"+filepath.Join(directory, "d.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`UPDATE _ferretdb_collections SET settings = '{}'`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Directory: directory}, logrus.New()); err == nil || !strings.Contains(err.Error(), "holds 1 documents whose _id nothing keeps unique") {
		t.Errorf("Open: got %v, want a refusal", err)
	}
}

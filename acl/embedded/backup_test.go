package embedded

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// TestBackUpAndRestore backs a store up while somebody writes, and checks that
// the copy holds every document that was acknowledged before, without a gap.
func TestBackUpAndRestore(t *testing.T) {
	base := t.TempDir()
	directory, backup := filepath.Join(base, "store"), filepath.Join(base, "backup")
	acknowledged := 0
	with(t, directory, func(client *mongo.Client) {
		c := client.Database("d").Collection("a")
		ctx, stop := context.WithCancel(t.Context())
		var writer sync.WaitGroup
		enough := make(chan struct{})
		writer.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
					t.Error(err)
					return
				}
				if i == 200 {
					close(enough)
				}
			}
		})
		<-enough
		n, err := c.CountDocuments(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		acknowledged = int(n)
		if err := BackUp(t.Context(), directory, backup); err != nil {
			t.Fatal(err)
		}
		stop()
		writer.Wait()
		if err := BackUp(t.Context(), directory, backup); !errors.Is(err, fs.ErrExist) {
			t.Errorf("BackUp over a backup: got error %v, want ErrExist", err)
		}
		if err := Restore(t.Context(), backup, directory); !errors.Is(err, ErrInUse) {
			t.Errorf("Restore into a store that is open: got error %v, want ErrInUse", err)
		}
	})
	if err := Restore(t.Context(), backup, directory); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Restore over a store: got error %v, want ErrExist", err)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("backup: got mode %v, error %v, want 0700", info.Mode(), err)
	}

	restored := filepath.Join(base, "restored")
	if err := Restore(t.Context(), backup, restored); err != nil {
		t.Fatal(err)
	}
	with(t, restored, func(client *mongo.Client) {
		c := client.Database("d").Collection("a")
		n, err := c.CountDocuments(t.Context(), bson.D{})
		if err != nil || int(n) < acknowledged {
			t.Fatalf("restored: got %d documents, error %v, want at least %d", n, err, acknowledged)
		}
		for i := range int(n) {
			if err := c.FindOne(t.Context(), bson.D{{Key: "_id", Value: i}}).Err(); err != nil {
				t.Fatalf("restored: document %d of %d: %v", i, n, err)
			}
		}
		if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 0}}); !mongo.IsDuplicateKeyError(err) {
			t.Errorf("restored: insert an _id again: got error %v, want a duplicate key", err)
		}
	})
}

// TestDamaged checks that a damaged file is refused, wherever it is met.
func TestDamaged(t *testing.T) {
	base := t.TempDir()
	directory := filepath.Join(base, "store")
	with(t, directory, func(client *mongo.Client) {
		c := client.Database("d").Collection("a")
		for i := range 200 {
			if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	file := filepath.Join(directory, "d.sqlite")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	for name, damage := range map[string]func([]byte) []byte{
		"cut off":       func(b []byte) []byte { return b[:len(b)/2] },
		"not SQLite":    func(b []byte) []byte { return append([]byte("not a database, but text"), b[24:]...) },
		"zeroed within": func(b []byte) []byte { clear(b[8192:20480]); return b },
	} {
		if err := os.WriteFile(file, damage(append([]byte(nil), whole...)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Directory: directory}, log); !errors.Is(err, ErrDamaged) {
			t.Errorf("Open of a file %s: got error %v, want ErrDamaged", name, err)
		}
		if err := BackUp(t.Context(), directory, filepath.Join(base, "backup")); err == nil {
			t.Errorf("BackUp of a file %s: got no error", name)
		}
		if err := Restore(t.Context(), directory, filepath.Join(base, "restored")); !errors.Is(err, ErrDamaged) {
			t.Errorf("Restore of a file %s: got error %v, want ErrDamaged", name, err)
		}
		if left, err := filepath.Glob(filepath.Join(base, "*", "*.sqlite*")); err != nil || len(left) != 1 {
			t.Errorf("after a file %s: got files %v, error %v, want the store's alone", name, left, err)
		}
	}
	for name, f := range map[string]func() error{
		"BackUp":  func() error { return BackUp(t.Context(), t.TempDir(), filepath.Join(base, "backup")) },
		"Restore": func() error { return Restore(t.Context(), t.TempDir(), filepath.Join(base, "restored")) },
	} {
		if err := f(); err == nil {
			t.Errorf("%s of an empty directory: got no error", name)
		}
	}
}

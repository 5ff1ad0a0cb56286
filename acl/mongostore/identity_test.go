package mongostore

import (
	"errors"
	"strings"
	"testing"
)

func TestStoreID(t *testing.T) {
	s := openDatabase(t, newDatabase())
	if id, err := s.ID(t.Context()); id != "" || err != nil {
		t.Errorf("ID of an empty store: got %q, error %v, want none", id, err)
	}
	if err := s.CheckID(t.Context(), "NOTED"); !errors.Is(err, ErrOtherStore) || !strings.Contains(err.Error(), "NOTED") {
		t.Errorf("CheckID of an empty store: got error %v, want ErrOtherStore and the ID", err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := s.ID(t.Context())
	if err != nil || len(id) < 20 {
		t.Fatalf("ID: got %q, error %v, want a random text", id, err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckID(t.Context(), id); err != nil {
		t.Errorf("CheckID after another Migrate: %v", err)
	}
	other := newStore(t)
	if err := other.CheckID(t.Context(), id); !errors.Is(err, ErrOtherStore) || !strings.Contains(err.Error(), id) {
		t.Errorf("CheckID of another store: got error %v, want ErrOtherStore and both IDs", err)
	}
}

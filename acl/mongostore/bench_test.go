package mongostore

import (
	"testing"
	"time"
)

func BenchmarkGet(b *testing.B) {
	s := newStore(b)
	announceUser(b, s, "john")
	for b.Loop() {
		if d, err := get[change](b.Context(), s.changes, changeID(1)); err != nil || d == nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetNone(b *testing.B) {
	s := newStore(b)
	announceUser(b, s, "john")
	for b.Loop() {
		if d, err := get[change](b.Context(), s.changes, changeID(2)); err != nil || d != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAnnounce(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		announceUser(b, s, "john")
	}
}

func BenchmarkGetOf1000(b *testing.B) {
	s := newStore(b)
	var documents []any
	for seq := int64(1); seq <= 1000; seq++ {
		documents = append(documents, change{ID: changeID(seq), Nonce: "n", Kind: userChanged, Document: "x", User: "x", At: epoch})
	}
	if _, err := s.changes.InsertMany(b.Context(), documents); err != nil {
		b.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	for b.Loop() {
		if d, err := get[change](b.Context(), s.changes, changeID(999)); err != nil || d == nil {
			b.Fatal(err)
		}
	}
}

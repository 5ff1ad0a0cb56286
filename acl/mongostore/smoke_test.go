package mongostore

import "testing"

func TestSmoke(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	_, _, pos, err := s.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(ctx, paid(t, 1, "p1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(ctx, paid(t, 1, "p1")); err != nil {
		t.Fatal(err)
	}
	ch, pos, err := s.Changes(ctx, pos)
	t.Log(ch, pos, err)
	g, err := s.Last(ctx, "john", "live")
	t.Logf("%+v %v", g, err)
	st, ok, err := s.Settled(ctx, "p1")
	t.Logf("%+v %v %v", st, ok, err)
}

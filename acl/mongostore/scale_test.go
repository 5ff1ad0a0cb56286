package mongostore

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
)

// cpu returns the processor time that this process took, which tells more than
// the clock on a busy machine. It includes the embedded store's.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScale measures what commands and a start of the plugin wait for with
// 100,000 users, each with a grant that is active, on the embedded store.
func BenchmarkScale(b *testing.B) {
	const users = 100_000
	s := newStore(b)
	h, err := password.Hash(password.Generate())
	if err != nil {
		b.Fatal(err)
	}
	var documents []any
	for i := 1; i <= users; i++ {
		name := fmt.Sprint("user", i)
		documents = append(documents, userDocument{ID: name, Username: name, Password: h, Topics: []topicDocument{}})
		if len(documents) == 5000 {
			if err := insertAll(b.Context(), s.users, documents); err != nil {
				b.Fatal(err)
			}
			documents = nil
		}
	}
	fill(b, s, "user", users, time.Now())
	if err := s.nameOffer(b.Context(), "live"); err != nil {
		b.Fatal(err)
	}
	measure := func(name string, f func(s *Store) error) {
		b.Run(name, func(b *testing.B) {
			begin := cpu(b)
			for b.Loop() {
				// As a new process has it.
				s := openDatabase(b, s.meta.Database().Name())
				if err := f(s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpu(b)-begin).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
	measure("load", func(s *Store) error {
		got, grants, _, err := s.Load(b.Context())
		if err != nil || len(got) != users || len(grants) != users {
			return fmt.Errorf("%d users, %d grants, %w", len(got), len(grants), err)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.Logf("heap %d MB, with the embedded store", m.HeapAlloc>>20)
		runtime.KeepAlive(got)
		runtime.KeepAlive(grants)
		return nil
	})
	measure("check", func(s *Store) error {
		users, grants, err := s.LoadUser(b.Context(), "user777")
		if err != nil || len(users) != 1 || len(grants) != 1 {
			return fmt.Errorf("%d users, %d grants, %w", len(users), len(grants), err)
		}
		return nil
	})
	measure("payments of one", func(s *Store) error {
		_, err := s.FindPayments(b.Context(), PaymentQuery{Subject: "user777"})
		return err
	})
	measure("add user", func(s *Store) error {
		return s.AddUser(b.Context(), acl.User{Name: fmt.Sprint("new", databases.Add(1))})
	})
	measure("set user", func(s *Store) error {
		return s.SetUser(b.Context(), "user777", UserChange{Superuser: new(false)})
	})
	measure("remove user", func(s *Store) error {
		return s.RemoveUser(b.Context(), fmt.Sprint("user", databases.Add(1)+1000))
	})
	measure("list users", func(s *Store) error {
		_, err := s.Users(b.Context())
		return err
	})
	measure("list active entries", func(s *Store) error {
		_, err := s.ActiveEntries(b.Context(), "", "")
		return err
	})
	measure("trim", func(s *Store) error { return s.Trim(b.Context(), time.Now().Add(-24*time.Hour)) })
	measure("unknown user, first", func(s *Store) error {
		_, err := s.UserState(b.Context(), "nobody")
		return err
	})
	if _, err := s.UserState(b.Context(), "nobody"); err != nil {
		b.Fatal(err)
	}
	b.Run("unknown user", func(b *testing.B) {
		for b.Loop() {
			if state, err := s.UserState(b.Context(), "nobody"); err != nil || state != tangle.UserUnknown {
				b.Fatal(state, err)
			}
		}
	})
	b.Run("count users", func(b *testing.B) {
		for b.Loop() {
			if _, err := count(b.Context(), s.users); err != nil {
				b.Fatal(err)
			}
		}
	})
}

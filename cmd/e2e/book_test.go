package e2e

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// payment is a line of "iotoll payment list --json".
type payment struct {
	Payment string
	Outcome string
	User    string
	Until   time.Time
	Credit  string
}

// payments returns the seller's book.
func payments(t testing.TB, r *rig.Rig, flags ...string) []payment {
	t.Helper()
	return lines[payment](t, iotoll(t, r, append([]string{"payment", "list", "--json"}, flags...)...))
}

// outcomes counts the payments of an outcome.
func outcomes(t testing.TB, r *rig.Rig, outcome string) int {
	t.Helper()
	return len(payments(t, r, "--outcome", outcome))
}

// grant is a line of "iotoll grant list --json".
type grant struct {
	User, Kind, State string
	From, Until       time.Time
}

func grants(t testing.TB, r *rig.Rig, flags ...string) []grant {
	t.Helper()
	return lines[grant](t, iotoll(t, r, append([]string{"grant", "list", "--json"}, flags...)...))
}

// lines decodes JSON, one object a line.
func lines[T any](t testing.TB, text string) (all []T) {
	t.Helper()
	for d := json.NewDecoder(bytes.NewBufferString(text)); d.More(); {
		var one T
		if err := d.Decode(&one); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		all = append(all, one)
	}
	return all
}

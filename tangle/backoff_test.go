package tangle_test

import (
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle"
)

func TestBackOff(t *testing.T) {
	for _, test := range []struct {
		first, most time.Duration
		fails       int
		want        time.Duration
	}{
		{250 * time.Millisecond, 10 * time.Second, 0, 250 * time.Millisecond},
		{250 * time.Millisecond, 10 * time.Second, 1, 500 * time.Millisecond},
		{250 * time.Millisecond, 10 * time.Second, 5, 8 * time.Second},
		{250 * time.Millisecond, 10 * time.Second, 6, 10 * time.Second},
		{250 * time.Millisecond, 10 * time.Second, 1 << 40, 10 * time.Second},
		{time.Hour, 10 * time.Second, 0, 10 * time.Second},
	} {
		if got := tangle.BackOff(test.first, test.most, test.fails); got != test.want {
			t.Errorf("BackOff(%s, %s, %d): got %s, want %s", test.first, test.most, test.fails, got, test.want)
		}
	}
}

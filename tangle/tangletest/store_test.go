package tangletest_test

import (
	"testing"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

func TestStore(t *testing.T) {
	tangletest.TestStore(t, func(*testing.T) (tangle.Store, func(string)) {
		s := new(tangletest.Store)
		return s, s.AddUser
	})
}

func TestSignUps(t *testing.T) {
	tangletest.TestSignUpStore(t, "a verifier", func(*testing.T) tangletest.SignUpStore { return new(tangletest.Store) })
}

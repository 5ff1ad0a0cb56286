package daemon

import (
	"testing"

	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
)

// TestOffersSignup: buyers' programs learn whether a payment may open an account.
func TestOffersSignup(t *testing.T) {
	for _, want := range []bool{false, true} {
		document, err := Offers(&config.Config{Ledger: ledgers.Config{Kind: ledgers.IOTA, Network: "local"}, Signup: want})
		if err != nil || document.Signup != want {
			t.Errorf("Offers with signup %t: got %t, %v", want, document.Signup, err)
		}
	}
}

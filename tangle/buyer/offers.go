// Package buyer holds what a seller publishes for the programs of buyers: the
// offers and the state of each account. docs/offers.schema.json and
// docs/account.schema.json describe the two documents.
package buyer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// OffersTopic is where a seller publishes [Offers], retained and readable without
// an account.
const OffersTopic = "iotoll/offers"

// version is that of the documents. A reader refuses any other. Members may be
// added without a new version.
const version = 1

// maxDocument is the longest document in bytes that is read.
const maxDocument = 1 << 20

// Offers is the document on [OffersTopic].
type Offers struct {
	Version int      `json:"v"`
	Ledger  string   `json:"ledger"`      // legacy or iota
	Network string   `json:"network"`     // of the ledger, such as mainnet
	Offers  []Offer  `json:"offers"`      // may be empty
	Free    []string `json:"free_topics"` // filters of what everybody may read
	Signup  bool     `json:"signup"`      // a payment may open an account, see docs/signup.md
}

// Offer is one thing for sale.
type Offer struct {
	ID       string   `json:"id"`
	Topics   []string `json:"topics"` // topic filters
	Price    string   `json:"price"`  // of one period, in Unit
	Unit     string   `json:"unit"`   // such as IOTA
	Decimals int      `json:"decimals"`
	Amount   string   `json:"amount"` // Price in base units, of which 10^Decimals are one Unit
	Seconds  float64  `json:"period_seconds"`
	Address  string   `json:"address"` // where to pay
	How      string   `json:"how"`     // the payment's message; YOUR NAME stands for the username
	Seats    int      `json:"seats,omitempty"`
	// Available says whether what is sold arrives now; nil where nobody knows.
	Available *bool  `json:"available,omitempty"`
	Reason    string `json:"reason,omitempty"` // why it is not available
}

// placeholder is what a buyer replaces in Offer.How.
const placeholder = "YOUR NAME"

// How returns the message of a payment for an offer that names a user.
func How(username, offer string) string {
	// Strings can be marshaled.
	text, _ := json.Marshal(struct {
		Username string `json:"username"`
		Offer    string `json:"offer"`
	}{username, offer})
	return string(text)
}

// HowAnybody returns the message of a payment for an offer, with a placeholder
// for the name of the user.
func HowAnybody(offer string) string { return How(placeholder, offer) }

// Unavailable returns a copy of the document that says of every offer that it is
// not available, and why.
func (o Offers) Unavailable(reason string) Offers {
	all := make([]Offer, len(o.Offers))
	for i, one := range o.Offers {
		one.Available, one.Reason = new(bool), reason
		all[i] = one
	}
	o.Offers = all
	return o
}

// NewOffers returns an empty document of the present version.
func NewOffers() Offers { return Offers{Version: version, Offers: []Offer{}, Free: []string{}} }

// ParseOffers reads the document on [OffersTopic]. Members that it does not know
// are passed over.
func ParseOffers(text []byte) (Offers, error) {
	var o Offers
	if err := parse(text, &o, &o.Version); err != nil {
		return Offers{}, fmt.Errorf("parse offers: %w", err)
	}
	for i, one := range o.Offers {
		if amount, err := strconv.ParseInt(one.Amount, 10, 64); one.ID == "" || err != nil || amount <= 0 || one.Seconds <= 0 || one.Seconds > maxSeconds {
			return Offers{}, fmt.Errorf("parse offers: offers[%d]: want an id, an amount and a period above 0", i)
		}
	}
	return o, nil
}

// maxSeconds is the longest period that a duration can hold.
const maxSeconds = float64(1<<63-1) / float64(time.Second)

// Period returns what one price buys.
func (o Offer) Period() time.Duration { return seconds(o.Seconds) }

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}

// parse reads a document of our version; v is where its version goes.
func parse(text []byte, document any, v *int) error {
	if len(text) > maxDocument {
		return fmt.Errorf("document has %d bytes, want at most %d", len(text), maxDocument)
	}
	if err := json.Unmarshal(text, document); err != nil {
		return err
	}
	if *v != version {
		return fmt.Errorf("document has version %d, want %d", *v, version)
	}
	return nil
}

// Duration writes a duration as configurations do, without parts that are zero at
// its end: 1h, not 1h0m0s.
func Duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

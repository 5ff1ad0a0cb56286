package tangle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// maxID is the longest offer ID in bytes.
const maxID = 64

// Validate says what is wrong with the offer, all faults at once. It does not
// check the addresses, whose notation only their ledger knows.
func (o Offer) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.ID == "" || len(o.ID) > maxID || !plainID(o.ID) {
		fault("id: %.80q, want 1 to %d of the characters a to z, 0 to 9 and -", o.ID, maxID)
	}
	if len(o.Filters) == 0 {
		fault("topics: required: at least one topic filter")
	}
	if slices.Contains(o.Filters, acl.Filter{}) {
		fault("topics: a filter is empty, want a topic filter such as sensor/live")
	}
	if o.Price <= 0 {
		fault("price: %d, want a whole number of base units above 0", o.Price)
	}
	if o.Period <= 0 || o.Period%time.Millisecond != 0 {
		fault("period: %s, want whole milliseconds above 0, such as 1h", o.Period)
	}
	if o.Address == "" {
		fault("address: required: the deposit address")
	}
	if slices.Contains(o.Former, "") {
		fault("former: an address is empty")
	}
	return errors.Join(faults...)
}

func plainID(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// Offers is a validated set of offers. It does not change.
type Offers struct {
	byID      map[string]Offer
	byAddress map[string][]Offer // in the order given
	order     []string
}

// NewOffers returns the set of the given offers, or all that is wrong with them.
// Offers may share an address: a payment that names none of them is for the first.
func NewOffers(offers ...Offer) (*Offers, error) {
	s := &Offers{byID: make(map[string]Offer), byAddress: make(map[string][]Offer)}
	var faults []error
	if len(offers) == 0 {
		faults = append(faults, errors.New("offers are missing, want at least one"))
	}
	for _, o := range offers {
		if err := o.Validate(); err != nil {
			faults = append(faults, fmt.Errorf("offer %.80q: %w", o.ID, err))
			continue
		}
		if _, ok := s.byID[o.ID]; ok {
			faults = append(faults, fmt.Errorf("offer %q: id is used twice, want each once", o.ID))
			continue
		}
		o.Filters = slices.Clone(o.Filters)
		o.Former = slices.Clone(o.Former)
		s.byID[o.ID] = o
		s.order = append(s.order, o.ID)
		for _, address := range o.addresses() {
			s.byAddress[address] = append(s.byAddress[address], o)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return s, nil
}

// addresses returns every deposit address of the offer, each once.
func (o Offer) addresses() []string {
	var all []string
	for _, address := range append([]string{o.Address}, o.Former...) {
		if !slices.Contains(all, address) {
			all = append(all, address)
		}
	}
	return all
}

// Get returns the offer with an ID.
func (s *Offers) Get(id string) (Offer, bool) {
	o, ok := s.byID[id]
	return o, ok
}

// All returns the offers in the order they were given.
func (s *Offers) All() []Offer {
	all := make([]Offer, 0, len(s.order))
	for _, id := range s.order {
		all = append(all, s.byID[id])
	}
	return all
}

// Addresses returns every deposit address, former ones included, sorted.
func (s *Offers) Addresses() []string {
	return slices.Sorted(maps.Keys(s.byAddress))
}

// Unconfigured returns the deposit addresses that were watched before, by their
// marks in the store, and that no offer names now, sorted: what is paid to them
// is not seen.
func (s *Offers) Unconfigured(marks map[string]Mark) []string {
	var missing []string
	for address := range marks {
		if _, ok := s.byAddress[address]; !ok {
			missing = append(missing, address)
		}
	}
	slices.Sort(missing)
	return missing
}

// choose returns the offer that a payment to address is for. named is what the
// payment says, or empty: then it is the first offer of the address, so that
// adding one never breaks what buyers of the first are used to send. Otherwise
// reason tells the seller why there is no answer.
func (s *Offers) choose(address, named string) (o Offer, reason string) {
	here := s.byAddress[address]
	switch {
	case named == "" && len(here) == 0:
		return Offer{}, "no offer uses this address"
	case named == "":
		return here[0], ""
	}
	o, ok := s.byID[named]
	if !ok {
		return Offer{}, fmt.Sprintf("the message names the offer %s, which does not exist", quote(named))
	}
	// Another address may be on another ledger, where a unit is worth something else.
	if !slices.Contains(o.addresses(), address) {
		return Offer{}, fmt.Sprintf("the message names the offer %q, which is not sold at this address", named)
	}
	return o, ""
}

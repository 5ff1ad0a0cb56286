package buyer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/iotoll/iotoll/tangle"
)

const accountPrefix = "iotoll/account/"

// AccountTopics is the filter of the topics of all accounts.
const AccountTopics = accountPrefix + "+"

// AccountTopic returns the topic of the [Account] of a user, retained and readable
// by that user alone. A name that is not one level of a topic has none; ok is
// false then.
func AccountTopic(username string) (topic string, ok bool) {
	return accountPrefix + username, username != "" && !strings.ContainsAny(username, "+#/\x00")
}

// Account is the document on [AccountTopic]: what a user has bought. It contains
// no secrets.
type Account struct {
	Version  int       `json:"v"`
	Username string    `json:"username"`
	Offers   []Holding `json:"offers"`            // one for each offer
	Held     []Held    `json:"held"`              // payments that wait for the seller, the newest first
	Receipt  *Receipt  `json:"receipt,omitempty"` // of the last payment that was entered
	Notices  []Notice  `json:"notices"`           // what the user should know now
}

// State says whether a user has an offer. The set is closed.
type State string

// The states of an offer for a user.
const (
	Open  State = "open"  // it is delivered until Holding.Until
	Ended State = "ended" // it was until Holding.Until
	None  State = "none"  // nothing was ever bought
)

// Holding is what a user has of an offer.
type Holding struct {
	ID      string     `json:"id"`
	Topics  []string   `json:"topics"`
	State   State      `json:"state"`
	Until   *time.Time `json:"until,omitempty"` // RFC 3339, UTC
	Credit  string     `json:"credit"`          // received and not yet spent
	Renewal string     `json:"renewal"`         // what one more period costs: the price less the credit
	Price   string     `json:"price"`           // of one period
	Unit    string     `json:"unit"`            // of the amounts
	Seconds float64    `json:"period_seconds"`
	Address string     `json:"address"` // where to pay
	How     string     `json:"how"`     // the payment's message
}

// Held is a payment that names the user and that was not credited.
type Held struct {
	Payment string    `json:"payment"`
	Amount  string    `json:"amount"`
	Unit    string    `json:"unit"`
	Seen    time.Time `json:"seen"`
	Reason  string    `json:"reason"`
}

// Receipt is what a payment bought.
type Receipt struct {
	Payment string     `json:"payment"`
	Offer   string     `json:"offer"`
	Amount  string     `json:"amount"`
	Unit    string     `json:"unit"`
	At      time.Time  `json:"at"`
	From    *time.Time `json:"from,omitempty"` // left out if the payment only added to the credit
	Until   *time.Time `json:"until,omitempty"`
}

// Kind says what a notice is about. The set is open: programs show the text of
// those that they do not know.
type Kind string

// The kinds of notices.
const (
	Ending    Kind = "ending"    // less than [NoticeBefore] is left
	HasEnded  Kind = "ended"     // the time is over
	Underpaid Kind = "underpaid" // what was received is below the price
	IsHeld    Kind = "held"      // a payment waits for the seller
)

// Notice is a sentence for the user.
type Notice struct {
	Kind  Kind   `json:"kind"`
	Offer string `json:"offer,omitempty"`
	Text  string `json:"text"`
}

// NoticeBefore is how long before its end a user is told that an offer ends.
const NoticeBefore = 5 * time.Minute

// Books is what a seller knows of a user, for [NewAccount].
type Books struct {
	Username string
	Currency tangle.Currency
	Offers   []tangle.Offer
	Heads    map[string]tangle.Entry // the newest entry for each offer; Seq 0 or absent if there is none
	Paid     tangle.Entry            // the newest entry that a payment made; Seq 0 if there is none
	Held     []HeldPayment
}

// HeldPayment is a payment that names the user, and why it is held.
type HeldPayment struct {
	tangle.Payment
	Reason string
}

// maxHeld bounds how many held payments an account shows, the newest: anybody can
// name the user in a payment.
const maxHeld = 10

// NewAccount returns the document of a user as it is at an instant, and when it
// changes next although nothing happens; zero if it does not.
func NewAccount(b Books, now time.Time) (a Account, next time.Time) {
	a = Account{Version: version, Username: b.Username, Offers: []Holding{}, Held: []Held{}, Notices: []Notice{}}
	for _, o := range b.Offers {
		h, notices, change := b.holding(o, now)
		a.Offers, a.Notices = append(a.Offers, h), append(a.Notices, notices...)
		if !change.IsZero() && (next.IsZero() || change.Before(next)) {
			next = change
		}
	}
	held := slices.Clone(b.Held)
	slices.SortFunc(held, func(x, y HeldPayment) int { return cmp.Or(y.Seen.Compare(x.Seen), cmp.Compare(x.ID, y.ID)) })
	for _, p := range held[:min(len(held), maxHeld)] {
		a.Held = append(a.Held, Held{p.ID, b.Currency.Number(p.Amount), b.Currency.Unit, p.Seen.UTC(), p.Reason})
		a.Notices = append(a.Notices, Notice{Kind: IsHeld, Text: fmt.Sprintf("A payment of %s is held: %s. It stays on the record: ask the seller, who can assign it or pay it back. Payment: %s",
			b.Currency.Format(p.Amount), p.Reason, p.ID)})
	}
	if p := b.Paid; p.Seq > 0 {
		a.Receipt = &Receipt{Payment: p.Payment, Offer: p.Offer, Amount: b.Currency.Number(p.Amount), Unit: b.Currency.Unit, At: p.At.UTC()}
		if p.Outcome() == tangle.Credited {
			a.Receipt.From, a.Receipt.Until = utc(p.NotBefore), utc(p.NotAfter)
		}
	}
	return a, next
}

// holding returns what the user has of an offer, what to say of it, and when that
// changes by itself.
func (b Books) holding(o tangle.Offer, now time.Time) (h Holding, notices []Notice, next time.Time) {
	head, money := b.Heads[o.ID], b.Currency
	missing := max(o.Price-head.Credit, 0)
	h = Holding{
		ID: o.ID, State: None, Credit: money.Number(head.Credit), Renewal: money.Number(missing), Price: money.Number(o.Price), Unit: money.Unit,
		Seconds: o.Period.Seconds(), Address: o.Address, How: How(b.Username, o.ID),
	}
	for _, f := range o.Filters {
		h.Topics = append(h.Topics, f.String())
	}
	say := func(kind Kind, format string, args ...any) {
		notices = append(notices, Notice{Kind: kind, Offer: o.ID, Text: fmt.Sprintf(format, args...)})
	}
	renew := fmt.Sprintf("To renew for %s, pay %s to %s with the message %s", Duration(o.Period), money.Format(missing), o.Address, h.How)
	if head.Seq > 0 && head.Kind != tangle.Closed && !head.End.IsZero() {
		h.State, h.Until = Ended, utc(head.End)
		switch left := head.End.Sub(now); {
		case left <= 0:
			say(HasEnded, "%s ended at %s. %s", o.ID, clock(head.End), renew)
		case left <= NoticeBefore:
			h.State, next = Open, head.End
			say(Ending, "%s ends at %s. %s", o.ID, clock(head.End), renew)
		default:
			h.State, next = Open, head.End.Add(-NoticeBefore)
		}
	}
	if head.Credit > 0 && missing > 0 {
		say(Underpaid, "%s of %s received for %s. Send %s more; the %s stay yours.",
			money.Number(head.Credit), money.Format(o.Price), o.ID, money.Number(missing), money.Number(head.Credit))
	}
	return h, notices, next
}

func utc(t time.Time) *time.Time {
	t = t.UTC()
	return &t
}

// clock writes a time for people.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// ParseAccount reads the document on [AccountTopic]. Members that it does not know
// are passed over.
func ParseAccount(text []byte) (Account, error) {
	var a Account
	if err := parse(text, &a, &a.Version); err != nil {
		return Account{}, fmt.Errorf("parse account: %w", err)
	}
	return a, nil
}

// Period returns what one price buys.
func (h Holding) Period() time.Duration { return seconds(h.Seconds) }

package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
)

func newPayment(c console, load loader) *cobra.Command {
	return group("payment", "Show the book of payments, decide on those that are held",
		newPaymentList(c, load),
		newPaymentShow(c, load),
		newPaymentAssign(c, load),
		newPaymentDecision(c, load, decision{
			use: "release", past: "released", short: "Take back an assignment of which nothing was used", flag: "reason", what: "why, for the book",
			long: `release takes back whose a payment is: it is held again. It is refused once time that
the payment bought has begun, or something was entered in the account after it.`,
			do: (*tangle.Settler).Release,
		}),
		newPaymentDecision(c, load, decision{
			use: "dismiss", past: "dismissed", short: "Set a held payment aside", flag: "reason", what: "why, for the book",
			long: `dismiss sets a held payment aside: nobody gets anything for it, and doctor does not
mention it any more. It can be assigned later.`,
			do: (*tangle.Settler).Dismiss,
		}),
		newPaymentDecision(c, load, decision{
			use: "refund", past: "refunded", short: "Note that a held payment was paid back", flag: "reference", what: "the transfer that paid it back",
			long: `refund notes that you have paid a held payment back, and by which transfer. It moves
no money. It is final.`,
			do: (*tangle.Settler).Refund,
		}),
	)
}

// listedOutcomes are those that a payment can have in the book.
var listedOutcomes = []tangle.Outcome{tangle.Credited, tangle.Underpaid, tangle.Unmatched, tangle.Dismissed, tangle.Refunded, tangle.Historic}

func newPaymentList(c console, load loader) *cobra.Command {
	var user, offer, outcome, since, until string
	var asJSON, asCSV bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List every payment ever seen and what became of it",
		Long: `list prints every payment ever seen at a deposit address. The outcome is one of

  credited    it bought time
  underpaid   less than the price, kept as credit for the user's next payment
  unmatched   held: it names nobody, or nobody known; see "iotoll payment assign"
  dismissed   the seller set it aside
  refunded    the seller paid it back
  historic    it was there when the address was first read

Payments are shortened to their first characters, which the other commands take;
--json and --csv print all there is.

--since and --until go by when a payment was confirmed. They take a day, an instant
as this program prints it, or how long ago.`,
		Example: `  iotoll payment list --since 2026-11-01 --until 2026-12-01 --csv
  iotoll payment list --since 24h --outcome unmatched`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if outcome != "" && !slices.Contains(listedOutcomes, tangle.Outcome(outcome)) {
				return &usageError{err: fmt.Errorf("--outcome %q: want credited, underpaid, unmatched, dismissed, refunded or historic", outcome)}
			}
			now := time.Now()
			from, err := parseWhen("--since", since, now)
			if err != nil {
				return err
			}
			to, err := parseWhen("--until", until, now)
			if err != nil {
				return err
			}
			return stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, _ []string) error {
				bookings, err := store.FindPayments(ctx, mongostore.PaymentQuery{
					Subject: user, Held: tangle.Outcome(outcome) == tangle.Unmatched, Since: from, Until: to,
				})
				if err != nil {
					return err
				}
				bookings = slices.DeleteFunc(bookings, func(b mongostore.PaymentRecord) bool {
					return outcome != "" && string(b.Outcome) != outcome || offer != "" && b.Assignment.Offer != offer
				})
				switch {
				case asJSON:
					return printPaymentsJSON(c, bookings)
				case asCSV:
					return printPaymentsCSV(c, bookings)
				}
				return printPayments(c, bookings)
			})(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "only those of this `USER`")
	f.StringVar(&offer, "offer", "", "only those for this `OFFER`")
	f.StringVar(&outcome, "outcome", "", "only those with this `OUTCOME`")
	f.StringVar(&since, "since", "", "only those confirmed at this `TIME` or later, such as 2026-11-22 or 24h")
	f.StringVar(&until, "until", "", "only those confirmed before this `TIME`")
	f.BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	f.BoolVar(&asCSV, "csv", false, "print CSV with a line of names")
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	return cmd
}

// parseWhen reads what a flag says about when: a day or an instant, in UTC
// unless it says otherwise, or how long before now. Nothing is the zero time.
func parseWhen(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, &usageError{err: fmt.Errorf("%s %q: must be a day such as 2026-11-22, an instant such as 2026-11-22T18:00:00Z, or how long ago, such as 24h", flag, text)}
}

func printPayments(c console, bookings []mongostore.PaymentRecord) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONFIRMED\tPAYMENT\tAMOUNT\tOUTCOME\tUSER\tOFFER\tUNTIL\tREASON")
	for _, b := range bookings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", clock(b.Confirmed), short(b.ID), ledgers.Currency(b.Ledger).Format(b.Amount), b.Outcome,
			dash(printable(b.Assignment.Subject)), dash(b.Assignment.Offer), clock(bought(b)), dash(printable(b.Reason)))
	}
	return w.Flush()
}

// short is enough of a payment's ID to find it again.
func short(id string) string { return id[:min(12, len(id))] }

// bought is the end of the time that a payment bought; zero if it bought none.
func bought(b mongostore.PaymentRecord) time.Time {
	if b.Outcome != tangle.Credited {
		return time.Time{}
	}
	return b.Entry.NotAfter
}

// paymentJSON is a payment as programs read it. Times are null where there are
// none.
type paymentJSON struct {
	Payment   string     `json:"payment"`
	Ledger    string     `json:"ledger"`
	Reference string     `json:"reference,omitempty"`
	Address   string     `json:"address"`
	Amount    string     `json:"amount"`
	Unit      string     `json:"unit"`
	Sender    string     `json:"sender,omitempty"`
	Message   string     `json:"message"`
	Raw       []byte     `json:"message_base64,omitempty"` // if it is not UTF-8
	Position  int64      `json:"position,omitempty"`
	Final     *time.Time `json:"final"`
	Claimed   *time.Time `json:"claimed"`
	Seen      *time.Time `json:"seen"`
	Confirmed *time.Time `json:"confirmed"`
	Outcome   string     `json:"outcome"`
	Reason    string     `json:"reason,omitempty"`
	User      string     `json:"user,omitempty"`
	Offer     string     `json:"offer,omitempty"`
	By        string     `json:"assigned_by,omitempty"`
	Settled   *time.Time `json:"settled"`
	Grant     string     `json:"grant,omitempty"`
	From      *time.Time `json:"from"`
	Until     *time.Time `json:"until"`
	Credit    string     `json:"credit"`
}

func newPaymentJSON(b mongostore.PaymentRecord) paymentJSON {
	money := ledgers.Currency(b.Ledger)
	j := paymentJSON{
		Payment: b.ID, Ledger: b.Ledger, Reference: b.Reference, Address: b.Address, Amount: money.Number(b.Amount), Unit: money.Unit, Sender: b.Sender,
		Message: string(b.Message), Position: b.Position,
		Final: instant(b.Final), Claimed: instant(b.Claimed), Seen: instant(b.Seen), Confirmed: instant(b.Confirmed),
		Outcome: string(b.Outcome), Reason: b.Reason,
		User: b.Assignment.Subject, Offer: b.Assignment.Offer, By: b.Assignment.By,
		Settled: instant(b.Settled), Credit: money.Number(b.Entry.Credit),
	}
	if !utf8.Valid(b.Message) {
		j.Message, j.Raw = strings.ToValidUTF8(j.Message, "\uFFFD"), b.Message
	}
	if b.Entry.Seq > 0 {
		j.Grant = b.Entry.ID
	}
	if until := bought(b); !until.IsZero() {
		j.From, j.Until = instant(b.Entry.NotBefore), instant(until)
	}
	return j
}

func printPaymentsJSON(c console, bookings []mongostore.PaymentRecord) error {
	for _, b := range bookings {
		if err := printJSON(c, newPaymentJSON(b)); err != nil {
			return err
		}
	}
	return nil
}

// printJSON prints a value on a line. Characters that a terminal may obey, some
// of which JSON allows as they are, are escaped; to a program it is the same.
func printJSON(c console, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var safe strings.Builder
	for _, r := range string(line) {
		if strconv.IsPrint(r) {
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	_, err = fmt.Fprintln(c.out, safe.String())
	return err
}

func printPaymentsCSV(c console, bookings []mongostore.PaymentRecord) error {
	w := csv.NewWriter(c.out)
	w.Write([]string{"payment", "ledger", "reference", "address", "amount", "unit", "sender", "message", "position", "final", "claimed", "seen", "confirmed",
		"outcome", "reason", "user", "offer", "assigned_by", "settled", "grant", "from", "until", "credit"})
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return clock(*t)
	}
	for _, b := range bookings {
		j := newPaymentJSON(b)
		w.Write([]string{j.Payment, j.Ledger, j.Reference, j.Address, j.Amount, j.Unit, cell(j.Sender), cell(j.Message),
			strconv.FormatInt(j.Position, 10), at(j.Final), at(j.Claimed), at(j.Seen), at(j.Confirmed), j.Outcome, cell(j.Reason), cell(j.User), cell(j.Offer),
			cell(j.By), at(j.Settled), cell(j.Grant), at(j.From), at(j.Until), j.Credit})
	}
	w.Flush()
	return w.Error()
}

// cell is text of strangers as it can be put into a spreadsheet, where a cell
// that begins with one of these characters is a formula (OWASP, "CSV Injection"),
// and on a terminal. --json has it as it is.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || strconv.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
	if first, _ := utf8.DecodeRuneInString(s); s != "" && strings.ContainsRune("=+-@\t\n＝＋－＠", first) {
		return "'" + s
	}
	return s
}

// booking returns the payment with an ID, or with one that begins like that.
func booking(ctx context.Context, store *mongostore.Store, id string) (mongostore.PaymentRecord, error) {
	b, err := store.PaymentRecord(ctx, id)
	if !errors.Is(err, mongostore.ErrNotFound) || id == "" {
		return b, err
	}
	ids, idsErr := store.PaymentIDs(ctx, id)
	if idsErr != nil {
		return b, idsErr
	}
	switch len(ids) {
	case 0:
		return b, hint.Add(err, `"iotoll payment list" shows the payments`)
	case 1:
		return store.PaymentRecord(ctx, ids[0])
	}
	return b, hint.Add(fmt.Errorf("payment %q: %d payments begin like that", id, len(ids)), `"iotoll payment list --json" shows all of their names`)
}

func newPaymentShow(c console, load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "show PAYMENT",
		Short: "Print all that is known of a payment",
		Args:  exactly("PAYMENT"),
		RunE: stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, args []string) error {
			b, err := booking(ctx, store, args[0])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, dash(value)) }
			row("payment", b.ID)
			row("ledger", b.Ledger)
			row("reference", b.Reference)
			row("address", b.Address)
			money := ledgers.Currency(b.Ledger)
			row("amount", money.Format(b.Amount))
			row("sender", printable(b.Sender))
			message := printable(string(b.Message))
			if !utf8.Valid(b.Message) {
				message = strconv.Quote(string(b.Message))
			}
			row("message", message)
			row("position", strconv.FormatInt(b.Position, 10))
			row("final", clock(b.Final))
			row("sender says", clock(b.Claimed))
			row("seen", clock(b.Seen))
			row("confirmed", clock(b.Confirmed))
			row("outcome", string(b.Outcome))
			row("reason", printable(b.Reason))
			row("user", printable(b.Assignment.Subject))
			row("offer", b.Assignment.Offer)
			row("assigned by", printable(b.Assignment.By))
			row("settled", clock(b.Settled))
			if b.Entry.Seq > 0 {
				row("grant", printable(b.Entry.ID))
				row("from", clock(b.Entry.NotBefore))
				row("until", clock(bought(b)))
				row("credit", money.Format(b.Entry.Credit))
			}
			if !b.Entry.RevokedAt.IsZero() {
				row("revoked", clock(b.Entry.RevokedAt)+" "+printable(b.Entry.RevokedReason))
			}
			return w.Flush()
		}),
	}
}

func newPaymentAssign(c console, load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "assign PAYMENT USER [OFFER]",
		Short: "Say whose a held payment is",
		Long: `assign settles a payment that names nobody, or nobody known, for a user. The
offer may be left out if only one is sold at the address that was paid to. "iotoll
payment release" takes an assignment back while nothing of it was used.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 3 {
				return nil
			}
			return exactly("PAYMENT", "USER")(cmd, args)
		},
		RunE: stored(c, load, func(ctx context.Context, cfg *config.Config, store *mongostore.Store, args []string) error {
			b, err := booking(ctx, store, args[0])
			if err != nil {
				return err
			}
			s, err := settler(cfg, store)
			if err != nil {
				return err
			}
			offer := ""
			if len(args) == 3 {
				offer = args[2]
			} else if offer, err = offerAt(s.Offers, b.Address); err != nil {
				return err
			}
			r, err := s.Assign(ctx, b.Payment, args[1], offer, operator())
			switch {
			case errors.Is(err, tangle.ErrNoUser):
				return hint.Add(err, `"iotoll user add %s" makes one`, args[1])
			case err != nil:
				return err
			case r.Outcome == tangle.Unmatched:
				return fmt.Errorf("payment %s is held: %s", b.ID, r.Reason)
			}
			g, act := r.Entry, mongostore.Act{Act: "payment assign", Object: b.ID, Reason: args[1] + " " + offer}
			if g.Outcome() == tangle.Underpaid {
				return done(ctx, c, store, act, "%s has a credit of %s for %s\n", g.Subject, ledgers.Currency(b.Ledger).Format(g.Credit), g.Offer)
			}
			return done(ctx, c, store, act, "%s has %s from %s until %s\n", g.Subject, g.Offer, clock(g.NotBefore), clock(g.NotAfter))
		}),
	}
}

// decision is what the seller decides on a payment.
type decision struct {
	use, past, short, long string
	flag, what             string // the flag that must say more, and what it says
	do                     func(s *tangle.Settler, ctx context.Context, p tangle.Payment, by, text string) (tangle.Decision, error)
}

func newPaymentDecision(c console, load loader, d decision) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   d.use + " PAYMENT --" + d.flag + " TEXT",
		Short: d.short,
		Long:  d.long,
		Args:  exactly("PAYMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(text) == "" {
				return &usageError{err: fmt.Errorf("--%s %q: required: %s", d.flag, text, d.what)}
			}
			return stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, args []string) error {
				b, err := booking(ctx, store, args[0])
				if err != nil {
					return err
				}
				if _, err := d.do(&tangle.Settler{Store: store}, ctx, b.Payment, operator(), text); err != nil {
					return err
				}
				return done(ctx, c, store, mongostore.Act{Act: "payment " + d.use, Object: b.ID, Reason: text}, "%s payment %s\n", d.past, short(b.ID))
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&text, d.flag, "", d.what)
	cmd.MarkFlagRequired(d.flag)
	return cmd
}

// offerAt returns the one offer that is sold at an address.
func offerAt(offers *tangle.Offers, address string) (string, error) {
	var ids []string
	for _, o := range offers.All() {
		if o.Address == address || slices.Contains(o.Former, address) {
			ids = append(ids, o.ID)
		}
	}
	if len(ids) != 1 {
		all := ids
		if len(all) == 0 {
			for _, o := range offers.All() {
				all = append(all, o.ID)
			}
		}
		return "", &usageError{err: fmt.Errorf("%d offers are sold at the address that was paid to: OFFER must be one of %s", len(ids), strings.Join(all, ", "))}
	}
	return ids[0], nil
}

package mongostore

import (
	"compress/gzip"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// version1 returns the URI of a store that the release with schema version 1 wrote
// (commit 56f9c68): its watcher on a ledger in memory, its settler for what the
// seller did, and last a payment that was recorded and not settled.
func version1(t *testing.T) string {
	t.Helper()
	f, err := os.Open("testdata/version1.sqlite.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "mosquitto.sqlite"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := embedded.Open(embedded.Config{Directory: directory}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return s.URI()
}

// legacyLedger is a ledger in memory by another name.
type legacyLedger struct{ *memory }

type memory = tangletest.Ledger

func (legacyLedger) Ledger() string { return "legacy" }

// TestMigrateVersion1: what the first release sold goes on, what it held is held,
// what it left unfinished is finished, and nothing counts again.
func TestMigrateVersion1(t *testing.T) {
	uri := version1(t)
	s := openAt(t, uri, "mosquitto")
	ctx := t.Context()
	for range 2 { // once more does no harm
		if err := s.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CheckVersion(ctx); err != nil {
		t.Errorf("CheckVersion: %v", err)
	}
	marks, err := s.Marks(ctx, "legacy")
	if want := map[string]tangle.Mark{"JANE": {}, "OLDJANE": {}}; err != nil || !maps.Equal(marks, want) {
		t.Errorf("Marks: got %v, %v, want %v", marks, err, want)
	}
	if got, want := pending(t, s), map[string]string{
		"UNKNOWN": `there is no user "anna"`, "SILENT": "there is no message", "CUT": "",
	}; !maps.Equal(got, want) {
		t.Errorf("Pending: got %q, want %q", got, want)
	}
	want := map[string]tangle.Outcome{
		"HISTORIC": tangle.Historic, "CREDITED": tangle.Credited, "UNDERPAID": tangle.Underpaid, "EXTENDED": tangle.Credited,
		"UNKNOWN": tangle.Unmatched, "SILENT": tangle.Unmatched, "MARY": tangle.Credited, "EVE": tangle.Underpaid, "CUT": tangle.Settling,
	}
	outcomes := func() map[string]tangle.Outcome {
		t.Helper()
		records, err := s.PaymentRecords(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]tangle.Outcome)
		for _, r := range records {
			got[r.ID] = r.Outcome
			one, err := s.PaymentRecord(ctx, r.ID)
			if err != nil || one.Outcome != r.Outcome || one.Assignment != r.Assignment {
				t.Errorf("payment %s: got %+v, %v by itself, %+v in the list", r.ID, one, err, r)
			}
		}
		return got
	}
	if got := outcomes(); !maps.Equal(got, want) {
		t.Errorf("outcomes: got %v, want %v", got, want)
	}
	before, err := s.Entries(ctx, "john", "")
	if err != nil || len(before) != 3 || before[0].Payment != "CREDITED" || before[2].Credit != 0 || before[2].Remainder == 0 && before[2].Amount != 333 {
		t.Fatalf("Entries of john: got %+v, %v, want three", before, err)
	}

	// This release watches on. The ledger returns everything once more.
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(t, "sensor/live"), Price: 600, Period: time.Hour, Address: "JANE", Former: []string{"OLDJANE"}})
	if err != nil {
		t.Fatal(err)
	}
	ledger := legacyLedger{new(memory)}
	settled := make(chan string, 100)
	w := &tangle.Watcher{
		Ledger: ledger, Store: s, Offers: offers, Interval: 10 * time.Millisecond, Timeout: time.Minute, Log: s.Log,
		Observe: func(p tangle.Payment, o tangle.Outcome, _ time.Duration) {
			if o != tangle.Unmatched {
				settled <- p.ID
			}
		},
	}
	for id := range want {
		p := payment(id)
		p.Address = "JANE"
		ledger.Confirm(p)
	}
	watch, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- w.Run(watch) }()
	if id := <-settled; id != "CUT" {
		t.Errorf("settled %s, want CUT", id)
	}
	for w.Health().LedgerReads < 10 || w.Health().Held != 2 {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	want["CUT"] = tangle.Underpaid // 500 of 600: nothing is known of what it cost before
	if got := outcomes(); !maps.Equal(got, want) {
		t.Errorf("outcomes after watching: got %v, want %v", got, want)
	}
	after, err := s.Entries(ctx, "john", "live")
	if err != nil || len(after) != 4 || !after[3].End.Equal(before[2].End) || after[3].Credit != 500 || after[3].Price != 600 {
		t.Errorf("Entries of john: got %+v, %v, want one more", after, err)
	}

	// And what the seller does with old payments works.
	settler := &tangle.Settler{Store: s, Offers: offers}
	silent, err := s.PaymentRecord(ctx, "SILENT")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := settler.Assign(ctx, silent.Payment, "eve", "live", "jane"); err != nil || r.Outcome != tangle.Credited || r.Entry.Seq != 2 {
		t.Errorf("assign a held one: got %+v, %v", r, err)
	}
	if err := settler.Close(ctx, "john", "removed"); err != nil {
		t.Fatal(err)
	}
	if active, err := s.ActiveEntries(ctx, "john", ""); err != nil || len(active) != 0 {
		t.Errorf("active after closing: got %+v, %v", active, err)
	}
	records, err := s.FindPayments(ctx, PaymentQuery{Subject: "john"})
	if err != nil || len(records) != 4 {
		t.Errorf("payments of john: got %d, %v, want 4", len(records), err)
	}
}

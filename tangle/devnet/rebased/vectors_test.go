package rebased

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// vectors are transactions that the SDK built and signed.
type vector struct {
	Name, TxBytes, Signature, Digest string
}

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Transactions []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Transactions) != 7 {
		t.Fatalf("got %d vectors, want 7", len(file.Transactions))
	}
	return file.Transactions
}

// place puts the coins that a transaction uses into the network.
func (w *world) place(t txn.Transaction, balance uint64) {
	w.chain.mu.Lock()
	defer w.chain.mu.Unlock()
	refs := t.Gas.Coins
	for _, in := range t.Inputs {
		if ref, ok := in.(txn.Owned); ok {
			refs = append(refs[:len(refs):len(refs)], txn.ObjectRef(ref))
		}
	}
	for _, ref := range refs {
		w.chain.objects[ref.ID] = &object{
			id: ref.ID, version: ref.Version, digest: ref.Digest, owner: t.Sender, coin: &txn.IOTA, balance: balance, previous: w.chain.genesis.digest,
		}
	}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			raw, err := base64.StdEncoding.DecodeString(v.TxBytes)
			if err != nil {
				t.Fatal(err)
			}
			x, err := txn.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, Config{})
			vars := map[string]any{"tx": v.TxBytes, "s": []string{v.Signature}}
			if _, message := w.failed(w.ask(executeDocument, vars)); !strings.Contains(message, "Could not find the referenced object") {
				t.Errorf("without its coins: got %q", message)
			}
			w.place(x, 100e9)
			broken := strings.Replace(v.Signature, v.Signature[8:12], "AAAA", 1)
			if _, message := w.failed(w.ask(executeDocument, map[string]any{"tx": v.TxBytes, "s": []string{broken}})); !strings.Contains(message, "Signature is not valid") {
				t.Errorf("with a broken signature: got %q", message)
			}
			want := "SUCCESS"
			if v.Name == "pay_two_recipients" { // of 2^64-1 nanos
				want = "FAILURE"
			}
			a := w.ok(w.ask(executeDocument, vars))
			if status(a) != want || a.at("executeTransactionBlock.effects.transactionBlock.digest") != v.Digest {
				t.Fatalf("got %v, want %s of %s", a, want, v.Digest)
			}
			if again := w.ok(w.ask(executeDocument, vars)); status(again) != want {
				t.Errorf("the same bytes again: got %v", again)
			}
		})
	}
}

func TestVectorExpires(t *testing.T) {
	for _, v := range vectors(t) {
		if v.Name != "pay_expiring" {
			continue
		}
		raw, _ := base64.StdEncoding.DecodeString(v.TxBytes)
		x, err := txn.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, Config{})
		w.place(x, 100e9)
		for range 601 {
			w.EndEpoch()
		}
		_, message := w.failed(w.ask(executeDocument, map[string]any{"tx": v.TxBytes, "s": []string{v.Signature}}))
		if !strings.Contains(message, "expired: its last epoch is 600, the current one 601") {
			t.Errorf("got %q", message)
		}
	}
}

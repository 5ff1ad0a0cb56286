package ledgers

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/iotoll/iotoll/tangle/wallet"
)

// TestWaitTellsOfAConflict: a payment whose money was spent otherwise is not waited
// for in vain.
func TestWaitTellsOfAConflict(t *testing.T) {
	genesis, err := devlegacy.SeedGenesis(devlegacy.DemoSeed, 1000)
	if err != nil {
		t.Fatal(err)
	}
	node, err := devlegacy.New(devlegacy.Config{Genesis: genesis, MWM: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(node)
	defer server.Close()
	seed := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seed, []byte(devlegacy.DemoSeed), 0o600); err != nil {
		t.Fatal(err)
	}
	notation, err := Notation(Legacy)
	if err != nil {
		t.Fatal(err)
	}
	seller := filepath.Join(t.TempDir(), "seller")
	if err := NewKey(Legacy, seller); err != nil {
		t.Fatal(err)
	}
	text, err := Address(Legacy, seller, 0)
	if err != nil {
		t.Fatal(err)
	}
	to, err := notation.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	w, err := WalletConfig{Kind: Legacy, Node: server.URL, KeyFile: seed, MWM: 1}.Open()
	if err != nil {
		t.Fatal(err)
	}
	lost, err := w.Pay(t.Context(), to, 100, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Crash(0); err != nil { // the node forgets it
		t.Fatal(err)
	}
	if _, err := node.Milestone(); err != nil {
		t.Fatal(err)
	}
	rival, err := WalletConfig{Kind: Legacy, Node: server.URL, KeyFile: seed, MWM: 1}.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rival.Pay(t.Context(), to, 200, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Milestone(); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(t.Context(), lost); !errors.Is(err, wallet.ErrConflict) {
		t.Errorf("got %v, want %v", err, wallet.ErrConflict)
	}
}

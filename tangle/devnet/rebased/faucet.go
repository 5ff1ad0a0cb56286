package rebased

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// What the faucet gives for one request: as on the public networks, several
// coins at once.
const (
	faucetCoins  = 5
	faucetAmount = 2_000_000_000 // nanos in each
)

// Faucet returns the handler that gives coins away. It takes
//
//	POST {"FixedAmountRequest":{"recipient":"0x…"}}
//
// and answers 201 with the coins and the digest of the transaction that made them.
func (n *Node) Faucet() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			FixedAmountRequest struct {
				Recipient string `json:"recipient"`
			}
		}
		reply := func(status int, out any) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(out) // the client is gone if this fails
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			reply(http.StatusMethodNotAllowed, map[string]any{"error": "want POST"})
			return
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&request); err != nil {
			reply(http.StatusBadRequest, map[string]any{"error": err.Error()})
			return
		}
		to, err := txn.ParseAddress(request.FixedAmountRequest.Recipient)
		if err != nil {
			reply(http.StatusBadRequest, map[string]any{"error": err.Error()})
			return
		}
		var transfers []Transfer
		for range faucetCoins {
			transfers = append(transfers, Transfer{To: to, Amount: faucetAmount})
		}
		x, err := n.pay(Payment{Transfers: transfers})
		if err != nil {
			reply(http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		coins := []any{}
		for _, o := range x.created {
			coins = append(coins, map[string]any{"id": o.id.String(), "amount": o.balance, "transferTxDigest": x.digest.String()})
		}
		task := hash([]byte("task"), x.digest[:])
		reply(http.StatusCreated, map[string]any{
			"task":                  fmt.Sprintf("%x-%x-%x-%x-%x", task[:4], task[4:6], task[6:8], task[8:10], task[10:16]),
			"transferredGasObjects": coins, "error": nil,
		})
	})
}

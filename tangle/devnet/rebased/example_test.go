package rebased_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// A payment is final, and listed, once a checkpoint includes it.
func Example() {
	node, err := rebased.New(rebased.Config{})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(node)
	defer server.Close()

	shop := txn.NewKey().Address()
	payment := rebased.Payment{Transfers: []rebased.Transfer{{To: shop, Amount: 250_000_000}}, Memo: []string{`{"username": "john"}`}}
	if _, err := node.Pay(payment); err != nil {
		log.Fatal(err)
	}
	node.Step()

	query := fmt.Sprintf(`{"query": "{ address(address: \"%s\") { balance { totalBalance } } checkpoint { sequenceNumber } }"}`, shop)
	res, err := http.Post(server.URL, "application/json", strings.NewReader(query))
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	var answer json.RawMessage
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer))
	// Output: {"data":{"address":{"balance":{"totalBalance":"250000000"}},"checkpoint":{"sequenceNumber":1}}}
}

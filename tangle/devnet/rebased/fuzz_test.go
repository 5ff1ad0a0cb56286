package rebased

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzServe checks that the node answers any body with JSON and does not panic.
func FuzzServe(f *testing.F) {
	n, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	if err := n.Flood(address(), 60, 1); err != nil {
		f.Fatal(err)
	}
	for _, document := range []string{
		"{chainIdentifier}", "{transactionBlocks(first:99999999999999999999){nodes{digest}}}", "{transactionBlocks(last:5,before:\"eyJjIjoxfQ\"){nodes{digest effects{status}}}}",
		"query($a:Int){transactionBlocks(first:$a){edges{cursor node{...F}}}} fragment F on TransactionBlock{digest kind{__typename}}", "{address(address:\"0x1\"){coins(first:1,after:\"e30\"){nodes{coinBalance}}}}",
		"{checkpoints(last:2,before:\"eyJjIjoxLCJzIjoxfQ\"){nodes{digest}}}", "{a:__typename __schema{types{name}}}", "mutation{executeTransactionBlock(txBytes:\"\",signatures:[\"\"]){errors}}",
		"{epoch(id:9007199254740993){epochId}}", "{dryRunTransactionBlock(txBytes:\"AAAA\"){error}}", "{transactionBlocks(filter:{transactionIds:[]}){nodes{digest}}}",
	} {
		body, _ := json.Marshal(map[string]any{"query": document, "variables": map[string]any{"a": 3}})
		f.Add(string(body))
	}
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"iotax_queryTransactionBlocks","params":[{"filter":{"Checkpoint":"1"}},null,3,true]}`, `{"jsonrpc":"2.0","id":1,"method":"iota_getCheckpoint","params":["1"]}`,
		`{"jsonrpc":"2.0","id":1,"method":"iotax_getCoins","params":["0x1","0x2::iota::IOTA",null,-1]}`, `[]`, `null`, `{"query":"{chainIdentifier}","variables":{"a":null}}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if p := recover(); p != nil {
					if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
						panic(p)
					}
				}
			}()
			n.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		}()
		if w.Code == http.StatusOK && !json.Valid(w.Body.Bytes()) {
			t.Errorf("got %q", w.Body)
		}
	})
}

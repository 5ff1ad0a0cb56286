package legacy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/checksum"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
)

// recording is one request to a real node, and its answer.
type recording struct {
	Request struct {
		Body json.RawMessage
	}
	Response struct {
		Status int
		JSON   json.RawMessage
		Text   *string
	}
}

func recorded(t *testing.T, set, name string) recording {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", set, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r recording) write(w http.ResponseWriter) {
	w.WriteHeader(r.Response.Status)
	if r.Response.Text != nil && len(r.Response.JSON) == 0 {
		fmt.Fprint(w, *r.Response.Text)
		return
	}
	w.Write(r.Response.JSON)
}

// recordedNode answers like the real node that a set was recorded from. What it
// says of single transactions it puts together from several recordings.
func recordedNode(t *testing.T, set string) http.Handler {
	t.Helper()
	byHash := func(name, field string) map[string]json.RawMessage {
		r := recorded(t, set, name)
		found := make(map[string]json.RawMessage)
		var asked struct{ Hashes, Transactions []string }
		var answer map[string]json.RawMessage
		var values []json.RawMessage
		if json.Unmarshal(r.Request.Body, &asked) != nil || json.Unmarshal(r.Response.JSON, &answer) != nil || r.Response.Status != 200 {
			return nil
		}
		if err := json.Unmarshal(answer[field], &values); err != nil {
			t.Fatal(err)
		}
		for i, h := range append(asked.Hashes, asked.Transactions...) {
			found[h] = values[i]
		}
		return found
	}
	trytes, states := byHash("getTrytes-order", "trytes"), byHash("getInclusionStates-mixed", "states")
	unknown, err := json.Marshal(strings.Repeat("9", 2673))
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var asked struct {
			Command                                  string
			Addresses, Bundles, Hashes, Transactions []string
		}
		if err != nil || json.Unmarshal(body, &asked) != nil {
			t.Errorf("got request %q, %v", body, err)
			return
		}
		answer := func(field string, of map[string]json.RawMessage, hashes []string, none json.RawMessage) {
			values := []json.RawMessage{}
			for _, h := range hashes {
				if v, ok := of[h]; ok {
					values = append(values, v)
				} else {
					values = append(values, none)
				}
			}
			json.NewEncoder(w).Encode(map[string]any{field: values, "duration": 0})
		}
		switch {
		case asked.Command == "getTrytes" && trytes != nil:
			answer("trytes", trytes, asked.Hashes, unknown)
		case asked.Command == "getInclusionStates" && states != nil:
			answer("states", states, asked.Transactions, json.RawMessage("false"))
		case asked.Command == "getInclusionStates":
			recorded(t, set, "getInclusionStates-mixed").write(w)
		case asked.Command == "findTransactions" && len(asked.Bundles) > 0:
			recorded(t, set, "findTransactions-bundle").write(w)
		case asked.Command == "findTransactions":
			recorded(t, set, "findTransactions-address81").write(w)
		case asked.Command == "wereAddressesSpentFrom": // recorded with three addresses, of which ours is the last
			r := recorded(t, set, "wereAddressesSpentFrom")
			r.Response.JSON = json.RawMessage(strings.Replace(string(r.Response.JSON), "true,false,false", "false", 1))
			r.Response.JSON = json.RawMessage(strings.Replace(string(r.Response.JSON), "true, false, false", "false", 1))
			r.write(w)
		default:
			recorded(t, set, asked.Command).write(w)
		}
	})
}

// TestRecorded reads what real nodes answered.
func TestRecorded(t *testing.T) {
	const deposit = "RCEEX9ONE9AQPFSWBTRPKDEBUJYFHLWZLF9ERKGXKDEVMOQUVHOIOCSOEHAEWQCZ99NPELQLXREZPJQNDQVHPRRMKY"
	for _, test := range []struct {
		set  string
		tail string // of the payment found; empty if there is none
		err  error
	}{
		{"hornet-0.5.6-synced", "XZTJESYLKBFRSCJFERQDEDEBPFDFCKTS9WCGDIAAXCRHULIQ9LIHOFSONVIZKLUEFTOAEUBUTVZLCM999", nil},
		{"hornet-0.5.6-coordinator-down", "XZTJESYLKBFRSCJFERQDEDEBPFDFCKTS9WCGDIAAXCRHULIQ9LIHOFSONVIZKLUEFTOAEUBUTVZLCM999", nil},
		{"hornet-0.5.10-synced", "LMNNXSBGALFGGKCDP9SNOPMHLGRITHJVEPO9NIAHUSCUTCCJUGM9JUHDLMCHGOXTQYQDD9LAMZWGCI999", nil},
		{"hornet-0.4.2-synced", "", nil}, // the payment was stuck on that one
		{"hornet-0.5.6-unsynced", "", ErrUnsynced},
		{"hornet-0.5.6-restarted-no-milestones", "", ErrUnsynced},
	} {
		t.Run(test.set, func(t *testing.T) {
			w := &world{t: t, node: serve(t, recordedNode(t, test.set))}
			l := w.read(Config{Nodes: []string{w.node.URL}, Addresses: []string{deposit}})
			got, complete, err := everything(t.Context(), l)
			if !errors.Is(err, test.err) || complete != (test.err == nil) {
				t.Errorf("got complete %t, %v, want %v", complete, err, test.err)
			}
			if err != nil && !strings.Contains(err.Error(), w.node.URL) {
				t.Errorf("got %q, want it to name the node", err)
			}
			switch {
			case test.tail == "" && len(got) != 0:
				t.Errorf("got %+v, want none", got)
			case test.tail != "" && (len(got) != 1 || got[0].ID != test.tail || got[0].Amount != 1000 || !json.Valid(got[0].Message) || got[0].Claimed.Year() != 2026):
				t.Errorf("got %+v, want a payment of 1000", got)
			case test.tail != "":
				t.Logf("message %s", got[0].Message)
			}
			if h := l.Health(); test.err == nil && (h[0].Position == 0 || !strings.HasPrefix(h[0].App, "HORNET")) {
				t.Errorf("Health: got %+v", h)
			}
		})
	}
}

// TestRecordedDiffs reads both spellings of getLedgerDiffExt.
func TestRecordedDiffs(t *testing.T) {
	for set, tail := range map[string]string{
		"hornet-0.5.6-synced":  "XZTJESYLKBFRSCJFERQDEDEBPFDFCKTS9WCGDIAAXCRHULIQ9LIHOFSONVIZKLUEFTOAEUBUTVZLCM999",
		"hornet-0.5.10-synced": "LMNNXSBGALFGGKCDP9SNOPMHLGRITHJVEPO9NIAHUSCUTCCJUGM9JUHDLMCHGOXTQYQDD9LAMZWGCI999",
	} {
		s := serve(t, recordedNode(t, set))
		n, err := newNode(s.URL, http.DefaultClient, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.ledgerDiff(t.Context(), 4, "RCEEX9ONE9AQPFSWBTRPKDEBUJYFHLWZLF9ERKGXKDEVMOQUVHOIOCSOEHAEWQCZ99NPELQLXREZPJQND")
		if err != nil || !slices.Equal(got, []string{tail}) {
			t.Errorf("%s: got %q, %v, want %s", set, got, err, tail)
		}
	}
}

// bad are answers that are none.
func bad(t *testing.T) map[string]func(w http.ResponseWriter) {
	text := func(status int, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(status); fmt.Fprint(w, body) }
	}
	all := map[string]func(w http.ResponseWriter){
		"html":            text(200, "<html><body>It works!</body></html>"),
		"html error":      text(502, "<html><body>Bad Gateway</body></html>"),
		"nothing":         text(200, ""),
		"null":            text(200, "null"),
		"object":          text(200, "{}"),
		"list":            text(200, "[]"),
		"string":          text(200, `"error"`),
		"error with 200":  text(200, `{"error":"command is unknown"}`),
		"half":            text(200, `{"hashes":["XZTJ`),
		"empty lists":     text(200, `{"hashes":[],"trytes":[],"states":[],"balances":[],"milestoneIndex":5}`),
		"null lists":      text(200, `{"hashes":null,"trytes":null,"states":null,"balances":null,"milestoneIndex":null}`),
		"wrong types":     text(200, `{"hashes":"x","trytes":{},"states":[1],"balances":[5],"milestoneIndex":"5"}`),
		"too many":        text(200, `{"trytes":["9","9","9"],"states":[true,true,true],"balances":["1","2","3"],"milestoneIndex":5}`),
		"nested":          text(200, strings.Repeat(`{"hashes":`, 20000)),
		"negative":        text(200, `{"balances":["-5"],"milestoneIndex":5}`),
		"more than there": text(200, `{"balances":["99999999999999999999"],"milestoneIndex":5}`),
		"no hash":         text(200, `{"hashes":["abc"],"balances":["x"],"milestoneIndex":5,"states":["x"],"trytes":["ABC"]}`),
		"other trytes":    text(200, `{"trytes":["`+strings.Repeat("A", 2673)+`"]}`),
		"unsynced":        text(400, `{"error":"node not synced"}`),
		"unsynced 0.5.10": text(503, `{"error":"Service Unavailable, error: node is not synchronized: : code=503, message=Service Unavailable"}`),
		"too large": func(w http.ResponseWriter) {
			block := []byte(`{"x":"` + strings.Repeat("x", 1<<20))
			for range 20 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		},
		"cut off": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(200)
			fmt.Fprint(w, `{"hashes":[]`)
		},
		"closed": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"slow":   func(http.ResponseWriter) { time.Sleep(400 * time.Millisecond) },
		"moved":  func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(301) },
	}
	for _, set := range []string{"hornet-0.4.2-synced", "hornet-0.5.6-synced", "hornet-0.5.10-synced"} {
		for _, name := range []string{"err-empty-body", "err-wrong-path", "err-command-not-a-string", "err-unknown-command", "err-malformed-json", "getBalances-90", "getTrytes-bad", "getInclusionStates-bad", "findTransactions-bad-address"} {
			if r := recorded(t, set, name); r.Response.Status != 200 {
				all[set+" "+name] = r.write
			}
		}
	}
	return all
}

// TestBadAnswers gives each bad answer to each command of a look that would find
// a payment. None makes up a payment, ends the process or goes unnoticed, and
// afterwards the payment is found.
func TestBadAnswers(t *testing.T) {
	w := newWorld(t)
	tail := w.pay(500, fromJohn)
	w.milestone()
	commands := []string{"getNodeInfo", "getBalances", "findTransactions", "getInclusionStates", "getTrytes"}
	for name, answer := range bad(t) {
		for _, command := range commands {
			l := w.read(Config{Nodes: []string{w.node.URL}, Addresses: []string{w.jane}, Timeout: 200 * time.Millisecond})
			var hit atomic.Bool
			w.node.setFault(func(c string, _ []byte, a http.ResponseWriter) bool {
				if c != command {
					return false
				}
				hit.Store(true)
				answer(a)
				return true
			})
			got, complete, err := everything(t.Context(), l)
			w.node.setFault(nil)
			if name == "empty lists" && command == "findTransactions" { // that is how a node says that there is nothing
				continue
			}
			if !hit.Load() || len(got) != 0 || complete || err == nil || !strings.Contains(err.Error(), w.node.URL) || !strings.Contains(err.Error(), command) {
				t.Errorf("%s to %s: got %v, complete %t, %v, want an error that names node and command", name, command, got, complete, err)
			}
			if strings.HasPrefix(name, "unsynced") && !errors.Is(err, ErrUnsynced) {
				t.Errorf("%s to %s: got %v, want %v", name, command, err, ErrUnsynced)
			}
			if h := l.Health()[0]; h.Err == nil || h.Since.IsZero() {
				t.Errorf("%s to %s: Health: got %+v", name, command, h)
			}
			if command != commands[len(name)%len(commands)] { // once for each is enough
				continue
			}
			l.nodes[0].until = time.Time{}
			if got, _, err := confirmed(l, t.Context()); err != nil || len(got) != 1 || got[0].ID != tail {
				t.Errorf("after %s to %s: got %v, %v, want the payment", name, command, got, err)
			}
		}
	}
}

// TestLies: a node's word is not taken where we can tell for ourselves.
func TestLies(t *testing.T) {
	w := newWorld(t)
	tail := w.pay(500, fromJohn)
	w.milestone()
	for name, lie := range map[string]func(trytes []string){
		"another message":                      func(trytes []string) { trytes[0] = "ODGA" + trytes[0][4:] },
		"another value":                        func(trytes []string) { trytes[0] = trytes[0][:2268] + "ZZZ" + trytes[0][2271:] },
		"another transaction":                  func(trytes []string) { trytes[0] = strings.Repeat("A", 2267) + trytes[0][2267:] },
		"not trytes":                           func(trytes []string) { trytes[0] = "ä" + trytes[0][2:] },
		"too short":                            func(trytes []string) { trytes[0] = trytes[0][:2672] },
		"too long":                             func(trytes []string) { trytes[0] += "9" },
		"trits in the value that must be zero": func(trytes []string) { trytes[0] = trytes[0][:2285] + "A" + trytes[0][2286:] },
	} {
		l := w.read(Config{Nodes: []string{w.node.URL}, Addresses: []string{w.jane}})
		w.node.setFault(func(c string, body []byte, a http.ResponseWriter) bool {
			if c != "getTrytes" {
				return false
			}
			r, err := http.NewRequest("POST", "/", strings.NewReader(string(body)))
			if err != nil {
				t.Error(err)
			}
			rec := &recorder{header: make(http.Header)}
			w.net.ServeHTTP(rec, r)
			var answer struct {
				Trytes []string `json:"trytes"`
			}
			if err := json.Unmarshal(rec.body, &answer); err != nil {
				t.Error(err)
			}
			lie(answer.Trytes)
			json.NewEncoder(a).Encode(answer)
			return true
		})
		got, _, err := confirmed(l, t.Context())
		w.node.setFault(nil)
		if len(got) != 0 || !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, ErrAnswer)
		}
	}
	// All nines: the node does not have it. That is no error, but not all there is.
	l := w.read(Config{Nodes: []string{w.node.URL}, Addresses: []string{w.jane}})
	w.node.setFault(func(c string, body []byte, a http.ResponseWriter) bool {
		var asked struct{ Hashes []string }
		if json.Unmarshal(body, &asked) != nil || c != "getTrytes" {
			return false
		}
		var nines []string
		for range asked.Hashes {
			nines = append(nines, strings.Repeat("9", 2673))
		}
		json.NewEncoder(a).Encode(map[string]any{"trytes": nines})
		return true
	})
	if got, complete, err := everything(t.Context(), l); err != nil || len(got) != 0 || l.deposits[0].based || complete {
		t.Errorf("all nines: got %v, %t, %v", got, complete, err)
	}
	w.node.setFault(nil)
	l.lookAt = time.Time{}
	if got, _, err := confirmed(l, t.Context()); err != nil || len(got) != 1 || got[0].ID != tail {
		t.Errorf("once it has it: got %v, %v", got, err)
	}
}

type recorder struct {
	header http.Header
	body   []byte
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { r.body = append(r.body, p...); return len(p), nil }
func (r *recorder) WriteHeader(int)             {}

// TestSeveralNodes: the first that works is asked, and each is known by itself.
func TestSeveralNodes(t *testing.T) {
	w := newWorld(t)
	a, b := w.net.Peer(), w.net.Peer()
	first, second := serve(t, a), serve(t, b)
	l := w.read(Config{Nodes: []string{first.URL, second.URL}, Addresses: []string{w.jane}})
	w.ledger = l
	w.confirmed()
	w.confirmed()
	second.asked()
	w.confirmed()
	if asked := second.asked(); len(asked) != 0 {
		t.Errorf("the second node was asked %q while the first works", asked)
	}

	// Unsynced: the second is asked within the same call.
	a.Lag(true)
	tail := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("first node lags: got %v", got)
	}
	if h := l.Health(); !errors.Is(h[0].Err, ErrUnsynced) || h[1].Err != nil || h[0].Behind != 1 {
		t.Errorf("first node lags: Health: got %+v", h)
	}
	a.Lag(false)
	w.milestone()
	l.nodes[0].until = time.Time{}
	w.sweep()
	if h := l.Health(); h[0].Err != nil || !w.logged("node can be used again") {
		t.Errorf("first node is back: Health: got %+v", h)
	}

	// Blank, and down.
	a.Blank(true)
	first.asked()
	tail = w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("first node is blank: got %v", got)
	}
	first.Close()
	tail = w.pay(500, fromJohn)
	w.milestone()
	l.nodes[0].until = time.Time{}
	if got := w.sweep(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("first node is down: got %v", got)
	}
	second.Close()
	if _, _, err := confirmed(l, t.Context()); err == nil || !strings.Contains(err.Error(), second.URL) {
		t.Errorf("both down: got %v", err)
	}
	if _, _, err := confirmed(l, t.Context()); err == nil || !strings.Contains(err.Error(), first.URL) || !strings.Contains(err.Error(), second.URL) {
		t.Errorf("both down, asked again: got %v, want both named", err)
	}
}

// TestFrozenNode: an isolated node goes on saying that all is well.
func TestFrozenNode(t *testing.T) {
	w := newWorld(t)
	a := w.net.Peer()
	first := serve(t, a)
	l := w.read(Config{Nodes: []string{first.URL, w.node.URL}, Addresses: []string{w.jane}})
	w.ledger = l
	w.confirmed()
	a.Isolate(true)
	tail := w.pay(500, fromJohn)
	for range 5 {
		w.milestone()
	}
	if got := w.confirmed(); len(got) != 0 {
		t.Fatalf("asked the isolated node: got %v", got)
	}
	// The sweep hears from the other that there are five more milestones.
	if got := w.sweep(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("after the sweep: got %v, want the payment from the second node", got)
	}
	if h := l.Health(); h[0].Behind != 5 || h[0].Err != nil {
		t.Errorf("Health: got %+v", h)
	}
	// Alone and frozen for long, it is still asked, and the seller is told.
	l = w.read(Config{Nodes: []string{first.URL}, Addresses: []string{w.jane}})
	w.ledger = l
	w.confirmed()
	l.nodes[0].indexAt = time.Now().Add(-frozenAfter - time.Second)
	w.confirmed()
	if h := l.Health(); !h[0].Frozen || !w.logged("node stands still") {
		t.Errorf("Health: got %+v, want it frozen, and a line in the log", h)
	}
}

func TestOtherNetwork(t *testing.T) {
	w := newWorld(t)
	other, err := devlegacy.New(devlegacy.Config{Genesis: bank(), Coordinator: strings.Repeat("OTHER9NET", 9)})
	if err != nil {
		t.Fatal(err)
	}
	second := serve(t, other)
	l := w.read(Config{Nodes: []string{w.node.URL, second.URL}, Addresses: []string{w.jane}})
	if _, _, err := confirmed(l, t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := l.Health(); h[0].Err != nil || !errors.Is(h[1].Err, ErrNetwork) {
		t.Errorf("Health: got %+v, want the second node on another network", h)
	}
	second.asked()
	for range 3 {
		if _, _, err := confirmed(l, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.node.Close()
	if _, _, err := confirmed(l, t.Context()); err == nil {
		t.Error("with the first node down, the one on another network was taken")
	}
	if asked := second.asked(); slices.Contains(asked, "getBalances") {
		t.Errorf("the node on another network was asked %q", asked)
	}
}

// TestAgree: what only one node calls confirmed waits.
func TestAgree(t *testing.T) {
	w := newWorld(t)
	a := w.net.Peer()
	first, second := serve(t, w.net), serve(t, a)
	l := w.read(Config{Nodes: []string{first.URL, second.URL}, Addresses: []string{w.jane}, Agree: 2})
	w.ledger = l
	w.confirmed()
	w.confirmed()
	a.Isolate(true)
	tail := w.pay(500, fromJohn)
	w.milestone()
	for range 3 {
		w.settledNow()
		if got := w.confirmed(); len(got) != 0 {
			t.Fatalf("with one node's word: got %v", got)
		}
	}
	a.Isolate(false)
	w.settledNow()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("with both: got %v", got)
	}
	second.Close()
	w.pay(500, fromJohn)
	w.milestone()
	for range 2 {
		w.settledNow()
		if got := w.confirmed(); len(got) != 0 {
			t.Errorf("with the second node down: got %v", got)
		}
		l.deposits[0].apart = time.Now().Add(-time.Minute)
	}
	if !w.logged("wait until enough nodes") {
		t.Error("the seller was not told")
	}
	if h := l.Health(); h[1].Err == nil {
		t.Errorf("Health: got %+v", h)
	}
}

// TestAgreeOnHistory: if a node has forgotten what another still has, both never
// agree on it, and the seller is told.
func TestAgreeOnHistory(t *testing.T) {
	w := newWorld(t)
	w.pay(500, fromJohn)
	w.milestone()
	w.milestone()
	pruned := w.net.Peer()
	pruned.Prune(w.net.Index())
	w.ledger = w.read(Config{Nodes: []string{w.node.URL, serve(t, pruned).URL}, Addresses: []string{w.jane}, Agree: 2})
	for range 2 {
		if got, complete, err := everything(t.Context(), w.ledger); err != nil || complete || len(got) != 0 {
			t.Errorf("got %v, complete %t, %v, want nothing, and not complete", got, complete, err)
		}
		w.settledNow()
		w.ledger.deposits[0].apart = time.Now().Add(-time.Minute)
	}
	if !w.logged("wait until enough nodes") {
		t.Error("the seller was not told")
	}
}

// TestAgreeTwoOfThree: any two of three are enough, whichever the third is.
func TestAgreeTwoOfThree(t *testing.T) {
	for out := range 2 { // the one that is asked second, or third, does not know
		w := newWorld(t)
		peers := []*devlegacy.Node{w.net.Peer(), w.net.Peer()}
		l := w.read(Config{Nodes: []string{w.node.URL, serve(t, peers[0]).URL, serve(t, peers[1]).URL}, Addresses: []string{w.jane}, Agree: 2})
		w.ledger = l
		w.confirmed()
		peers[out].Isolate(true)
		tail := w.pay(500, fromJohn)
		w.milestone()
		if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
			t.Errorf("without peer %d: got %v, want the payment, on which two of three agree", out, got)
		}
		// With both away, one is not enough.
		peers[1-out].Isolate(true)
		w.pay(500, fromJohn)
		w.milestone()
		if got := w.confirmed(); len(got) != 0 {
			t.Errorf("without both: got %v", got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Nodes: []string{"http://127.0.0.1:14265"}, Addresses: []string{addressOf(t, janeSeed, 0)}}
	address := good.Addresses[0]
	slip := "A" + address[1:]
	if address[0] == 'A' {
		slip = "B" + address[1:]
	}
	// Its last trit is not zero. The checksum is that of the same with a zero.
	odd, err := checksum.AddChecksum(strings.Repeat("A", 80)+"D", true, 9)
	if err != nil {
		t.Fatal(err)
	}
	odd = odd[:80] + "M" + odd[81:]
	for _, test := range []struct {
		make func(*Config)
		want string
	}{
		{func(c *Config) { c.Nodes = nil }, "nodes: required"},
		{func(c *Config) { c.Nodes = []string{"127.0.0.1:14265"} }, "want a URL"},
		{func(c *Config) { c.Nodes = []string{"ftp://host"} }, "want a URL"},
		{func(c *Config) { c.Nodes = []string{"http://"} }, "want a URL"},
		{func(c *Config) { c.Nodes = []string{"http://a", "http://a"} }, "duplicates nodes[0]"},
		{func(c *Config) { c.Nodes = []string{"http://a", "http://a/"} }, "duplicates nodes[0]"},
		{func(c *Config) { c.Addresses = nil }, "addresses are missing"},
		{func(c *Config) { c.Addresses = []string{address[:81]} }, "has no checksum"},
		{func(c *Config) { c.Addresses = []string{slip} }, "checksum"},
		{func(c *Config) { c.Addresses = []string{odd} }, "checksum"}, // nobody can spend from it
		{func(c *Config) { c.Addresses = []string{strings.ToLower(address)} }, "other characters"},
		{func(c *Config) { c.Addresses = []string{address[:89]} }, "89 characters"},
		{func(c *Config) { c.Addresses = []string{address[:89] + "é"} }, "91 characters"},
		{func(c *Config) { c.Addresses = []string{""} }, "0 characters"},
		{func(c *Config) { c.Addresses = []string{address, address} }, "given twice"},
		{func(c *Config) { c.Agree = 2 }, "agree: 2"},
		{func(c *Config) { c.Agree = -1 }, "agree: -1"},
		{func(c *Config) { c.Timeout = -1 }, "timeout"},
	} {
		c := good
		c.Log = new(world).quiet()
		test.make(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want an error with %q", err, test.want)
		}
	}
	if _, err := New(good); err == nil {
		t.Error("without a log: got no error")
	}
}

// TestSecrets: a password in a node's URL shows nowhere.
func TestSecrets(t *testing.T) {
	w := newWorld(t)
	url := strings.Replace(w.node.URL, "http://", "http://jane:sesame@", 1)
	l := w.read(Config{Nodes: []string{url}, Addresses: []string{w.jane}})
	w.node.Close()
	_, _, err := confirmed(l, t.Context())
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got error %v", err)
	}
	for _, e := range w.log.AllEntries() {
		if line, _ := e.String(); strings.Contains(line, "sesame") {
			t.Errorf("logged %s", line)
		}
	}
	if h := l.Health()[0]; strings.Contains(h.Node+fmt.Sprint(h.Err), "sesame") {
		t.Errorf("Health: got %+v", h)
	}
	for _, bad := range []string{"http://jane:sesame@", "jane:sesame@host", "http://jane:sesame@ho st/"} {
		if _, err := New(Config{Nodes: []string{bad}, Addresses: []string{w.jane}, Log: w.quiet()}); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("New(%q): got %v", bad, err)
		}
	}
}

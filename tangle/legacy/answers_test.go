package legacy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// bad returns answers that a sound node would not give.
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

// TestBadAnswers gives each bad answer to each command of a scan that would find a
// payment. None makes up a payment, ends the process or goes unnoticed, and
// afterwards the payment is found.
func TestBadAnswers(t *testing.T) {
	w := newWorld(t)
	tail := w.pay(500, fromJohn)
	w.milestone()
	commands := []string{"getNodeInfo", "getBalances", "findTransactions", "getInclusionStates", "getTrytes"}
	for name, answer := range bad(t) {
		for _, command := range commands {
			cfg := Config{Nodes: []string{w.node.URL}, Addresses: []string{w.jane}}
			if name == "slow" {
				cfg.Timeout = 200 * time.Millisecond
			}
			l := w.read(cfg)
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
			if name == "slow" || command != commands[len(name)%len(commands)] { // once for each is enough
				continue
			}
			l.nodes[0].backOff = time.Time{}
			if got, _, err := confirmed(l, t.Context()); err != nil || len(got) != 1 || got[0].ID != tail {
				t.Errorf("after %s to %s: got %v, %v, want the payment", name, command, got, err)
			}
		}
	}
}

// TestLies: transactions are checked against their hashes.
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
	// All nines: the node does not have it. That is no error, but not complete.
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
	if got, complete, err := everything(t.Context(), l); err != nil || len(got) != 0 || l.deposits[0].reckoned || complete {
		t.Errorf("all nines: got %v, %t, %v", got, complete, err)
	}
	w.node.setFault(nil)
	l.retryAt = time.Time{}
	if got, _, err := confirmed(l, t.Context()); err != nil || len(got) != 1 || got[0].ID != tail {
		t.Errorf("once it has it: got %v, %v", got, err)
	}
}

type recorder struct {
	header http.Header
	body   []byte
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) Write(p []byte) (int, error) { r.body = append(r.body, p...); return len(p), nil }

func (r *recorder) WriteHeader(int) {}

package legacy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/trinary"
)

func info(t *testing.T, n *Node) map[string]any {
	t.Helper()
	_, out := ask(t, n, map[string]any{"command": "getNodeInfo"})
	return out
}

func balance(t *testing.T, n *Node) string {
	t.Helper()
	status, out := ask(t, n, map[string]any{"command": "getBalances", "addresses": []string{addressOf(t, sellerSeed, 0)[:81]}})
	if status != 200 {
		return out["error"].(string)
	}
	return out["balances"].([]any)[0].(string)
}

// While the coordinator is stopped, nothing is confirmed, and the API does not say so.
func TestStall(t *testing.T) {
	n, _ := start(t, Config{Milestone: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n.Stall(true)
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	tail := send(t, n, pay(t, 1000000))
	time.Sleep(50 * time.Millisecond)
	if n.Index() != 1 || n.Included(tail) || info(t, n)["isSynced"] != true {
		t.Errorf("stalled: index %d, included %v, synced %v", n.Index(), n.Included(tail), info(t, n)["isSynced"])
	}
	n.Stall(false)
	for deadline := time.Now().Add(5 * time.Second); !n.Included(tail); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not confirmed within 5 s of the coordinator's return")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The health check fails once the newest milestone is old, as it is the only
// sign of a stopped coordinator.
func TestMilestoneAge(t *testing.T) {
	now := time.Now()
	n, _ := start(t, Config{Now: func() time.Time { return now }})
	for _, c := range []struct {
		after  time.Duration
		status int
	}{{0, 200}, {4 * time.Minute, 200}, {2 * time.Minute, 503}} {
		now = now.Add(c.after)
		w := httptest.NewRecorder()
		n.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != c.status {
			t.Errorf("health after a further %s: got %d, want %d", c.after, w.Code, c.status)
		}
	}
	if got := info(t, n)["isSynced"]; got != true {
		t.Errorf("synced: got %v, want true", got)
	}
}

// An isolated node receives and sends nothing, and calls itself synced. A payment sent
// to it is lost until somebody sends it again.
func TestIsolate(t *testing.T) {
	n, _ := start(t, Config{})
	other := n.Peer()
	before := send(t, n, pay(t, 1000))
	milestones(t, n, 1)
	other.Isolate(true)
	during := replay(t, n, before)
	attached, err := other.Attach(pay(t, 200))
	if err != nil {
		t.Fatal(err)
	}
	alone, err := other.Submit(attached)
	if err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 3)
	outcomes(t, n, []trinary.Hash{before, during, alone}, "confirmed", "confirmed", "unknown tail transaction")
	outcomes(t, other, []trinary.Hash{before, during, alone}, "confirmed", "unknown tail transaction", "")
	if got := info(t, other); got["isSynced"] != true || got["latestMilestoneIndex"] != 2.0 || got["isHealthy"] != false {
		t.Errorf("isolated: got %v", got)
	}
	if balance(t, n) != "2000" || balance(t, other) != "1000" {
		t.Errorf("balances: got %s and %s, want 2000 and 1000", balance(t, n), balance(t, other))
	}
	other.Isolate(false)
	milestones(t, n, 1)
	if balance(t, other) != "2000" {
		t.Errorf("balance once connected: got %s", balance(t, other))
	}
	if got := tip(t, other, alone); got != "shouldPromote" {
		t.Errorf("the payment that stayed behind: got %q, want shouldPromote", got)
	}
	milestones(t, n, 15)
	if got := tip(t, other, alone); got != "shouldReattach" {
		t.Errorf("the payment that stayed behind for long: got %q, want shouldReattach", got)
	}
	if _, err := other.Submit(attached); err != nil { // sent again
		t.Fatal(err)
	}
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{alone}, "confirmed")
	seller(t, n, 2200)
}

// A lagging node hears of milestones, says that it cannot follow, and refuses to
// speak of the ledger.
func TestLag(t *testing.T) {
	n, _ := start(t, Config{})
	other := n.Peer()
	other.Lag(true)
	tail := send(t, n, pay(t, 1000))
	milestones(t, n, 2)
	got := info(t, other)
	if got["isSynced"] != false || got["latestMilestoneIndex"] != 3.0 || got["latestSolidSubtangleMilestoneIndex"] != 1.0 {
		t.Errorf("lagging: got %v", got)
	}
	if got := balance(t, other); got != "node not synced" {
		t.Errorf("balance: got %s", got)
	}
	if got := find(t, other, map[string]any{"addresses": []string{addressOf(t, sellerSeed, 0)}}); len(got) != 1 {
		t.Errorf("found %d transactions, want 1", len(got))
	}
	other.Lag(false)
	outcomes(t, other, []trinary.Hash{tail}, "confirmed")
}

// A restarted node has everything, but answers nothing of the ledger before the
// next milestone.
func TestRestart(t *testing.T) {
	n, _ := start(t, Config{})
	tail := send(t, n, pay(t, 1000))
	milestones(t, n, 1)
	n.Restart()
	if status, out := ask(t, n, map[string]any{"command": "getInclusionStates", "transactions": []string{tail}}); status != 400 {
		t.Errorf("inclusion: got %d %v, want 400", status, out)
	}
	if info(t, n)["isSynced"] != false {
		t.Error("synced right after the restart")
	}
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{tail}, "confirmed")
}

// Of a pruned payment only the balance is left.
func TestPrune(t *testing.T) {
	n, _ := start(t, Config{})
	old := send(t, n, pay(t, 1000))
	milestones(t, n, 1)
	young := replay(t, n, old)
	milestones(t, n, 1)
	n.Prune(3)
	_, out := ask(t, n, map[string]any{"command": "getInclusionStates", "transactions": []string{old, young}})
	if got := out["states"].([]any); got[0] != false || got[1] != true {
		t.Errorf("inclusion: got %v, want false and true", got)
	}
	if got := find(t, n, map[string]any{"addresses": []string{addressOf(t, sellerSeed, 0)}}); !slices.Equal(got, []string{young}) {
		t.Errorf("found: got %v, want only the young one", got)
	}
	_, out = ask(t, n, map[string]any{"command": "getTrytes", "hashes": []string{old}})
	if got := out["trytes"].([]any)[0]; got != unknownTrytes {
		t.Errorf("trytes of the pruned transaction: got %.30s…", got)
	}
	if balance(t, n) != "2000" || info(t, n)["milestoneStartIndex"] != 3.0 {
		t.Errorf("got balance %s, start %v; want 2000 and 3", balance(t, n), info(t, n)["milestoneStartIndex"])
	}
	if other := n.Peer(); tip(t, other, old) != "confirmed" {
		t.Error("another node forgot too")
	}
}

// As IRI 1.8.5, the node refuses requests that lack parameters, and confirms nothing
// without the milestone as a tip.
func TestIRI(t *testing.T) {
	n, _ := start(t, Config{})
	tail := send(t, n, pay(t, 1000))
	milestones(t, n, 1)
	solid := info(t, n)["latestSolidSubtangleMilestone"].(string)
	milestones(t, n, 1)
	late := replay(t, n, tail)
	milestones(t, n, 1)
	n.IRI(true)
	seller := addressOf(t, sellerSeed, 0)[:81]
	for _, c := range []struct {
		request map[string]any
		status  int
		want    string
	}{
		{map[string]any{"command": "getBalances", "addresses": []string{seller}}, 500, `"exception":"Invalid parameters"`},
		{map[string]any{"command": "getBalances", "addresses": []string{seller}, "threshold": 100}, 200, `"balances":["2000"]`},
		{map[string]any{"command": "getInclusionStates", "transactions": []string{tail}}, 500, `"exception":"Invalid parameters"`},
		{map[string]any{"command": "getInclusionStates", "transactions": []string{tail}, "tips": []string{}}, 200, `"states":[false]`},
		{map[string]any{"command": "getInclusionStates", "transactions": []string{tail, late}, "tips": []string{solid}}, 200, `"states":[true,false]`},
		{map[string]any{"command": "getInclusionStates", "transactions": []string{tail}, "tips": []string{strings.Repeat("A", 81)}}, 400, "tips is absent"},
		{map[string]any{"command": "getTipInfo", "tailTransaction": tail}, 400, "is unknown"},
		{map[string]any{"command": "getNodeInfo"}, 200, `"appName":"IRI"`},
		{map[string]any{"command": "findTransactions", "addresses": []string{seller}, "valueOnly": true}, 200, tail},
	} {
		body, err := json.Marshal(c.request)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header.Set("X-IOTA-API-Version", "1")
		w := httptest.NewRecorder()
		n.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), "isSynced") {
			t.Errorf("%s: got %d %s, want %d and %s", body, w.Code, w.Body, c.status, c.want)
		}
	}
	if status, out := ask(t, n, map[string]any{"command": "getNodeInfo"}); status != 400 {
		t.Errorf("without the version's header: got %d %v", status, out)
	}
}

// After an unclean restart what was confirmed since is unknown. It can come
// again, and be decided otherwise.
func TestCrash(t *testing.T) {
	n, _ := start(t, Config{})
	early := send(t, n, pay(t, 1000))
	milestones(t, n, 1)
	attached, err := n.Attach(pay(t, 999000))
	if err != nil {
		t.Fatal(err)
	}
	late, err := n.Submit(attached)
	if err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 2)
	outcomes(t, n, []trinary.Hash{early, late}, "confirmed", "confirmed")
	was := n.Index()
	if err := n.Crash(2); err != nil {
		t.Fatal(err)
	}
	if n.Index() != was-2 || info(t, n)["isSynced"] != false {
		t.Errorf("after the crash: index %d, synced %v", n.Index(), info(t, n)["isSynced"])
	}
	seller(t, n, 1000)
	twin := send(t, n, sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 1), Value: 999000}}}))
	if again, err := n.Submit(attached); err != nil || again != late {
		t.Fatalf("submit again: %v, %v", again, err)
	}
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{early, twin, late}, "confirmed", "confirmed", "conflicting")
	seller(t, n, 1000)

	// A bundle that loses only its end is incomplete again.
	split, err := n.Attach(sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 0)}, {Address: addressOf(t, sellerSeed, 1)}}}))
	if err != nil {
		t.Fatal(err)
	}
	tail, err := n.Submit(split[:1])
	if err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 1)
	if _, err := n.Submit(split[1:]); err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{tail}, "confirmed")
	if err := n.Crash(1); err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 2)
	if got := tip(t, n, tail); got != "transaction is not solid" {
		t.Errorf("the bundle without its end: got %q", got)
	}
	if _, err := n.Submit(split[1:]); err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{tail}, "confirmed")

	if err := n.Crash(n.Index()); err == nil {
		t.Error("roll back all milestones: got no error")
	}
	if err := n.Crash(-1); err == nil {
		t.Error("roll back -1 milestones: got no error")
	}
}

// A rollback also moves nodes that had stopped at a milestone after it.
func TestCrashWithPeers(t *testing.T) {
	n, _ := start(t, Config{})
	milestones(t, n, 5)
	isolated, lagging := n.Peer(), n.Peer()
	isolated.Isolate(true)
	lagging.Lag(true)
	if err := n.Crash(3); err != nil {
		t.Fatal(err)
	}
	for _, other := range []*Node{isolated, lagging} {
		if got := info(t, other)["latestSolidSubtangleMilestoneIndex"]; got != 3.0 {
			t.Errorf("solid milestone: got %v, want 3", got)
		}
	}
	if got := balance(t, isolated); got != "0" {
		t.Errorf("balance: got %s, want 0", got)
	}
}

// The API accepts junk like other transactions, and confirms the kind that it should.
func TestFlood(t *testing.T) {
	n, a := start(t, Config{MWM: 2})
	to := addressOf(t, sellerSeed, 0)
	began := time.Now()
	if err := n.Flood(to, 1200, ZeroValue); err != nil {
		t.Fatal(err)
	}
	if err := n.Flood(to, 1201, Unconfirmable); err != nil {
		t.Fatal(err)
	}
	t.Logf("2401 transactions in %s", time.Since(began))
	if got := len(n.tangle.byAddress[to[:81]].txs); got != 2401 {
		t.Fatalf("stored %d transactions, want 2401", got)
	}
	// The API takes them as it does any others.
	for _, x := range []*tx{n.tangle.byAddress[to[:81]].txs[17], n.tangle.byAddress[to[:81]].txs[2400]} {
		parsed, err := n.tangle.parse(x.trytes)
		if err != nil || parsed.hash != x.hash {
			t.Errorf("junk: got %v, %v, want the hash %s", parsed, err, x.hash)
		}
	}
	real := send(t, n, pay(t, 500))
	milestones(t, n, 2)
	outcomes(t, n, []trinary.Hash{real}, "confirmed")
	seller(t, n, 500)
	zero := find(t, n, map[string]any{"addresses": []string{to}})
	states, err := a.GetInclusionStates(zero)
	if err != nil || len(states) != 1000 || slices.Contains(states, false) {
		t.Errorf("inclusion of the zero-value transactions: got %d, %v", len(states), err)
	}
	if _, err := a.GetBundle(zero[0]); err != nil {
		t.Errorf("bundle of a zero-value transaction: %v", err)
	}
	value := find(t, n, map[string]any{"addresses": []string{to}, "valueOnly": true})
	states, err = a.GetInclusionStates(value)
	if err != nil || len(states) != 1000 {
		t.Errorf("inclusion of the others: got %d, %v", len(states), err)
	}
	for i, included := range states {
		if included != (value[i] == real) {
			t.Errorf("%s: included %v", value[i], included)
		}
	}
	for _, bad := range []error{n.Flood("ABC", 1, ZeroValue), n.Flood(to, 1, "mud")} {
		if bad == nil {
			t.Error("bad flood: got no error")
		}
	}
}

// Each fault applies to its command only.
func TestBreak(t *testing.T) {
	n, a := start(t, Config{})
	tail := send(t, n, pay(t, 500))
	server := httptest.NewServer(n)
	defer server.Close()
	post := func(command string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, "POST", server.URL, strings.NewReader(
			`{"command":"`+command+`","hashes":["`+tail+`"],"transactions":["`+tail+`","`+tail+`"]}`))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<24))
		return response.Status[:3] + " " + response.Header.Get("Content-Type") + " " + string(body), err
	}
	for _, c := range []struct {
		fault         Fault
		command, want string
	}{
		{HTML, "getTrytes", "502 text/html <!DOCTYPE"},
		{HTML200, "getTrytes", "200 text/html <!DOCTYPE"},
		{EmptyObject, "getTrytes", "200 application/json; charset=utf-8 {}"},
		{EmptyBody, "getTrytes", "200 application/json; charset=utf-8 "},
		{EmptyLists, "getTrytes", `"trytes":[]`},
		{EmptyLists, "getInclusionStates", `"states":[]`},
		{NullLists, "getInclusionStates", `"states":null`},
		{ShortLists, "getInclusionStates", `"states":[false]`},
		{LongLists, "getInclusionStates", `"states":[false,false,false]`},
		{AllTrue, "getInclusionStates", `"states":[true,true]`},
		{WrongTypes, "getInclusionStates", `"states":[{"is":false},{"is":false}]`},
		{Nines, "getTrytes", `"trytes":["` + unknownTrytes + `"]`},
		{Forged, "getTrytes", trytesOf(t, `{"username": "john"}`)},
		{Error200, "getTrytes", `200 application/json; charset=utf-8 {"error":"internal error"}`},
		{Error400, "getTrytes", `400 application/json; charset=utf-8 {"error":"node not synced"}`},
		{Error403, "getTrytes", `{"error":{"code":"403","message":"Forbidden"}}`},
		{Error500, "getTrytes", "500  "},
		{Error503, "getTrytes", "503 "},
	} {
		if err := n.Break(c.command, c.fault); err != nil {
			t.Fatal(err)
		}
		if got, err := post(c.command); err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s of %s: got %.200q, %v; want %q", c.fault, c.command, got, err, c.want)
		}
		if got, err := post("getNodeInfo"); err != nil || !strings.Contains(got, `"appName":"HORNET"`) {
			t.Errorf("%s of %s: another command answers %.100q, %v", c.fault, c.command, got, err)
		}
		if err := n.Break(c.command, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, fault := range []Fault{Truncated, Reset, Hang} {
		if err := n.Break("", fault); err != nil {
			t.Fatal(err)
		}
		if got, err := post("getTrytes"); err == nil {
			t.Errorf("%s: got %.100q, want an error", fault, got)
		}
	}
	if err := n.Break("", Endless); err != nil {
		t.Fatal(err)
	}
	if got, _ := post("getTrytes"); len(got) < 1<<20 {
		t.Errorf("%s: got only %d bytes", Endless, len(got))
	}
	if err := n.Break("", ""); err != nil {
		t.Fatal(err)
	}
	want(t, a, tail, false)

	// Forged trytes parse, but hash to something else.
	if err := n.Break("getTrytes", Forged); err != nil {
		t.Fatal(err)
	}
	forged, err := a.GetTrytes(tail)
	if err != nil {
		t.Fatal(err)
	}
	x, err := read(forged[0])
	if err != nil || x.value <= 500 {
		t.Errorf("forged: got a value of %v, %v; want more than 500", x, err)
	}
	if _, err := n.tangle.parse(forged[0]); err == nil && x.hash == tail {
		t.Error("forged: the hash is right")
	}
	for _, bad := range []error{n.Break("noSuchCommand", HTML), n.Break("", "mud")} {
		if bad == nil {
			t.Error("bad break: got no error")
		}
	}
	if len(Faults()) < 20 {
		t.Errorf("faults: got %d", len(Faults()))
	}
}

func TestLatency(t *testing.T) {
	n, a := start(t, Config{})
	n.Latency(50 * time.Millisecond)
	began := time.Now()
	if _, err := a.GetNodeInfo(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("got an answer after %s", took)
	}
}

// The control endpoint obeys commands from this machine and refuses bad ones.
func TestControl(t *testing.T) {
	n, _ := start(t, Config{})
	tail := send(t, n, pay(t, 400))
	server := httptest.NewServer(n.Control())
	defer server.Close()
	for _, c := range []struct {
		path   string
		values url.Values
		status int
		check  func() bool
	}{
		{"/milestone", nil, 200, func() bool { return n.Included(tail) }},
		{"/stall", url.Values{"on": {"true"}}, 200, func() bool { return n.tangle.isStalled() }},
		{"/stall", url.Values{"on": {"maybe"}}, 400, nil},
		{"/isolate", url.Values{"on": {"true"}}, 200, func() bool { return n.isolated != nil }},
		{"/isolate", url.Values{"on": {"false"}}, 200, func() bool { return n.isolated == nil }},
		{"/lag", url.Values{"on": {"true"}}, 200, func() bool { return info(t, n)["isSynced"] == false }},
		{"/lag", url.Values{"on": {"false"}}, 200, func() bool { return info(t, n)["isSynced"] == true }},
		{"/blank", url.Values{"on": {"true"}}, 200, func() bool { return info(t, n)["latestMilestoneIndex"] == 0.0 }},
		{"/blank", url.Values{"on": {"false"}}, 200, nil},
		{"/iri", url.Values{"on": {"true"}}, 200, func() bool { return n.iri }},
		{"/iri", url.Values{"on": {"false"}}, 200, func() bool { return !n.iri }},
		{"/restart", nil, 200, func() bool { return info(t, n)["isSynced"] == false }},
		{"/milestone", nil, 200, func() bool { return info(t, n)["isSynced"] == true }},
		{"/replay", url.Values{"tail": {tail}}, 200, nil},
		{"/replay", url.Values{"tail": {"ABC"}}, 400, nil},
		{"/impersonate", url.Values{"tail": {tail}, "message": {"me"}}, 200, nil},
		{"/milestone", nil, 200, func() bool { return n.Balance(addressOf(t, sellerSeed, 0)) == 1200 }},
		{"/prune", url.Values{"before": {"3"}}, 200, func() bool { return info(t, n)["milestoneStartIndex"] == 3.0 }},
		{"/prune", url.Values{"before": {"x"}}, 400, nil},
		{"/crash", url.Values{"milestones": {"1"}}, 200, func() bool { return n.Balance(addressOf(t, sellerSeed, 0)) == 400 }},
		{"/crash", url.Values{"milestones": {"100"}}, 400, nil},
		{"/flood", url.Values{"address": {addressOf(t, sellerSeed, 1)}, "count": {"10"}, "junk": {"zero"}}, 200, nil},
		{"/flood", url.Values{"address": {addressOf(t, sellerSeed, 1)}, "count": {"-1"}, "junk": {"zero"}}, 400, nil},
		{"/break", url.Values{"command": {"getTrytes"}, "fault": {"html"}}, 200, nil},
		{"/break", url.Values{"fault": {"mud"}}, 400, nil},
		{"/latency", url.Values{"of": {"1ms"}}, 200, nil},
		{"/latency", url.Values{"of": {"soon"}}, 400, nil},
	} {
		response, err := http.PostForm(server.URL+c.path, c.values)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != c.status {
			t.Errorf("%s %v: got %d %s, %v; want %d", c.path, c.values, response.StatusCode, body, err, c.status)
		}
		if c.check != nil && !c.check() {
			t.Errorf("%s %v: it had no effect", c.path, c.values)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"another host": func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1234" },
		"a browser":    func(r *http.Request) { r.RemoteAddr = "127.0.0.1:1234"; r.Header.Set("Origin", "http://example.org") },
	} {
		r := httptest.NewRequest("POST", "/milestone", nil)
		change(r)
		w := httptest.NewRecorder()
		n.Control().ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", name, w.Code)
		}
	}
}

package rebased

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// raw posts a body and returns what came.
func (w *world) raw(ctx context.Context, body string) (status int, header http.Header, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, strings.NewReader(body))
	w.must(err)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, res.Header, string(b), err
}

func TestBreak(t *testing.T) {
	w := newWorld(t, Config{})
	const body = `{"query":"{chainIdentifier}"}`
	_, _, good, err := w.raw(t.Context(), body)
	w.must(err)
	for fault, check := range map[Fault]func(status int, h http.Header, text string, err error) bool{
		HTML: func(s int, h http.Header, text string, _ error) bool {
			return s == 502 && h.Get("Content-Type") == "text/html" && text[0] == '<'
		},
		HTML200: func(s int, h http.Header, text string, _ error) bool { return s == 200 && text[0] == '<' },
		Limited: func(s int, h http.Header, text string, _ error) bool {
			return s == 429 && h.Get("Retry-After") == "" && text == ""
		},
		LimitedRetry: func(s int, h http.Header, _ string, _ error) bool { return s == 429 && h.Get("Retry-After") == "2" },
		LimitedHTML:  func(s int, _ http.Header, text string, _ error) bool { return s == 429 && text[0] == '<' },
		Error500:     func(s int, _ http.Header, text string, _ error) bool { return s == 500 && text == "" },
		Error503:     func(s int, _ http.Header, _ string, _ error) bool { return s == 503 },
		EmptyObject:  func(s int, _ http.Header, text string, _ error) bool { return s == 200 && text == "{}" },
		EmptyBody:    func(s int, _ http.Header, text string, err error) bool { return s == 200 && text == "" && err == nil },
		NullData:     func(s int, _ http.Header, text string, _ error) bool { return text == `{"data":null}` },
		DataAndErrors: func(s int, _ http.Header, text string, _ error) bool {
			return strings.HasPrefix(text, strings.TrimSuffix(good, "}")) && strings.Contains(text, `"errors":[`) && json.Valid([]byte(text))
		},
		InternalError: func(s int, _ http.Header, text string, _ error) bool {
			return strings.Contains(text, "INTERNAL_SERVER_ERROR")
		},
		RequestTimeout: func(s int, _ http.Header, text string, _ error) bool {
			return strings.Contains(text, "REQUEST_TIMEOUT")
		},
		WrongType: func(s int, h http.Header, text string, _ error) bool {
			return h.Get("Content-Type") == "text/plain" && text == good
		},
		WrongValues: func(s int, _ http.Header, text string, _ error) bool { return text == `{"data":{"chainIdentifier":8}}` },
		Truncated: func(s int, _ http.Header, text string, err error) bool {
			return err != nil && text == good[:len(good)/2]
		},
		HalfJSON: func(s int, _ http.Header, text string, err error) bool {
			return err == nil && text == good[:len(good)/2]
		},
		ResetAnswer: func(s int, _ http.Header, _ string, err error) bool { return s == 0 && err != nil },
		Hang:        func(s int, _ http.Header, _ string, err error) bool { return s == 0 && err != nil },
		Endless:     func(s int, _ http.Header, text string, _ error) bool { return len(text) == 1<<20 },
	} {
		w.must(w.Break("", fault))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if fault == Hang {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		status, header, text, err := w.raw(ctx, body)
		cancel()
		if !check(status, header, text, err) {
			t.Errorf("%s: got %d %v %.80q %v", fault, status, header, text, err)
		}
	}
	if len(Faults()) != 20 {
		t.Errorf("got %d faults, want 20, all of them tested", len(Faults()))
	}

	// One operation only, in both APIs.
	w.must(w.Break("", ""))
	w.must(w.Break("checkpoint", Error500))
	w.must(w.Break("iotax_getCoins", HTML))
	for body, want := range map[string]int{
		body: 200, `{"query":"{checkpoint{digest}}"}`: 500, `{"query":"{chainIdentifier checkpoint{digest}}"}`: 500,
		`{"jsonrpc":"2.0","id":1,"method":"iotax_getCoins","params":["0x1"]}`: 502, `{"jsonrpc":"2.0","id":1,"method":"iota_getChainIdentifier"}`: 200,
	} {
		if status, _, _, err := w.raw(t.Context(), body); status != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", body, status, err, want)
		}
	}
	w.must(w.Break("checkpoint", ""))
	if status, _, _, _ := w.raw(t.Context(), `{"query":"{checkpoint{digest}}"}`); status != 200 {
		t.Errorf("mended: got %d", status)
	}
	if w.Break("bogus", HTML) == nil || w.Break("", "bogus") == nil {
		t.Error("bogus: got no error")
	}

	// What a proxy answers does not reach the node; an answer that is cut does.
	for fault, reaches := range map[Fault]bool{Limited: false, HTML: false, Error503: false, Truncated: true, ResetAnswer: true, Error500: true} {
		k := w.payer(5e9)
		x := k.pays(address(), 1)
		w.must(w.Break("executeTransactionBlock", fault))
		encoded, _ := json.Marshal(map[string]any{"query": executeDocument, "variables": signed(x, k.Key)})
		w.raw(t.Context(), string(encoded))
		if w.known(x) != reaches {
			t.Errorf("%s: executed: got %v, want %v", fault, w.known(x), reaches)
		}
	}
}

func TestLatency(t *testing.T) {
	w := newWorld(t, Config{})
	w.Latency(30 * time.Millisecond)
	start := time.Now()
	w.ok(w.ask("{chainIdentifier}", nil))
	if d := time.Since(start); d < 30*time.Millisecond {
		t.Errorf("answered after %s", d)
	}
}

// The indexer stops: lists, balances and coins stand still, reads by digest and
// executing go on. A lag that grows takes nothing back.
func TestIndexer(t *testing.T) {
	w := newWorld(t, Config{})
	k := w.payer(5e9)
	shop := address()
	view := func() (tip any, payments int, coins []string) {
		a := w.ok(w.ask(`query($a: IotaAddress!, $k: IotaAddress!) { checkpoint { sequenceNumber } transactionBlocks(last: 5, filter: {affectedAddress: $a}) { nodes { digest } }
			address(address: $k) { coins { nodes { version } } } }`, map[string]any{"a": shop.String(), "k": k.Address().String()}))
		return a.at("checkpoint.sequenceNumber"), len(a.each("transactionBlocks.nodes", "digest")), a.each("address.coins.nodes", "version")
	}
	w.Step()
	w.StopIndexer(true)
	x := k.pays(shop, 1e6)
	w.ok(w.send(x, k.Key))
	for range 3 {
		w.Step()
		w.clock.advance(time.Hour)
	}
	if tip, payments, coins := view(); tip != json.Number("1") || payments != 0 || !slices.Equal(coins, []string{"1"}) || !w.known(x) {
		t.Errorf("stopped: got %v, %d, %v", tip, payments, coins)
	}
	// The stale coin is of no use.
	w.failed(w.send(txn.Transaction{Sender: k.Address(), Gas: x.Gas, Inputs: x.Inputs[:1], Commands: []txn.Command{
		txn.TransferObjects{Objects: []txn.Argument{txn.GasCoin}, To: txn.InputAt(0)}}}, k.Key))
	w.StopIndexer(false)
	if tip, payments, coins := view(); tip != json.Number("4") || payments != 1 || !slices.Equal(coins, []string{"2"}) {
		t.Errorf("goes on: got %v, %d, %v", tip, payments, coins)
	}
	w.Lag(5 * time.Minute)
	w.Step()
	if tip, payments, _ := view(); tip != json.Number("4") || payments != 1 {
		t.Errorf("lags: got %v, %d", tip, payments)
	}
	w.clock.advance(5 * time.Minute)
	if tip, _, _ := view(); tip != json.Number("5") {
		t.Errorf("caught up: got %v", tip)
	}
}

// Two servers behind one address: the tip goes backwards.
func TestBehind(t *testing.T) {
	w := newWorld(t, Config{})
	shop := address()
	for range 9 {
		w.Step()
	}
	w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 1}}})
	w.Step()
	w.Behind(3)
	var tips []string
	for range 4 {
		a := w.ok(w.ask(`query($a: IotaAddress!) { checkpoint { sequenceNumber } transactionBlocks(last: 5, filter: {affectedAddress: $a}) { nodes { digest } } }`, map[string]any{"a": shop.String()}))
		tips = append(tips, fmt.Sprintf("%v %d", a.at("checkpoint.sequenceNumber"), len(a.each("transactionBlocks.nodes", "digest"))))
	}
	if want := []string{"10 1", "7 0", "10 1", "7 0"}; !slices.Equal(tips, want) {
		t.Errorf("got %v, want %v", tips, want)
	}
}

// Operators switch feature groups off, and run old software.
func TestFeatures(t *testing.T) {
	w := newWorld(t, Config{})
	coins := `{ address(address: "` + address().String() + `") { coins { nodes { version } } } }`
	w.must(w.Disable("coins", true))
	if code, message := w.failed(w.ask(coins, nil)); code != "" || message != `Cannot query field "coins" on type "Address". Feature "coins" is disabled.` {
		t.Errorf("coins: got %s %q", code, message)
	}
	w.must(w.Disable("system-state", true))
	a := w.ask(`{ chainIdentifier epoch { epochId referenceGasPrice } serviceConfig { isEnabled(feature: COINS) enabledFeatures } }`, nil)
	if _, message := w.failed(a); message != `Cannot query field "referenceGasPrice" on type "Epoch". Feature "system-state" is disabled.` || a.at("epoch.epochId") != json.Number("0") || a.at("serviceConfig.isEnabled") != false {
		t.Errorf("system-state: got %+v", a)
	}
	w.must(w.Disable("coins", false))
	w.ok(w.ask(coins, nil))
	if w.Disable("bogus", true) == nil {
		t.Error("bogus: got no error")
	}
	w.Old(true)
	if _, got := w.list(address(), nil); len(got.Errors) == 0 || !strings.Contains(got.Errors[0].Message, `Invalid value for argument "filter", unknown field "affectedAddress" of type "TransactionBlockFilter"`) || got.Data != nil {
		t.Errorf("old: got %+v", got)
	}
	w.Old(false)
	w.ok(w.ask(fmt.Sprintf(`{ address(address: %q) { transactionBlocks(relation: AFFECTED) { nodes { digest } } } }`, address()), nil))
}

func TestReset(t *testing.T) {
	w := newWorld(t, Config{})
	shop := address()
	d := w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 1}}})
	w.Step()
	w.Step()
	_, got := w.list(shop, map[string]any{"last": 1})
	start := got.at("transactionBlocks.pageInfo.startCursor")
	id := w.ChainID()
	peer := w.Peer()
	peer.Prune(2)
	w.Reset()
	if peer.pruned != 0 || peer.ChainID() == id {
		t.Errorf("peer: got pruned %d, chain %s", peer.pruned, peer.ChainID())
	}
	if w.ChainID() == id || len(id) != 8 || w.Tip() != 0 {
		t.Errorf("got chain %q after %q, tip %d", w.ChainID(), id, w.Tip())
	}
	if got, _ := w.list(shop, nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if a := w.ok(w.ask(`query($d: String!) { transactionBlock(digest: $d) { digest } }`, map[string]any{"d": d})); a.at("transactionBlock") != nil {
		t.Errorf("got %v", a)
	}
	if digests, got := w.list(shop, map[string]any{"last": 1, "before": start}); len(digests) != 0 || len(got.Errors) > 0 {
		t.Errorf("cursor of before: got %+v", got)
	}
}

// A page repeats what the one before had.
func TestRepeat(t *testing.T) {
	w := newWorld(t, Config{})
	shop := address()
	var all []string
	for range 4 {
		all = append(all, w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 1}}}))
	}
	w.Step()
	w.Repeat(true)
	got, pages := w.walk(shop, 2)
	if want := []string{all[0], all[1], all[2], all[2], all[3]}; !slices.Equal(got, want) || pages != 2 {
		t.Errorf("got %v in %d pages, want %v", got, pages, want)
	}
}

// The effects of one transaction cannot be read: an error next to the others' data.
func TestUnreadable(t *testing.T) {
	w := newWorld(t, Config{})
	shop := address()
	var all []string
	for range 3 {
		all = append(all, w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 1}}}))
	}
	w.Step()
	w.must(w.Unreadable(all[1], true))
	document := fmt.Sprintf(`{ transactionBlocks(filter: {affectedAddress: %q}) { nodes { digest effects { status } } } }`, shop)
	a := w.ask(document, nil)
	if code, _ := w.failed(a); code != internal || fmt.Sprint(a.Errors[0].Path) != "[transactionBlocks nodes 1 effects]" {
		t.Errorf("got %+v", a)
	}
	if a.at("transactionBlocks.nodes.0.effects.status") != "SUCCESS" || a.at("transactionBlocks.nodes.1.effects") != nil || a.at("transactionBlocks.nodes.1.digest") != all[1] || a.at("transactionBlocks.nodes.2.effects.status") != "SUCCESS" {
		t.Errorf("got %+v", a)
	}
	w.must(w.Unreadable(all[1], false))
	w.ok(w.ask(document, nil))
	if w.Unreadable("x", true) == nil {
		t.Error("bad digest: got no error")
	}
}

// Nodes write types differently; and one lies.
func TestPeersDiffer(t *testing.T) {
	w := newWorld(t, Config{})
	peer := w.Peer()
	url := w.serve(peer)
	d := w.paid(Payment{Transfers: []Transfer{{To: address(), Amount: 5}}})
	w.Step()
	const document = `query($d: String!) { transactionBlock(digest: $d) { effects { balanceChanges { nodes { amount coinType { repr } } } } } }`
	types := func(url string) []string {
		a := w.ok(w.askAt(url, document, map[string]any{"d": d}))
		list, _ := a.at("transactionBlock.effects.balanceChanges.nodes").([]any)
		var out []string
		for i := range list {
			out = append(out, fmt.Sprint(a.at(fmt.Sprintf("transactionBlock.effects.balanceChanges.nodes.%d.coinType.repr", i))))
		}
		return slices.Compact(out)
	}
	for s, want := range map[Spelling]string{
		"": txn.IOTA.String(), Short: "0x2::iota::IOTA", Long: txn.IOTA.String(), Upper: txn.IOTA.String(),
	} {
		w.must(peer.Spell(s))
		if got := types(url); !slices.Equal(got, []string{want}) {
			t.Errorf("%q: got %v, want %s", s, got, want)
		}
	}
	w.must(peer.Spell(Upper))
	if got := peer.spell(coinOf("0x"+strings.Repeat("ab", 32)+"::a::B"), Long); !strings.Contains(got, "<0x"+strings.Repeat("AB", 32)+"::a::B>") {
		t.Errorf("upper: got %s", got)
	}
	if peer.Spell("bogus") == nil {
		t.Error("bogus: got no error")
	}
	peer.Forge(true)
	amounts := func(url string) []string {
		return w.ok(w.askAt(url, document, map[string]any{"d": d})).each("transactionBlock.effects.balanceChanges.nodes", "amount")
	}
	if !slices.Contains(amounts(w.url), "5") || !slices.Contains(amounts(url), "50") {
		t.Errorf("forged: got %v and %v", amounts(w.url), amounts(url))
	}
	peer.StopIndexer(true)
	w.Step()
	if w.indexed() != 2 || peer.indexed() != 1 {
		t.Errorf("got tips %d and %d, want 2 and 1", w.indexed(), peer.indexed())
	}
}

func TestFaucet(t *testing.T) {
	w := newWorld(t, Config{})
	to := address()
	post := func(method, body string) (int, map[string]any) {
		req, err := http.NewRequest(method, w.url+"/gas", strings.NewReader(body))
		w.must(err)
		res, err := http.DefaultClient.Do(req)
		w.must(err)
		defer res.Body.Close()
		var out map[string]any
		if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, out
	}
	status, out := post(http.MethodPost, fmt.Sprintf(`{"FixedAmountRequest":{"recipient":%q}}`, to))
	coins, _ := out["transferredGasObjects"].([]any)
	if status != 201 || len(coins) != 5 || out["task"] == "" || w.Balance(to) != 10e9 {
		t.Errorf("got %d %v, balance %d", status, out, w.Balance(to))
	}
	for _, body := range []string{`{`, `{}`, `{"FixedAmountRequest":{"recipient":"0x1"}}`} {
		if status, out := post(http.MethodPost, body); status != 400 || out["error"] == nil {
			t.Errorf("%s: got %d %v", body, status, out)
		}
	}
	if status, _ := post(http.MethodGet, ""); status != 405 {
		t.Errorf("GET: got %d", status)
	}
}

func TestControl(t *testing.T) {
	w := newWorld(t, Config{})
	srv := httptest.NewServer(w.Control())
	t.Cleanup(srv.Close)
	shop := address().String()
	post := func(command string) (int, map[string]any) {
		res, err := http.Post(srv.URL+"/"+command, "", nil)
		w.must(err)
		defer res.Body.Close()
		var out map[string]any
		if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		return res.StatusCode, out
	}
	digest := ""
	for _, command := range []string{
		"step", "endepoch", "holdback?checkpoints=4", "holdback?checkpoints=0", "lag?of=5m", "lag?of=0s", "stopindexer?on=true", "stopindexer?on=false",
		"behind?checkpoints=20", "behind?checkpoints=0", "fallback?on=true", "old?on=true", "old?on=false", "repeat?on=false", "forge?on=true", "forge?on=false",
		"disable?feature=coins&on=true", "disable?feature=coins&on=false", "spell?as=short", "latency?of=0ms", "break?operation=transactionBlocks&fault=html",
		"break?operation=&fault=", "misbehave?how=executed-lost&times=2", "misbehave?how=split", "misbehave?how=", "splitconflicts?on=true",
		"fund?address=" + shop + "&nanos=1000", "pay?to=" + shop + "&nanos=5&memo=hello", "pay?to=" + shop + "&nanos=5&to=" + address().String() + "&nanos=6&others=60",
		"pay?to=" + shop + "&nft=true", "pay?to=" + shop + "&nanos=5&coin=0x7::a::B", "pay?to=" + shop + "&nanos=5&sponsored=true", "pay?to=" + shop + "&nanos=5&fail=true",
		"flood?address=" + shop + "&count=30&nanos=1", "step", "prune?before=1",
	} {
		status, out := post(command)
		if status != 200 || out["chain"] != w.ChainID() {
			t.Errorf("%s: got %d %v", command, status, out)
		}
		if strings.HasPrefix(command, "pay") {
			digest, _ = out["digest"].(string)
			if _, err := txn.ParseDigest(digest); err != nil {
				t.Errorf("%s: got %v", command, out)
			}
		}
	}
	if a, _ := txn.ParseAddress(shop); w.Balance(a) != 1000+5+5+5+30 {
		t.Errorf("shop has %d", w.Balance(a))
	}
	if status, out := post("unreadable?on=true&digest=" + digest); status != 200 {
		t.Errorf("unreadable: got %d %v", status, out)
	}
	id := w.ChainID()
	if status, out := post("reset"); status != 200 || out["chain"] == id || out["checkpoint"] != 0.0 {
		t.Errorf("reset: got %d %v", status, out)
	}
	for _, command := range []string{
		"holdback", "lag?of=x", "stopindexer", "behind?checkpoints=x", "disable?feature=x&on=true", "disable?feature=coins", "spell?as=x", "break?fault=x", "misbehave?how=x",
		"misbehave?how=split&times=x", "fund?address=x&nanos=1", "fund?address=" + shop, "pay", "pay?to=x&nanos=1", "pay?to=" + shop, "pay?to=" + shop + "&nanos=x",
		"pay?to=" + shop + "&nanos=1&others=501", "pay?to=" + shop + "&nanos=1&fail=x", "pay?to=" + shop + "&nanos=1&coin=x", "pay?to=" + shop + "&nanos=18446744073709551615",
		"flood?address=" + shop + "&count=1000001&nanos=1", "flood?address=x&count=1&nanos=1", "flood?address=" + shop + "&count=1&nanos=x", "unreadable?on=true&digest=x",
		"flood?address=" + shop + "&count=3&nanos=18446744073709551615",
	} {
		if status, out := post(command); status != 400 || out["error"] == "" {
			t.Errorf("%s: got %d %v", command, status, out)
		}
	}
	req, _ := http.NewRequest(http.MethodPost, srv.URL+"/step", nil)
	req.Header.Set("Origin", "http://evil.example")
	res, err := http.DefaultClient.Do(req)
	w.must(err)
	res.Body.Close()
	if res.StatusCode != 403 {
		t.Errorf("from a browser: got %d", res.StatusCode)
	}
}

// Many payments to an address: each is on one page, and each page is quick.
func TestFlood(t *testing.T) {
	const count = 10_000
	w := newWorld(t, Config{})
	shop := address()
	w.must(w.Flood(shop, count, 1))
	w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 1e9}}})
	w.Step()
	if got := w.Balance(shop); got != uint64(count)+1e9 {
		t.Errorf("got balance %d", got)
	}
	digests, got := w.list(shop, map[string]any{"last": 50})
	if len(digests) != 50 || got.at("transactionBlocks.pageInfo.hasPreviousPage") != true {
		t.Fatalf("got %d", len(digests))
	}
	// All pages, without HTTP, and each payment once.
	seen := make(map[string]bool)
	pages := 0
	for before := ""; ; pages++ {
		q := &query{n: w.Node, tip: w.indexed()}
		args := arguments{"last": int64(50)}
		if before != "" {
			args["before"] = before
		}
		v, err := q.transactions(args, arguments{"affectedAddress": shop.String()})
		w.must(err)
		c := v.(*connection)
		for _, n := range c.nodes {
			seen[n.(txNode).x.digest.String()] = true
		}
		if !c.prev {
			break
		}
		before = c.cursors[0]
	}
	if len(seen) != count+1 || pages != count/50 {
		t.Errorf("got %d payments in %d pages", len(seen), pages+1)
	}
}

func TestHTTP(t *testing.T) {
	w := newWorld(t, Config{})
	for _, test := range []struct {
		method, body string
		want         int
	}{
		{http.MethodGet, "", 405}, {http.MethodPost, strings.Repeat(" ", maxBody+1), 413}, {http.MethodPost, "{", 200}, {http.MethodPost, "null", 200},
	} {
		req, err := http.NewRequest(test.method, w.url, bytes.NewReader([]byte(test.body)))
		w.must(err)
		res, err := http.DefaultClient.Do(req)
		w.must(err)
		res.Body.Close()
		if res.StatusCode != test.want {
			t.Errorf("%s %.5q: got %d, want %d", test.method, test.body, res.StatusCode, test.want)
		}
	}
	for _, cfg := range []Config{{Epoch: -1}, {Checkpoint: -1}, {Lag: -1}, {Execution: -1}, {Conflicts: "x"}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v: got no error", cfg)
		}
	}
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "want at least 200ms") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkFlood loads 100,000 payments.
func BenchmarkFlood(b *testing.B) {
	for b.Loop() {
		n, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Flood(address(), 100_000, 1); err != nil {
			b.Fatal(err)
		}
	}
}

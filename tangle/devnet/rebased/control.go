package rebased

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Control returns a handler by which the network and this node are commanded
// from outside the process, as by
//
//	curl -X POST 'http://127.0.0.1:9124/prune?before=12'
//
// It is not part of a node's API and belongs on a separate port. It obeys
// clients on the loopback interface only, and no browser. The commands, each a
// POST and each named after the method that it calls:
//
//	/step                           /endepoch
//	/reset                          /holdback?checkpoints=4
//	/lag?of=5m                      /stopindexer?on=true
//	/behind?checkpoints=20          /prune?before=12
//	/fallback?on=true               /old?on=true
//	/repeat?on=true                 /forge?on=true
//	/disable?feature=coins&on=true  /spell?as=short
//	/unreadable?digest=DIGEST&on=true
//	/latency?of=200ms
//	/break?operation=transactionBlocks&fault=html
//	/misbehave?how=executed-lost&times=1
//	/splitconflicts?on=true
//	/fund?address=ADDRESS&nanos=1000000000
//	/pay?to=ADDRESS&nanos=500000000&memo=TEXT
//	/flood?address=ADDRESS&count=5000&nanos=1
//
// Further parameters of pay: more pairs of to and nanos; others=60, a number of
// additional recipients; coin=TYPE or nft=true for something other than IOTA;
// sponsored=true; fail=true.
//
// It answers 200 with {"chain": the chain identifier, "checkpoint": the newest
// one}, and "digest" where a transaction was made, or 400 with {"error": what is
// wrong}.
func (n *Node) Control() http.Handler {
	mux := http.NewServeMux()
	handle := func(name string, do func(*http.Request) (digest string, err error)) {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() || r.Header.Get("Origin") != "" {
				controlled(w, http.StatusForbidden, map[string]any{"error": "only local commands are obeyed"})
				return
			}
			digest, err := do(r)
			if err != nil {
				controlled(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
				return
			}
			out := map[string]any{"chain": n.ChainID(), "checkpoint": n.Tip()}
			if digest != "" {
				out["digest"] = digest
			}
			controlled(w, http.StatusOK, out)
		})
	}
	plain := func(name string, do func(*http.Request) error) {
		handle(name, func(r *http.Request) (string, error) { return "", do(r) })
	}
	flag := func(name string, set func(bool)) {
		plain(name, func(r *http.Request) error {
			on, err := boolean(r, "on")
			if err == nil {
				set(on)
			}
			return err
		})
	}
	count := func(name, parameter string, set func(int64)) {
		plain(name, func(r *http.Request) error {
			i, err := integer(r, parameter)
			if err == nil {
				set(i)
			}
			return err
		})
	}
	duration := func(name string, set func(time.Duration)) {
		plain(name, func(r *http.Request) error {
			d, err := time.ParseDuration(r.FormValue("of"))
			if err != nil || d < 0 {
				return fmt.Errorf("of=%q: want a duration such as 200ms", r.FormValue("of"))
			}
			set(d)
			return nil
		})
	}

	plain("step", func(*http.Request) error { n.Step(); return nil })
	plain("endepoch", func(*http.Request) error { n.EndEpoch(); return nil })
	plain("reset", func(*http.Request) error { n.Reset(); return nil })
	count("holdback", "checkpoints", n.HoldBack)
	count("behind", "checkpoints", n.Behind)
	count("prune", "before", n.Prune)
	duration("lag", n.Lag)
	duration("latency", n.Latency)
	flag("stopindexer", n.StopIndexer)
	flag("fallback", n.Fallback)
	flag("old", n.Old)
	flag("repeat", n.Repeat)
	flag("forge", n.Forge)
	flag("splitconflicts", n.SplitConflicts)
	plain("disable", func(r *http.Request) error {
		on, err := boolean(r, "on")
		if err != nil {
			return err
		}
		return n.Disable(r.FormValue("feature"), on)
	})
	plain("spell", func(r *http.Request) error { return n.Spell(Spelling(r.FormValue("as"))) })
	plain("unreadable", func(r *http.Request) error {
		on, err := boolean(r, "on")
		if err != nil {
			return err
		}
		return n.Unreadable(r.FormValue("digest"), on)
	})
	plain("break", func(r *http.Request) error { return n.Break(r.FormValue("operation"), Fault(r.FormValue("fault"))) })
	plain("misbehave", func(r *http.Request) error {
		times, err := int64(1), error(nil)
		if r.FormValue("times") != "" {
			times, err = integer(r, "times")
		}
		if err != nil {
			return err
		}
		return n.Misbehave(Misbehaviour(r.FormValue("how")), int(times))
	})
	plain("fund", func(r *http.Request) error {
		to, err := txn.ParseAddress(r.FormValue("address"))
		if err != nil {
			return err
		}
		nanos, err := strconv.ParseUint(r.FormValue("nanos"), 10, 64)
		if err != nil {
			return fmt.Errorf("nanos=%q: want a number", r.FormValue("nanos"))
		}
		n.Fund(to, nanos)
		return nil
	})
	handle("pay", func(r *http.Request) (string, error) {
		p, err := paymentOf(r)
		if err != nil {
			return "", err
		}
		return n.Pay(p)
	})
	plain("flood", func(r *http.Request) error {
		to, err := txn.ParseAddress(r.FormValue("address"))
		if err != nil {
			return err
		}
		number, err := integer(r, "count")
		if err == nil && (number < 0 || number > maxFlood) {
			err = fmt.Errorf("count=%d: want 0 to %d", number, maxFlood)
		}
		if err != nil {
			return err
		}
		nanos, err := strconv.ParseUint(r.FormValue("nanos"), 10, 64)
		if err != nil {
			return fmt.Errorf("nanos=%q: want a number", r.FormValue("nanos"))
		}
		return n.Flood(to, int(number), nanos)
	})
	return mux
}

// maxFlood keeps one command from filling the memory; a payment takes about 2 kB.
const maxFlood = 1_000_000

// maxOthers is how many further recipients a payment may have. Each takes two of
// the commands of a transaction, of which there may be 1,024.
const maxOthers = 500

func boolean(r *http.Request, name string) (bool, error) {
	on, err := strconv.ParseBool(r.FormValue(name))
	if err != nil {
		return false, fmt.Errorf("%s=%q: want true or false", name, r.FormValue(name))
	}
	return on, nil
}

func integer(r *http.Request, name string) (int64, error) {
	i, err := strconv.ParseInt(r.FormValue(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s=%q: want a number", name, r.FormValue(name))
	}
	return i, nil
}

// paymentOf reads the parameters of the command pay.
func paymentOf(r *http.Request) (p Payment, err error) {
	if err := r.ParseForm(); err != nil {
		return p, err
	}
	flags := make(map[string]bool)
	for _, name := range []string{"nft", "sponsored", "fail"} {
		if r.Form.Get(name) != "" {
			if flags[name], err = boolean(r, name); err != nil {
				return p, err
			}
		}
	}
	common := Transfer{NFT: flags["nft"]}
	if coin := r.Form.Get("coin"); coin != "" {
		if common.Coin, err = txn.ParseCoinType(coin); err != nil {
			return p, err
		}
	}
	for i, to := range r.Form["to"] {
		t := common
		if t.To, err = txn.ParseAddress(to); err != nil {
			return p, err
		}
		if !t.NFT {
			if i >= len(r.Form["nanos"]) {
				return p, fmt.Errorf("nanos: want one for each to")
			}
			if t.Amount, err = strconv.ParseUint(r.Form["nanos"][i], 10, 64); err != nil {
				return p, fmt.Errorf("nanos=%q: want a number", r.Form["nanos"][i])
			}
		}
		p.Transfers = append(p.Transfers, t)
	}
	if r.Form.Get("others") != "" {
		others, err := integer(r, "others")
		if err != nil || others < 0 || others > maxOthers {
			return p, fmt.Errorf("others=%q: want 0 to %d", r.Form.Get("others"), maxOthers)
		}
		for range others {
			p.Transfers = append(p.Transfers, Transfer{To: txn.NewKey().Address(), Amount: 1})
		}
	}
	p.Memo, p.Fail = r.Form["memo"], flags["fail"]
	if flags["sponsored"] {
		k := txn.NewKey()
		p.Sponsor = &k
	}
	return p, nil
}

func controlled(w http.ResponseWriter, status int, out map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out) // the client is gone if this fails
}

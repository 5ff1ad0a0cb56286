package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// storeStale is how old the store's last answer may be. It is asked four times
// a second.
const storeStale = 15 * time.Second

// handler serves /metrics, /healthz and /readyz.
func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		report := m.readiness(time.Now())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !report.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.Encode(report) // who hung up needs no answer
	})
	return mux
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready        bool         `json:"ready"` // everything that is needed is
	Dependencies []Dependency `json:"dependencies"`
}

// Dependency is something that serve works with.
type Dependency struct {
	Name  string   `json:"name"`
	Ready bool     `json:"ready"`
	Spare bool     `json:"spare,omitempty"` // one of several, not all of which are needed
	Age   *float64 `json:"age_seconds"`     // of its last success; null if there was none
	Error string   `json:"error,omitempty"`
}

func newDependency(name string, ready bool, last, now time.Time, err error) Dependency {
	d := Dependency{Name: name, Ready: ready}
	if !last.IsZero() {
		age := max(0, now.Sub(last).Round(time.Millisecond).Seconds())
		d.Age = &age
	}
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

// Readiness asks every part how it fares. None of them is waited for.
func (m *metrics) readiness(now time.Time) Readiness {
	r := Readiness{Ready: true}
	add := func(d Dependency) {
		r.Dependencies = append(r.Dependencies, d)
		r.Ready = r.Ready && (d.Ready || d.Spare)
	}
	add(m.storeHealth(now))
	v := m.view()
	if v.watch != nil {
		var nodes []Dependency
		usable := 0
		for _, n := range v.watch.ledger.Health() {
			err := n.Err
			if err == nil && n.Frozen {
				err = errors.New("its position stands still")
			}
			d := newDependency("node "+n.Node, err == nil && !n.LastSuccess.IsZero(), n.LastSuccess, now, err)
			d.Spare = true
			nodes = append(nodes, d)
			if d.Ready {
				usable++
			}
		}
		h := v.watch.watcher.Health()
		err := h.LedgerError
		if needed := max(1, v.reading.Agree); err == nil && usable < needed {
			err = fmt.Errorf("%d of %d nodes can be used, %d are needed", usable, len(nodes), needed)
		}
		fresh := now.Sub(h.LastSuccess) <= v.reading.Poll+lookTimeout
		add(newDependency("ledger", err == nil && fresh, h.LastSuccess, now, err))
		for _, d := range nodes {
			add(d)
		}
		if h.ClockError != nil {
			add(newDependency("clock", false, time.Time{}, now, h.ClockError))
		}
		if n := len(h.Unbooked); n > 0 {
			add(newDependency("book", false, time.Time{}, now,
				fmt.Errorf("%s received more than the book has: payments were not seen; see iotoll doctor", count(n, "address", "addresses"))))
		}
		if n := len(h.Partial); n > 0 { // payments that are seen count all the same
			d := newDependency("history", false, h.LastSuccess, now,
				fmt.Errorf("%s may have payments that were not read: see the log, and iotoll doctor", count(n, "address", "addresses")))
			d.Spare = true
			add(d)
		}
		if ordered, ok := v.watch.ledger.(tangle.Ordered); ok {
			if d, ok := unreadDependency(ordered.Unread(), now); ok {
				add(d)
			}
		}
		if n := len(h.Unwatched); n > 0 {
			add(newDependency("deposit addresses", false, time.Time{}, now,
				fmt.Errorf("%s watched before and not configured now: payments are not seen", count(n, "address was", "addresses were"))))
		}
	}
	for _, p := range v.plugs {
		s := p.state()
		add(newDependency("plug of "+p.live, s.online, s.last.At, now, s.err))
		add(brokerDependency("broker for "+p.live, p.broker.Health(), now))
	}
	if v.offers != nil {
		add(brokerDependency("broker for the offers", v.offers.Health(), now))
	}
	if v.accounts != nil {
		add(brokerDependency("broker for the accounts", v.accounts.Health(), now))
	}
	return r
}

// unreadAfter is how long a transaction may take to be read before its payment counts
// as held up.
const unreadAfter = time.Minute

// unreadDependency are the transactions to deposit addresses, if some cannot be read.
func unreadDependency(unread []tangle.Unread, now time.Time) (d Dependency, ok bool) {
	unread = slices.DeleteFunc(unread, func(u tangle.Unread) bool { return now.Sub(u.Since) < unreadAfter })
	if len(unread) == 0 {
		return Dependency{}, false
	}
	u := unread[0]
	return newDependency("transactions", false, time.Time{}, now, fmt.Errorf("%s cannot be read, so that a payment may wait: %s since %s: %w",
		count(len(unread), "transaction", "transactions"), u.Digest, u.Since.UTC().Format(time.RFC3339), u.Err)), true
}

// brokerDependency is a connection to the broker. It is ready while the broker
// takes messages on every topic.
func brokerDependency(name string, h mqtt.Health, now time.Time) Dependency {
	err := h.Err
	const most = 5
	if n := len(h.Refused); n > most {
		err = errors.Join(err, fmt.Errorf("%d topics are refused, these first", n))
		h.Refused = h.Refused[:most]
	}
	for _, r := range h.Refused {
		err = errors.Join(err, fmt.Errorf("topic %s since %s: %s", r.Topic, r.Since.UTC().Format(time.RFC3339), r.Reason))
	}
	return newDependency(name, h.Connected && len(h.Refused) == 0, h.Acknowledged, now, err)
}

func (m *metrics) storeHealth(now time.Time) Dependency {
	last, err := m.store.read()
	return newDependency("store", err == nil && now.Sub(last) <= storeStale, last, now, err)
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// storeStale is how old the store's last answer may be. It is asked four times
// a second.
const storeStale = 15 * time.Second

// handler serves /metrics, /healthz and /readyz.
func (m *meters) handler() http.Handler {
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

// readiness is the answer of /readyz.
type readiness struct {
	Ready        bool         `json:"ready"` // everything that is needed is
	Dependencies []dependency `json:"dependencies"`
}

// dependency is something that serve works with.
type dependency struct {
	Name  string   `json:"name"`
	Ready bool     `json:"ready"`
	Spare bool     `json:"spare,omitempty"` // one of several, of which one is enough
	Age   *float64 `json:"age_seconds"`     // of its last success; null if there was none
	Error string   `json:"error,omitempty"`
}

func newDependency(name string, ready bool, last, now time.Time, err error) dependency {
	d := dependency{Name: name, Ready: ready}
	if !last.IsZero() {
		age := max(0, now.Sub(last).Round(time.Millisecond).Seconds())
		d.Age = &age
	}
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

// readiness asks every part how it fares. None of them is waited for.
func (m *meters) readiness(now time.Time) readiness {
	r := readiness{Ready: true}
	add := func(d dependency) {
		r.Dependencies = append(r.Dependencies, d)
		r.Ready = r.Ready && (d.Ready || d.Spare)
	}
	add(m.storeHealth(now))
	if m.watcher != nil {
		h := m.watcher.Health()
		fresh := now.Sub(h.LastSuccess) <= m.poll+lookTimeout
		add(newDependency("ledger", h.LedgerError == nil && fresh, h.LastSuccess, now, h.LedgerError))
		for _, n := range m.ledger.Health() {
			d := newDependency("node "+n.Node, n.Err == nil && !n.LastSuccess.IsZero() && !n.Frozen, n.LastSuccess, now, n.Err)
			d.Spare = true
			add(d)
		}
	}
	for _, p := range m.plugs {
		s := p.state()
		add(newDependency("plug of "+p.live, s.online, s.last.At, now, s.err))
		connected, last := p.broker.Health()
		add(newDependency("broker for "+p.live, connected, last, now, nil))
	}
	if m.offers != nil {
		connected, last := m.offers.Health()
		add(newDependency("broker for the offers", connected, last, now, nil))
	}
	return r
}

func (m *meters) storeHealth(now time.Time) dependency {
	last, err := m.store.read()
	return newDependency("store", err == nil && now.Sub(last) <= storeStale, last, now, err)
}

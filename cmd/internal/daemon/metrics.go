package daemon

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// metrics are what a running serve counts by itself, and where it finds the
// rest, which its parts are asked for when somebody reads the metrics.
//
// Labels have values from closed sets only: an outcome, or the place of a node
// or plug in the configuration. Usernames, topics, addresses and payment IDs
// are chosen by strangers, or are nobody's business.
type metrics struct {
	registry *prometheus.Registry
	payments *prometheus.CounterVec
	settling prometheus.Histogram

	store heartbeat

	mu    sync.Mutex
	shown view
}

// view is what is running.
type view struct {
	watch    *watching      // nil if nothing is for sale
	reading  ledgers.Config // how that reads
	plugs    []*plugMeter
	offers   *mqtt.Publisher // publishes the offers; nil if none does
	accounts *mqtt.Publisher // publishes the buyers' accounts; nil if none does
}

// show replaces what the metrics and the readiness are about.
func (m *metrics) show(cfg *config.Config, parts []*part) {
	v := view{reading: cfg.Ledger}
	for _, p := range parts {
		switch {
		case p.watch != nil:
			v.watch = p.watch
		case p.plug != nil:
			v.plugs = append(v.plugs, p.plug)
		case p.offers != nil:
			v.offers = p.offers
		case p.accounts != nil:
			v.accounts = p.accounts
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown = v
}

func (m *metrics) view() view {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shown
}

// Outcomes are the values of the label of that name.
var Outcomes = []tangle.Outcome{tangle.Credited, tangle.Underpaid, tangle.Replayed, tangle.Unmatched, tangle.Historic}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		payments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "iotoll_payments_total",
			Help: "Payments by what became of them since the start; one that was held and then credited counts as both.",
		}, []string{"outcome"}),
		settling: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "iotoll_payment_settle_seconds",
			Help:    "Time from seeing a payment confirmed until its grant was written, of those that waited for nobody.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
	}
	for _, o := range Outcomes {
		m.payments.WithLabelValues(string(o))
	}
	m.registry.MustRegister(m, m.payments, m.settling,
		collectors.NewBuildInfoCollector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// settled is told by the watcher what became of a payment.
func (m *metrics) settled(_ tangle.Payment, o tangle.Outcome, took time.Duration) {
	m.payments.WithLabelValues(string(o)).Inc()
	if took > 0 {
		m.settling.Observe(took.Seconds())
	}
}

// figure is a metric that is read when somebody asks.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) figure {
	return figure{prometheus.NewDesc("iotoll_"+name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) figure {
	return figure{prometheus.NewDesc("iotoll_"+name, help, labels, nil), prometheus.CounterValue}
}

// The figures. Node and plug are places in the configuration, from 0.
var (
	paymentsHeld    = gauge("payments_held", "Payments that wait for the seller or for a user to be created.")
	paymentsWaiting = gauge("payments_waiting", "Payments that were seen and are not in the store yet, because it fails.")

	addressesUnwatched = gauge("addresses_unwatched", "Deposit addresses that were watched before and are not configured now.")
	addressesUnbooked  = gauge("addresses_unbooked", "Deposit addresses that received more than the book has.")
	clockWrong         = gauge("clock_wrong", "1 while settling waits because the clock disagrees with the ledger, else 0.")

	ledgerReads = counter("ledger_reads_total", "Looks at the ledger, also those that failed.")
	ledgerFails = counter("ledger_read_failures_total", "Looks at the ledger that failed.")
	ledgerLast  = gauge("ledger_last_success_timestamp_seconds", "When the ledger was last read; absent before.")

	storeUp    = gauge("store_up", "1 if the store answers, else 0.")
	storeLast  = gauge("store_last_success_timestamp_seconds", "When the store last answered; absent before.")
	storeFails = counter("store_failures_total", "Attempts to settle payments that the store made fail.")

	nodeUp       = gauge("node_up", "1 if the last request to the node worked, else 0.", "node")
	nodeLast     = gauge("node_last_success_timestamp_seconds", "When a request to the node last worked; absent before.", "node")
	nodePosition = gauge("node_position", "Newest position in the ledger's order that the node has; absent while it is unknown.", "node")
	nodeBehind   = gauge("node_behind_positions", "Positions that another node is ahead.", "node")
	nodeFrozen   = gauge("node_frozen", "1 if the node's position stands still, else 0.", "node")

	plugReads     = counter("plug_reads_total", "Readings asked for, also those that failed.", "plug")
	plugFails     = counter("plug_read_failures_total", "Readings that failed.", "plug")
	plugLast      = gauge("plug_last_reading_timestamp_seconds", "When the last reading was taken; absent before.", "plug")
	plugOnline    = gauge("plug_online", "1 if readings come in, else 0.", "plug")
	plugPower     = gauge("plug_power_watts", "The last reading; absent while the plug is not online.", "plug")
	plugPublished = counter("plug_publications_total", "Messages handed to the connection to the broker.", "plug")
	plugDropped   = counter("plug_publications_dropped_total", "Messages that the broker refused, or that were dropped for want of a connection.", "plug")
	plugBroker    = gauge("plug_broker_connected", "1 if there is a connection to the broker, else 0.", "plug")
	plugRefused   = gauge("plug_topics_refused", "Topics on which the broker refuses or does not acknowledge messages.", "plug")

	figures = []figure{
		paymentsHeld, paymentsWaiting, addressesUnwatched, addressesUnbooked, clockWrong, ledgerReads, ledgerFails, ledgerLast, storeUp, storeLast, storeFails,
		nodeUp, nodeLast, nodePosition, nodeBehind, nodeFrozen,
		plugReads, plugFails, plugLast, plugOnline, plugPower, plugPublished, plugDropped, plugBroker, plugRefused,
	}
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, f := range figures {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	say := func(f figure, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
	}
	when := func(f figure, at time.Time, labels ...string) {
		if !at.IsZero() {
			say(f, float64(at.UnixMilli())/1000, labels...)
		}
	}

	last, _ := m.store.read()
	say(storeUp, bit(m.storeHealth(time.Now()).Ready))
	when(storeLast, last)

	v := m.view()
	if v.watch != nil {
		h := v.watch.watcher.Health()
		say(paymentsHeld, float64(h.Held))
		say(addressesUnwatched, float64(len(h.Unwatched)))
		say(addressesUnbooked, float64(len(h.Unbooked)))
		say(clockWrong, bit(h.ClockError != nil))
		say(paymentsWaiting, float64(h.Waiting))
		say(ledgerReads, float64(h.LedgerReads))
		say(ledgerFails, float64(h.LedgerFails))
		when(ledgerLast, h.LastSuccess)
		say(storeFails, float64(h.StoreFails))
		for i, n := range v.watch.ledger.Health() {
			node := strconv.Itoa(i)
			say(nodeUp, bit(n.Err == nil && !n.LastSuccess.IsZero()), node)
			when(nodeLast, n.LastSuccess, node)
			if n.Position > 0 {
				say(nodePosition, float64(n.Position), node)
			}
			say(nodeBehind, float64(n.Behind), node)
			say(nodeFrozen, bit(n.Frozen), node)
		}
	}

	for i, p := range v.plugs {
		plug := strconv.Itoa(i)
		s := p.state()
		broker := p.broker.Health()
		say(plugReads, float64(s.reads), plug)
		say(plugFails, float64(s.fails), plug)
		when(plugLast, s.last.At, plug)
		say(plugOnline, bit(s.online), plug)
		if s.online {
			say(plugPower, float64(s.last.MilliWatts)/1000, plug)
		}
		say(plugPublished, float64(s.published), plug)
		say(plugDropped, float64(s.dropped), plug)
		say(plugBroker, bit(broker.Connected), plug)
		say(plugRefused, float64(len(broker.Refused)), plug)
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// heartbeat remembers when something last worked, and why it does not now.
type heartbeat struct {
	mu   sync.Mutex
	last time.Time
	err  error
}

func (h *heartbeat) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	if err == nil {
		h.last = time.Now()
	}
}

func (h *heartbeat) read() (last time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, h.err
}

// plugMeter stands between a poller, its source and its publisher, and counts
// what passes.
type plugMeter struct {
	source                wemo.Source
	broker                *mqtt.Publisher
	live, average, status string // the topics

	mu  sync.Mutex
	now plugState
}

// plugState is what a plugMeter has counted.
type plugState struct {
	reads, fails       int64
	published, dropped int64
	last               wemo.Reading
	err                error  // of the last read
	online             bool   // as the status says
	reason             string // why it is not online, as the status says
}

var (
	_ wemo.Runner    = (*plugMeter)(nil)
	_ wemo.Publisher = (*plugMeter)(nil)
)

func (m *plugMeter) state() plugState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Read implements wemo.Source.
func (m *plugMeter) Read(ctx context.Context) (wemo.Reading, error) {
	r, err := m.source.Read(ctx)
	if ctx.Err() != nil {
		return r, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.reads++
	m.now.err = err
	if err != nil {
		m.now.fails++
	} else {
		m.now.last = r
	}
	return r, err
}

// Run runs the source, if it is a wemo.Runner.
func (m *plugMeter) Run(ctx context.Context) error {
	if r, ok := m.source.(wemo.Runner); ok {
		return r.Run(ctx)
	}
	return nil
}

// Publish implements wemo.Publisher.
func (m *plugMeter) Publish(topic string, payload []byte, retained bool) error {
	err := m.broker.Publish(topic, payload, retained)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.now.dropped++
	} else {
		m.now.published++
	}
	if topic == m.status {
		var s wemo.Status
		m.now.online = json.Unmarshal(payload, &s) == nil && s.Online
		m.now.reason = s.Reason
	}
	return err
}

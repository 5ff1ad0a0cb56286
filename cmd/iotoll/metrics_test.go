package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/iotoll/iotoll/cmd/internal/daemon"
	"github.com/iotoll/iotoll/tangle"
)

// startMosquitto runs a broker, without the plugin, until the test ends, and
// returns its port. It lets everybody do everything.
func startMosquitto(t *testing.T) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(freeAddress(t))
	conf := writeFile(t, "mosquitto.conf", fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n", port))
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on everybody's PATH
	}
	cmd := exec.Command(path, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	eventually(t, "mosquitto to listen", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return port
}

// eventually fails the test unless happened becomes true within ten seconds.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited ten seconds in vain for %s", what)
		}
	}
}

// get returns what an URL answers.
func get(t *testing.T, url string) (code int, body []byte) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err = io.ReadAll(r.Body); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, body
}

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, url string) (map[string]*dto.MetricFamily, []byte) {
	t.Helper()
	code, body := get(t, url+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("GET /metrics: got %d\n%s", code, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("GET /metrics: %v\n%s", err, body)
	}
	return families, body
}

// value returns a metric's value, or how many values a histogram has; -1 if
// there is no such metric.
func value(families map[string]*dto.MetricFamily, name, label string) float64 {
	for _, m := range families[name].GetMetric() {
		if label != "" && m.GetLabel()[0].GetValue() != label {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	return -1
}

// ready returns the answer of /readyz.
func ready(t *testing.T, url string) (code int, r daemon.Readiness) {
	t.Helper()
	code, body := get(t, url+"/readyz")
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("GET /readyz: %v\n%s", err, body)
	}
	if r.Ready != (code == http.StatusOK) {
		t.Errorf("GET /readyz: got %d and %+v", code, r)
	}
	return code, r
}

// TestMetrics watches a serve with everything: a tangle, payments of every
// kind, a plug, a broker.
func TestMetrics(t *testing.T) {
	t.Parallel()
	node, seed := startTangle(t)
	plug := strings.TrimPrefix(background(t, "", "sim", "plug", "--listen", "127.0.0.1:0")[0], "plug ")
	listen := freeAddress(t)
	url := "http://" + listen
	s := newSite(t, node, fmt.Sprintf(`metrics: {listen: %q}
broker: {url: "mqtt://127.0.0.1:%s", username: iotoll, password_file: broker-password}
plugs:
  - {address: %q, live: sensor/live, average: sensor/1m}
  - {address: "127.0.0.1:1", live: other/live, average: other/1m}
`, listen, startMosquitto(t), plug))
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.config), "broker-password"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What strangers choose must not become a label.
	const stranger = `stranger"} 1`
	pay := func(iotas string, username string) {
		t.Helper()
		message, _ := json.Marshal(map[string]string{"username": username})
		s.must("", "pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress,
			"--amount", iotas, "--message", string(message), "--wait")
	}
	pay("700", "john") // history
	s.must("hunter2", "user", "add", "john")
	startProcess(t, "--config", s.config, "serve").await("deposit address is watched from now on")
	s.await(700, "historic")
	pay("500", "john")
	pay("100", "john")
	pay("501", stranger)
	s.await(501, "unmatched")

	if code, body := get(t, url+"/healthz"); code != http.StatusOK || string(body) != "ok\n" {
		t.Errorf("GET /healthz: got %d %q", code, body)
	}
	var families map[string]*dto.MetricFamily
	var body []byte
	got := func(name, label string) float64 { return value(families, name, label) }
	eventually(t, "everything to be counted", func() bool {
		families, body = scrape(t, url)
		return got("iotoll_payments_total", "unmatched") == 1 && got("iotoll_plug_power_watts", "0") > 0 && got("iotoll_plug_read_failures_total", "1") > 0
	})
	for _, want := range []struct {
		name, label string
		value       float64
	}{
		{"iotoll_payments_total", "credited", 1},
		{"iotoll_payments_total", "underpaid", 1},
		{"iotoll_payments_total", "historic", 1},
		{"iotoll_payments_total", "replayed", 0},
		{"iotoll_payments_held", "", 1},
		{"iotoll_payments_waiting", "", 0},
		{"iotoll_payment_settle_seconds", "", 2},
		{"iotoll_store_up", "", 1},
		{"iotoll_node_up", "0", 1},
		{"iotoll_node_behind_positions", "0", 0},
		{"iotoll_node_frozen", "0", 0},
		{"iotoll_plug_online", "0", 1},
		{"iotoll_plug_broker_connected", "0", 1},
		{"iotoll_plug_online", "1", 0},
		{"iotoll_plug_power_watts", "1", -1}, // never a false 0
		{"iotoll_plug_last_reading_timestamp_seconds", "1", -1},
	} {
		if value := got(want.name, want.label); value != want.value {
			t.Errorf("%s of %q: got %g, want %g", want.name, want.label, value, want.value)
		}
	}
	// A machine that is busy may make one fail.
	for _, of := range []struct{ fails, reads, label string }{
		{"iotoll_ledger_read_failures_total", "iotoll_ledger_reads_total", ""},
		{"iotoll_store_failures_total", "iotoll_ledger_reads_total", ""},
		{"iotoll_plug_read_failures_total", "iotoll_plug_reads_total", "0"},
	} {
		if fails, reads := got(of.fails, of.label), got(of.reads, of.label); fails < 0 || fails > reads/2 {
			t.Errorf("%s: got %g of %g", of.fails, fails, reads)
		}
	}
	for _, name := range []string{"iotoll_ledger_last_success_timestamp_seconds", "iotoll_store_last_success_timestamp_seconds",
		"iotoll_node_last_success_timestamp_seconds", "iotoll_plug_last_reading_timestamp_seconds"} {
		if age := float64(time.Now().Unix()) - got(name, ""); age < -2 || age > 10 {
			t.Errorf("%s: got %g, which is %g s ago", name, got(name, ""), age)
		}
	}
	for _, name := range []string{"iotoll_ledger_reads_total", "iotoll_node_position", "iotoll_plug_reads_total", "iotoll_plug_publications_total",
		"go_goroutines", "process_resident_memory_bytes", "go_build_info"} {
		if got(name, "") <= 0 {
			t.Errorf("%s: got %g, want more than 0", name, got(name, ""))
		}
	}

	// The conventions, and the rule of the labels.
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name, family := range families {
		if !strings.HasPrefix(name, "iotoll_") {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				_, place := strconv.Atoi(l.GetValue())
				closed := false
				switch l.GetName() {
				case "outcome":
					closed = slices.Contains(daemon.Outcomes, tangle.Outcome(l.GetValue()))
				case "node", "plug":
					closed = place == nil
				}
				if !closed {
					t.Errorf("%s has the label %s=%q, which is from no closed set", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	for _, text := range []string{"stranger", "john", "sensor/", "other/", depositAddress[:20], s.payments()[0].Payment[:20], "hunter", "127.0.0.1"} {
		if bytes.Contains(body, []byte(text)) {
			t.Errorf("the metrics tell of %q", text)
		}
	}

	// One plug is away, and so not everything that is needed is there.
	_, r := ready(t, url)
	var report []string
	for _, d := range r.Dependencies {
		if d.Ready && (d.Age == nil || d.Error != "") {
			t.Errorf("readiness of %s: got %+v", d.Name, d)
		}
		report = append(report, fmt.Sprintf("%s: %t", d.Name, d.Ready))
	}
	if want := []string{"store: true", "ledger: true", "node " + node + ": true", "plug of sensor/live: true", "broker for sensor/live: true",
		"plug of other/live: false", "broker for other/live: true", "broker for the offers: true", "broker for the accounts: true"}; r.Ready || !slices.Equal(report, want) {
		t.Errorf("readiness: got %t, %q, want false, %q", r.Ready, report, want)
	}
	if d := r.Dependencies[5]; d.Age != nil || d.Error == "" {
		t.Errorf("readiness of a plug that is away: got %+v, want an error and no age", d)
	}
	if code, _ := get(t, url+"/"); code != http.StatusNotFound {
		t.Errorf("GET /: got %d, want 404", code)
	}
}

// TestReadiness: of several nodes one is enough, unless several have to agree;
// without enough, serve says that it is not ready, but runs.
func TestReadiness(t *testing.T) {
	t.Parallel()
	node, _ := startTangle(t)
	for _, test := range []struct {
		nodes []string
		agree int
		code  int
		away  string
	}{
		{[]string{node, "http://127.0.0.1:1"}, 1, 200, ""},
		{[]string{node, "http://127.0.0.1:1"}, 2, 503, "1 of 2 nodes can be used, 2 are needed"},
		{[]string{"http://127.0.0.1:1"}, 1, 503, "connection refused"},
	} {
		listen := freeAddress(t)
		s := newSite(t, strings.Join(test.nodes, `","`), fmt.Sprintf("metrics: {listen: %q}\n", listen))
		s.edit("poll: 50ms", "poll: 50ms, agree: "+strconv.Itoa(test.agree))
		background(t, "", "--config", s.config, "serve")
		url := "http://" + listen
		var r daemon.Readiness
		eventually(t, "the readiness to be "+strconv.Itoa(test.code), func() bool {
			var code int
			code, r = ready(t, url)
			families, _ := scrape(t, url)
			return code == test.code && r.Dependencies[0].Ready && strings.Contains(r.Dependencies[1].Error, test.away) && value(families, "iotoll_ledger_reads_total", "") > 0
		})
		if code, _ := get(t, url+"/healthz"); code != http.StatusOK {
			t.Errorf("GET /healthz: got %d", code)
		}
		families, _ := scrape(t, url)
		here := test.nodes[0] == node
		up := value(families, "iotoll_node_up", "0")
		if last := value(families, "iotoll_ledger_last_success_timestamp_seconds", ""); (up == 1) != here || (last > 0) != here {
			t.Errorf("nodes %q: got iotoll_node_up %g, last success %g", test.nodes, up, last)
		}
		if reads, fails := value(families, "iotoll_ledger_reads_total", ""), value(families, "iotoll_ledger_read_failures_total", ""); (fails == reads) == here {
			t.Errorf("nodes %q: got %g reads, %g failed", test.nodes, reads, fails)
		}
	}
}

// TestMetricsListen: nobody listens unless told to, and an address that is taken
// is named.
func TestMetricsListen(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newSite(t, "http://127.0.0.1:1", fmt.Sprintf("metrics: {listen: %q}\n", l.Addr()))
	r := s.run("", "serve")
	if want := regexp.MustCompile(`^iotoll: serve metrics: listen tcp 127\.0\.0\.1:\d+: bind: address already in use\n`); r.code != 1 || !want.MatchString(r.errOut) {
		t.Errorf("serve: got %+v", r)
	}
}

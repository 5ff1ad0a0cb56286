package legacy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/iotaledger/iota.go/trinary"
)

// The events of the recorded payment's tail and of its milestone are those that
// the real node published, but for times and milestone hashes.
func TestEvents(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "events", "mqtt-one-payment.json"))
	if err != nil {
		t.Fatal(err)
	}
	var recorded []struct{ Topic, Payload string }
	if err := json.Unmarshal(data, &recorded); err != nil {
		t.Fatal(err)
	}
	type published struct{ topic, payload string }
	var got []published
	var n *Node
	n, err = New(Config{
		Genesis: map[trinary.Hash]uint64{recordedSource: 1000000000000},
		Event: func(topic string, payload []byte) {
			if n != nil && topic == "lsm" {
				n.Index() // an event may ask the node
			}
			got = append(got, published{topic, string(payload)})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 2)
	got = nil
	var trytes []trinary.Trytes
	for _, r := range recordings(t, "hornet-0.5.6-synced") {
		if r.Name == "getTrytes-order" {
			for _, s := range r.Response.JSON.(map[string]any)["trytes"].([]any) {
				if s != unknownTrytes {
					trytes = append(trytes, s.(string))
				}
			}
		}
	}
	if _, err := n.Submit(trytes); err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 1)
	// comparable is an event without what differs between any two networks.
	comparable := func(topic, payload string) string {
		var p map[string]any
		if json.Unmarshal([]byte(payload), &p) != nil {
			return topic + " " + payload
		}
		if h, ok := p["txHash"].(string); ok && h != recordedTail {
			return ""
		}
		for _, key := range []string{"timestamp", "recTimestamp", "hash", "solidMilestoneHash"} {
			if _, ok := p[key]; ok {
				p[key] = "any"
			}
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return topic + " " + string(out)
	}
	var have, wants []string
	for _, e := range got {
		if c := comparable(e.topic, e.payload); c != "" {
			have = append(have, c)
		}
	}
	for _, e := range recorded {
		if c := comparable(e.Topic, e.Payload); c != "" {
			wants = append(wants, c)
		}
	}
	before := slices.IndexFunc(have, func(s string) bool { return strings.HasPrefix(s, "lsm ") })
	if sn := slices.IndexFunc(have, func(s string) bool { return strings.HasPrefix(s, "sn ") }); sn < before {
		t.Error("a confirmation was published before its milestone")
	}
	slices.Sort(have)
	slices.Sort(wants)
	if !slices.Equal(have, wants) {
		t.Errorf("got %d events, want %d", len(have), len(wants))
		for _, w := range wants {
			if !slices.Contains(have, w) {
				t.Errorf("missing: %.300s", w)
			}
		}
		for _, h := range have {
			if !slices.Contains(wants, h) {
				t.Errorf("not recorded: %.300s", h)
			}
		}
	}
}

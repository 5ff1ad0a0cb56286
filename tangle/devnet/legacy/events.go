package legacy

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"
)

// Offsets of what only events tell.
const (
	obsoleteTagAt = consts.ObsoleteTagTrinaryOffset / consts.TritsPerTryte
	timestampAt   = consts.TimestampTrinaryOffset / consts.TritsPerTryte
)

// event is something that a node would publish, as Hornet 0.5.6 does over MQTT.
type event struct {
	topic   string
	payload any // a string as it is, anything else as JSON
}

// publish tells Config.Event, if there is one. Not with t.mu: it may take long,
// or ask a node.
func (t *tangle) publish(events []event) {
	for _, e := range events {
		payload := []byte(fmt.Sprint(e.payload))
		if _, ok := e.payload.(string); !ok {
			var err error
			if payload, err = json.Marshal(e.payload); err != nil {
				panic(err) // only strings and numbers are in it
			}
		}
		t.event(e.topic, payload)
	}
}

// The time in events, of the node that publishes them; whole seconds.
func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// arrived is what is published of a new transaction.
func arrived(x *tx, at time.Time) []event {
	return []event{
		{"tx", struct {
			TxHash       trinary.Hash   `json:"txHash"`
			Address      trinary.Hash   `json:"address"`
			Value        int64          `json:"value"`
			ObsoleteTag  trinary.Trytes `json:"obsoleteTag"`
			TxTimestamp  int64          `json:"txTimestamp"`
			CurrentIndex uint64         `json:"currentIndex"`
			LastIndex    uint64         `json:"lastIndex"`
			Bundle       trinary.Hash   `json:"bundle"`
			Trunk        trinary.Hash   `json:"trunk"`
			Branch       trinary.Hash   `json:"branch"`
			RecTimestamp int64          `json:"recTimestamp"`
			Tag          trinary.Trytes `json:"tag"`
			Timestamp    string         `json:"timestamp"`
		}{
			x.hash, x.address, x.value, x.trytes[obsoleteTagAt:timestampAt],
			trinary.TrytesToInt(x.trytes[timestampAt : timestampAt+timeSize]),
			x.index, x.last, x.bundle, x.trunk, x.branch, at.Unix(), x.tag, stamp(at),
		}},
		{"trytes", trytesEvent{x.hash, x.trytes, stamp(at)}},
	}
}

type trytesEvent struct {
	TxHash    trinary.Hash   `json:"txHash"`
	Trytes    trinary.Trytes `json:"trytes"`
	Timestamp string         `json:"timestamp"`
}

// confirmed is what is published of a transaction that a milestone confirmed.
func confirmed(x *tx, at time.Time) []event {
	return []event{
		{"conf_trytes", struct {
			trytesEvent
			MsIndex int `json:"msIndex"`
		}{trytesEvent{x.hash, x.trytes, stamp(at)}, x.included}},
		{"sn", struct {
			MsIndex   int          `json:"msIndex"`
			TxHash    trinary.Hash `json:"txHash"`
			Address   trinary.Hash `json:"address"`
			Trunk     trinary.Hash `json:"trunk"`
			Branch    trinary.Hash `json:"branch"`
			Bundle    trinary.Hash `json:"bundle"`
			Timestamp string       `json:"timestamp"`
		}{x.included, x.hash, x.address, x.trunk, x.branch, x.bundle, stamp(at)}},
	}
}

// issued is what is published of a milestone, before what it confirmed.
func issued(m *ms) []event {
	at := stamp(m.at)
	type milestone struct {
		Index     int          `json:"index"`
		Hash      trinary.Hash `json:"hash"`
		Timestamp string       `json:"timestamp"`
	}
	return []event{
		{"lmi", struct {
			PrevLMI   int    `json:"prevLMI"`
			LMI       int    `json:"lmi"`
			Timestamp string `json:"timestamp"`
		}{m.index - 1, m.index, at}},
		{"lmhs", struct {
			SolidMilestoneHash trinary.Hash `json:"solidMilestoneHash"`
			Timestamp          string       `json:"timestamp"`
		}{m.hash, at}},
		{"lm", milestone{m.index, m.hash, at}},
		{"lmsi", struct {
			PrevSMI   int    `json:"prevSMI"`
			SMI       int    `json:"smi"`
			Timestamp string `json:"timestamp"`
		}{m.index - 1, m.index, at}},
		{"lsm", milestone{m.index, m.hash, at}},
	}
}

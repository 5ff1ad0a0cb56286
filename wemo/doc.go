// Package wemo turns power measurements into MQTT streams.
//
// A [Source] measures. A [Poller] reads it twice a second and hands readings,
// averages and its status to a [Publisher]:
//
//	publisher := &mqtt.Publisher{Broker: mqtt.Broker{URL: "mqtt://127.0.0.1"}, Status: "sensor/status", Log: log}
//	poller := &wemo.Poller{
//		Source:    &insight.Plug{Address: "192.168.1.20", Log: log},
//		Publisher: publisher,
//		Live:      "sensor/live",
//		Average:   "sensor/1m",
//		Log:       log,
//	}
//	err := publisher.Run(ctx, poller.Run)
//
// # Where a new source goes
//
// Each kind of device has a package of its own below this one: insight (Belkin
// WeMo Insight), shelly (Shelly by HTTP), mqtt (whatever publishes its power on
// a broker: Tasmota, zigbee2mqtt, Shelly). A source for Tasmota's HTTP API
// would be the package wemo/tasmota: one file with a type that implements
// [Source], a recorded answer in testdata, and one case in the function of
// cmd/iotoll that builds the source of a plug. [Backoff], [ParsePower] and
// [SplitAddress] are what sources share; wemo/shelly is the shortest example.
// None of these packages imports another.
//
// # What is published
//
// The live topic carries each reading as it arrives, at most one in each
// interval of 500 ms, by default as plain decimal milliwatts. It is never
// retained, never queued and never sent late.
//
// The average topic carries one retained value a minute: the time-weighted mean
// of the minute just past. A sliding average would give the live readings away:
// two consecutive ones differ by (newest − oldest) ÷ count. If less than half
// of a minute was measured, its payload is null, so that every payload on the
// topic is a JSON value, a number or null.
//
// The status topic carries a retained [Status], a JSON object. It tells "0 W"
// from "no data", and says why there is no data:
//
//		{"online":true,"since":"2026-11-22T17:00:00Z","last_seen":"2026-11-22T17:00:00Z"}
//		{"online":false,"reason":"starting","since":"2026-11-22T17:00:00Z"}
//		{"online":false,"reason":"stale","since":"2026-11-22T17:05:00Z","last_seen":"2026-11-22T17:04:55Z"}
//		{"online":false,"reason":"refused","refused":{"sensor/live":"not authorized"},"since":…,"last_seen":…}
//		{"online":true,"refused":{"sensor/1m":"not authorized"},"since":…,"last_seen":…}
//		{"online":false,"reason":"stopped","since":…,"last_seen":…}
//		{"online":false,"reason":"lost"}
//
//	  - online: live readings arrive at the broker.
//	  - reason: why they do not. starting: no reading yet. stale: the plug brings
//	    no readings. refused: it does, but the broker takes none on the live topic.
//	    stopped: the publisher was shut down. lost: the publisher's connection to
//	    the broker broke; this is its last will.
//	  - refused: the topics on which publishing fails, each with the broker's
//	    reason, or "no acknowledgement within 5s".
//	  - since: when online and reason became what they are.
//	  - last_seen: when the newest reading was taken.
//
// Fields that do not apply are absent. Field names and reasons are stable; later
// versions may add more of both. A buyer whose paid time is over still sees
// "online":true here: the status is about the stream, not about a subscriber.
package wemo

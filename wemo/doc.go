// Package wemo measures power and publishes it over MQTT.
//
// A [Source] measures: [Plug] is a Belkin WeMo Insight on the local network.
// A [Poller] reads a source twice a second and hands what it read to a
// [Publisher]; [Broker] is the one for MQTT. [Search] finds plugs, [Client]
// talks to one.
//
//	broker := &wemo.Broker{URL: "mqtt://127.0.0.1:1883", Status: "sensor/status", Log: log}
//	poller := &wemo.Poller{
//		Source:    &wemo.Plug{Address: "192.168.1.20", Log: log},
//		Publisher: broker,
//		Live:      "sensor/live",
//		Average:   "sensor/1m",
//		Log:       log,
//	}
//	err := broker.Run(ctx, poller.Run)
//
// # What is published
//
// The live topic carries each reading as it arrives, at most one in each half
// second, by default as plain decimal milliwatts. It is never retained, never
// queued and never sent late.
//
// The average topic carries, once a minute and retained, the time-weighted
// mean of the minute just past. A sliding average would give the live readings
// away: two consecutive ones differ by (newest − oldest) ÷ count. A minute of
// which less than half was measured has no mean; its payload is null, so that
// every payload on the topic is a JSON value, a number or null.
//
// The status topic carries a retained [Status], which tells "0 W" from "no
// data". It is also the last will of the connection.
//
// # The plug
//
// The protocol is UPnP as Belkin speaks it: SSDP finds the plug, SOAP reads it.
// The device is weak, so a [Plug] has one request in flight, closes each
// connection, and waits longer after each failure. What cannot be read is an
// error, never 0 W.
//
// With [Plug].Events it also takes what the plug pushes (GENA) and hears where
// the plug says it is (SSDP). That spares the plug most requests; readings are
// published as often as before, and whenever nothing comes, it is polled.
package wemo

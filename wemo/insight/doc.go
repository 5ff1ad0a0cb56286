// Package insight reads a Belkin WeMo Insight, a smart plug, on the local
// network. [Plug] is a [wemo.Source]; [Search] finds plugs, [Client] talks to one.
//
// The protocol is UPnP as Belkin speaks it: SSDP finds the plug, SOAP reads it.
// The device is weak, so a Plug has one request in flight, closes each
// connection, and waits longer after each failure. A value that cannot be read
// is an error, never 0 W.
//
// With [Plug].Eventing a Plug also subscribes to the events that the plug sends
// (GENA) and hears its announcements (SSDP). That spares the plug most requests.
// Readings are published as often as before, and polling resumes whenever no
// events arrive.
package insight

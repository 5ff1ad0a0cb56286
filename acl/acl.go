// Package acl decides who may read, write and subscribe to which MQTT topic.
//
// It is pure: standard library only, no I/O, no clock, no logging. A caller
// builds a [Snapshot] from users and grants and calls [Snapshot.Decide]. A request
// is denied unless a rule permits it.
package acl

import "time"

// Access is a set of operations, with the bits that Mosquitto's ACL_CHECK uses
// (MOSQ_ACL_READ and so on in mosquitto_broker.h).
type Access uint8

// The operations that a broker asks about.
const (
	Read        Access = 1 << iota // deliver a message to the subject
	Write                          // accept a message from the subject
	Subscribe                      // accept a subscription; the topic is a filter
	Unsubscribe                    // end a subscription; the topic is a filter
)

// User is an account that may log in, with its static rights.
type User struct {
	Name      string  // the MQTT username, and so the subject of every request
	Password  string  // the stored hash, in a form that package password verifies
	Superuser bool    // may do everything
	Disabled  bool    // may neither log in nor do anything
	Rights    []Right // static rights, in addition to public filters and grants
}

// Right is a static right to the topics that a pattern matches.
type Right struct {
	// Pattern is a topic filter in which %u stands for the subject and %c for
	// the client ID, each as a whole level or part of one.
	Pattern string
	// Access is what the right allows. Read includes Subscribe.
	Access Access
}

// Grant is a subject's right to read the topics of some filters during
// [NotBefore, NotAfter). It is the part of a sold grant that a decision needs.
type Grant struct {
	ID        string   // the store's key
	Subject   string   // the MQTT username that it was sold to
	Offer     string   // the offer that it came from
	Filters   []Filter // the topics that it opens
	NotBefore time.Time
	NotAfter  time.Time // already cut back to the moment of a revocation
}

// Offer is something that is for sale: the part that a decision needs.
type Offer struct {
	ID      string   // the offer's
	Filters []Filter // the topics that it sells
}

// Request is one question from the broker.
type Request struct {
	Subject  string // the authenticated username; empty for an anonymous client
	ClientID string // only for %c patterns: clients choose it
	Topic    string // a topic, or a topic filter for Subscribe and Unsubscribe
	Access   Access // exactly one operation
}

package acl

import (
	"strings"
	"time"
)

// Reason says why a request was permitted or denied. The set is closed, so a
// reason can be the label of a counter.
type Reason uint8

// The reasons for denying, and then those for permitting.
const (
	NoSnapshot  Reason = iota // nothing is known of users and grants yet
	Stale                     // what is known of them is too old
	Malformed                 // not a topic or filter, or not exactly one operation
	Anonymous                 // not public, and no username
	UnknownUser               // not public, and no such user
	Disabled                  // not public, and the user is disabled
	NoRight                   // nothing opens this topic for this user
	NotYet                    // a grant that opens it has yet to begin
	Ended                     // a grant that opened it is over

	Public        // a public filter
	Static        // a static right
	Granted       // a grant
	Superuser     // the user may do everything
	Unsubscribing // ending a subscription is always permitted

	// Reasons is the number of reasons.
	Reasons = iota
)

var reasonNames = [Reasons]string{
	NoSnapshot: "no snapshot", Stale: "snapshot too old", Malformed: "malformed",
	Anonymous: "anonymous", UnknownUser: "unknown user", Disabled: "user disabled",
	NoRight: "no right", NotYet: "grant not begun", Ended: "grant ended",
	Public: "public", Static: "static right", Granted: "grant",
	Superuser: "superuser", Unsubscribing: "unsubscribe",
}

// String returns the reason in a few words.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown reason"
}

// Decision is the answer to a request. The zero Decision denies.
type Decision struct {
	Permit bool
	Reason Reason
	// Until is the instant from which the answer, or its reason, may be another
	// one without the snapshot having changed; the zero time if there is none.
	Until time.Time
	// Grant is the ID of the grant that decided, for Granted, NotYet and Ended.
	Grant string
	// PerClient says that a pattern with %c was looked at: the answer holds for
	// this client ID only.
	PerClient bool
}

// Decide answers a request from memory alone, without allocating or locking.
//
// Subscribing is permitted when some topic that the subject may read now could
// match: each delivery is asked about again, as Read.
func (s *Snapshot) Decide(r Request, now time.Time) Decision {
	if r.Access == Unsubscribe {
		return Decision{Permit: true, Reason: Unsubscribing}
	}
	if s == nil {
		return Decision{Reason: NoSnapshot}
	}
	q := question{text: r.Topic, client: r.ClientID, need: r.Access}
	var err error
	switch r.Access {
	case Read, Write:
		err = checkTopic(r.Topic)
	case Subscribe:
		q.filter = true
		q.need |= Read // which includes it
		q.text, err = subscription(r.Topic)
	default:
		return Decision{Reason: Malformed}
	}
	if err != nil {
		return Decision{Reason: Malformed}
	}
	if r.Access != Write {
		for _, f := range s.public {
			if q.opens(f.text) {
				return Decision{Permit: true, Reason: Public}
			}
		}
	}
	if r.Subject == "" {
		return Decision{Reason: Anonymous}
	}
	switch {
	case !s.loaded:
		return Decision{Reason: NoSnapshot}
	case !s.Fresh(now):
		return Decision{Reason: Stale}
	}
	var d Decision
	switch a := s.account(r.Subject); {
	case a == nil || a.user == nil:
		d.Reason = UnknownUser
	case a.disabled:
		d.Reason = Disabled
	default:
		d = a.decide(&q, r.Access, now.UnixMilli())
	}
	if tooOld := s.asOf.Add(s.maxAge); d.Until.IsZero() || d.Until.After(tooOld) {
		d.Until = tooOld
	}
	return d
}

// question is a well-formed request, without the subject.
type question struct {
	text   string // a topic or, if filter is set, a filter
	filter bool
	client string
	need   Access // any of these is enough
}

// opens reports whether a rule opens the topic, or some topic of the filter.
func (q *question) opens(rule string) bool {
	if q.filter {
		return overlaps(rule, q.text, q.client)
	}
	return matches(rule, q.text, q.client)
}

func (a *account) decide(q *question, access Access, now int64) Decision {
	if a.superuser {
		return Decision{Permit: true, Reason: Superuser}
	}
	d := Decision{Reason: NoRight}
	for i := range a.rules {
		rule := &a.rules[i]
		if rule.access&q.need == 0 {
			continue
		}
		if rule.perClient {
			d.PerClient = true
			if !expandable(q.client, strings.HasPrefix(rule.text, clientMark)) {
				continue
			}
		}
		if q.opens(rule.text) {
			return Decision{Permit: true, Reason: Static, PerClient: d.PerClient}
		}
	}
	if access == Write {
		return d
	}
	// Of the grants that open the topic: the live one that ends last, else the
	// one that begins next, else the one that ended last.
	var live, next, ended *interval
	for i := range a.grants {
		g := &a.grants[i]
		if !q.openedBy(g.filters) {
			continue
		}
		switch {
		case now < g.from:
			if next == nil || g.from < next.from {
				next = g
			}
		case now >= g.to:
			if ended == nil || g.to > ended.to {
				ended = g
			}
		case live == nil || g.to > live.to:
			live = g
		}
	}
	switch {
	case live != nil:
		d.Permit, d.Reason, d.Grant, d.Until = true, Granted, live.id, time.UnixMilli(live.to)
	case next != nil:
		d.Reason, d.Grant, d.Until = NotYet, next.id, time.UnixMilli(next.from)
	case ended != nil:
		d.Reason, d.Grant = Ended, ended.id
	}
	return d
}

func (q *question) openedBy(filters []Filter) bool {
	for _, f := range filters {
		if f.text != "" && q.opens(f.text) {
			return true
		}
	}
	return false
}

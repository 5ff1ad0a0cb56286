package acl

import (
	"strings"
	"time"
)

// Reason says why a request was permitted or denied. The set is closed, so a
// reason can be the label of a counter.
type Reason uint8

// The reasons for denying, then those for permitting.
const (
	NoSnapshot  Reason = iota // users and grants have not been loaded yet
	Stale                     // the snapshot is older than its maximum age
	Malformed                 // not a topic or filter, or not exactly one operation
	Anonymous                 // not public, and the client has no username
	UnknownUser               // not public, and there is no such user
	Disabled                  // not public, and the user is disabled
	NoRight                   // no rule or grant opens this topic for this user
	NotYet                    // a grant that opens the topic begins later
	Ended                     // a grant that opened the topic has ended

	Public        // a public filter
	Static        // a static right
	Granted       // a grant
	ForSale       // a subscription to what is for sale: no delivery before it is paid for
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
	ForSale: "for sale", Superuser: "superuser", Unsubscribing: "unsubscribe",
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
	// Until is the instant at which the same snapshot may give another answer or
	// reason; the zero time if it never does.
	Until time.Time
	// Grant is the ID of the grant behind Granted, NotYet and Ended.
	Grant string
	// PerClient is true if a pattern with %c was compared: the answer holds only
	// for this client ID.
	PerClient bool
}

// Decide answers a request from memory alone, without allocating or locking.
//
// A subscription is permitted if the subject may read some topic that it matches
// now, because the broker asks again, as Read, for each delivery. For the same reason,
// a user's subscription is permitted if some topic that it matches is for sale: a
// client that subscribed before its user paid need not reconnect. A shared
// subscription is permitted only if one rule covers its whole filter: the broker
// hands each message to one member of the group, so a member without the right
// to read it would keep it from the others.
//
// Every user may read iotoll/account/ followed by its own name. Public filters, grants
// and offers do not open the topics of accounts; static rights do.
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
		q.need |= Read // the right to read includes the right to subscribe
		q.text, q.shared, err = subscription(r.Topic)
	default:
		return Decision{Reason: Malformed}
	}
	if err != nil {
		return Decision{Reason: Malformed}
	}
	q.personal = q.isPersonal()
	if r.Access != Write && (q.isBuiltin() || q.openedBy(s.public)) {
		return Decision{Permit: true, Reason: Public}
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
		if !d.Permit && q.filter && !q.shared && !s.refuseUnpaid && q.openedBy(s.forSale) {
			d.Permit, d.Reason, d.Grant = true, ForSale, ""
		}
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
	shared bool // the filter of a shared subscription
	client string
	need   Access // any of these is enough
	// personal means that no public filter, grant or offer opens it; see isPersonal.
	personal bool
}

const (
	// Everybody may read these topics: what is for sale, and the key that seals a
	// sign-up. Buyers need both before they have an account.
	offersTopic = "iotoll/offers"
	signupTopic = "$SYS/broker/iotoll/signup"

	// accounts is the level above each account's own topic.
	accounts = "iotoll/account"
	// ownAccount is the rule that each user has, with clientMark for its name.
	ownAccount = accounts + "/" + clientMark
)

// isBuiltin reports whether offersTopic or signupTopic opens what is asked.
func (q *question) isBuiltin() bool {
	if q.filter {
		return q.opens(offersTopic) || q.opens(signupTopic)
	}
	return q.text == offersTopic || q.text == signupTopic
}

// isPersonal reports whether all topics of the question are those of accounts. For a
// shared subscription, one is enough: a member who may not read it would keep it from
// the others.
func (q *question) isPersonal() bool {
	if q.shared {
		return overlaps(accounts+"/#", q.text, "")
	}
	rest, ok := strings.CutPrefix(q.text, accounts)
	return ok && (rest == "" || rest[0] == '/')
}

// opens reports whether a rule opens the topic, some topic of the filter or, for
// a shared subscription, all topics of the filter.
func (q *question) opens(rule string) bool {
	switch {
	case q.shared:
		return covers(rule, q.text, q.client)
	case q.filter:
		return overlaps(rule, q.text, q.client)
	}
	return matches(rule, q.text, q.client)
}

func (a *account) decide(q *question, access Access, now int64) Decision {
	if a.superuser {
		return Decision{Permit: true, Reason: Superuser}
	}
	if access != Write && (q.filter || q.personal) && expandable(a.name, false) {
		own := *q
		own.client = a.name
		if own.opens(ownAccount) {
			return Decision{Permit: true, Reason: Static}
		}
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
	// Of the grants that open the topic, the live one that ends last decides, else
	// the one that begins next, else the one that ended last.
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

// openedBy reports whether a public filter, or one that is sold, opens what is asked.
func (q *question) openedBy(filters []Filter) bool {
	if q.personal {
		return false
	}
	for _, f := range filters {
		if f.text != "" && q.opens(f.text) {
			return true
		}
	}
	return false
}

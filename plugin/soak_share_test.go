//go:build soak

package main

import "time"

// group is a shared subscription with its members. Of each message, one of them must
// receive it. A member may lose what it is handed between the end of its right and the
// end of its session, which the broker ends for that reason.
//
// All sessions here end with their connection. TestBrokerEndedMemberStarvesNobody has the
// others.
type group struct {
	filter  string
	topics  []int
	members []*listener
}

// handedOut compares what the members of a group got with the one message that was
// published between t0 and t1.
func (s *soak) handedOut(g *group, index int, payload string, t0, t1 time.Time) {
	s.t.Helper()
	var suspects, ended []*listener // who may have swallowed it; who must not read it
	joined, got := 0, 0
	for _, l := range g.members {
		if !l.online || l.filter == "" {
			continue
		}
		joined++
		now, v := time.Now(), s.model.may(l.user, index, t0, t1)
		l.sync()
		for len(l.inbox) > 0 {
			got++
			if d := <-l.inbox; d.payload != payload || !v.perhaps {
				s.t.Errorf("%s (u%d, %s): got %v, to which it has no right", l.id, l.user, l.filter, d)
				s.explain(l.user, index)
			}
		}
		if s.kicked(l, now) || !v.surely {
			suspects = append(suspects, l)
		}
		if !v.perhaps {
			ended = append(ended, l)
		}
	}
	switch {
	case joined == 0:
	case got == 1:
		s.counts.shared++
	case got > 1:
		s.t.Errorf("%s: %d members got message %s", g.filter, got, payload)
	case len(suspects) == 0:
		s.t.Errorf("%s: none of %d members got message %s, and each may read it", g.filter, joined, payload)
		for _, l := range g.members {
			if l.online && l.filter != "" {
				s.t.Logf("member %s", l.id)
				s.explain(l.user, index)
			}
		}
	default:
		s.counts.swallowed++
		for _, l := range ended {
			l.swallowed++
			s.counts.swallowedMost = max(s.counts.swallowedMost, l.swallowed)
		}
	}
}

// mayLeave reports whether a member's right may have ended since the broker was last seen
// to have its session.
func (g *group) mayLeave(m *model, l *listener) bool {
	// The right may have come back meanwhile.
	const late = 500 * time.Millisecond
	for _, topic := range g.topics {
		if !m.may(l.user, topic, l.seen.Add(-late), time.Now()).surely {
			return true
		}
	}
	return false
}

// mustLeave reports whether the broker must have ended the session of a member by now,
// since the member has been without its right for long.
func (g *group) mustLeave(m *model, l *listener, now time.Time) bool {
	for _, topic := range g.topics {
		if !m.may(l.user, topic, now.Add(-soakWindow), now).perhaps {
			return true
		}
	}
	return false
}

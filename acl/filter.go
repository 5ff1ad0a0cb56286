package acl

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxText is the longest topic, filter or name in bytes: what the two-byte
// length of an MQTT string can say (MQTT 5, section 1.5.4).
const maxText = 65535

// Filter is a parsed MQTT topic filter (MQTT 5, section 4.7). Filters are
// comparable; the zero Filter matches nothing.
type Filter struct{ text string }

// ParseFilter parses a topic filter. A shared subscription ($share/group/filter)
// is an error.
func ParseFilter(s string) (Filter, error) {
	if IsShared(s) {
		return Filter{}, fmt.Errorf("topic filter %s: is a shared subscription; leave out $share/ and the group", quote(s))
	}
	if err := checkFilter(s); err != nil {
		return Filter{}, fmt.Errorf("topic filter %s: %w", quote(s), err)
	}
	return Filter{s}, nil
}

// String returns the filter as it was parsed.
func (f Filter) String() string { return f.text }

// Matches reports whether the filter matches the topic. It is false for what is
// not a topic, and a first level + or # does not match a topic that begins
// with $ (MQTT 5, section 4.7.2).
func (f Filter) Matches(topic string) bool {
	return f.text != "" && checkTopic(topic) == nil && matches(f.text, topic, "")
}

// Covers reports whether f matches every topic that g matches.
func (f Filter) Covers(g Filter) bool {
	return f.text != "" && g.text != "" && covers(f.text, g.text, "")
}

// CheckTopic returns an error unless s is a topic that a client may publish to.
func CheckTopic(s string) error {
	if err := checkTopic(s); err != nil {
		return fmt.Errorf("topic %s: %w", quote(s), err)
	}
	return nil
}

// CheckName returns an error unless s is a usable username. The characters + # /
// are refused because %u in a pattern would let them act on other levels. A stored
// account whose name has them anyway gets nothing from %u patterns.
func CheckName(s string) error {
	err := checkText(s)
	if err == nil && strings.ContainsAny(s, "+#/") {
		err = errWildcardInName
	}
	if err != nil {
		return fmt.Errorf("username %s: %w", quote(s), err)
	}
	return nil
}

// CheckPattern returns an error unless s is a topic filter. In it, %u and %c stand
// for the username and the client ID.
func CheckPattern(s string) error {
	if _, err := ParseFilter(s); err != nil {
		return fmt.Errorf("pattern of a right: %w", err)
	}
	return nil
}

// These errors are made once, so that a decision can check a client's input without
// allocating.
var (
	errEmpty          = errors.New("is empty")
	errTooLong        = fmt.Errorf("is longer than %d bytes", maxText)
	errNotUTF8        = errors.New("is not UTF-8")
	errNUL            = errors.New("contains a NUL character")
	errWildcard       = errors.New("contains + or #, which only a filter may")
	errWildcardInName = errors.New("contains + # or /, which have a meaning in topics")
	errPlus           = errors.New("+ must be a whole level, as in a/+/b")
	errHash           = errors.New("# must be the whole last level, as in a/#")
	errGroup          = errors.New("wants $share/group/filter with a group without + and #")
)

func checkText(s string) error {
	switch {
	case s == "":
		return errEmpty
	case len(s) > maxText:
		return errTooLong
	case strings.IndexByte(s, 0) >= 0:
		return errNUL
	case !utf8.ValidString(s):
		return errNotUTF8
	}
	return nil
}

func checkTopic(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if strings.IndexByte(s, '+') >= 0 || strings.IndexByte(s, '#') >= 0 {
		return errWildcard
	}
	return nil
}

func checkFilter(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	for more := true; more; {
		var level string
		level, s, more = strings.Cut(s, "/")
		if strings.IndexByte(level, '#') >= 0 && (level != "#" || more) {
			return errHash
		}
		if strings.IndexByte(level, '+') >= 0 && level != "+" {
			return errPlus
		}
	}
	return nil
}

// sharePrefix begins a shared subscription (MQTT 5, section 4.8.2).
const sharePrefix = "$share/"

// IsShared reports whether s, as sent in SUBSCRIBE, is a shared subscription.
func IsShared(s string) bool { return strings.HasPrefix(s, sharePrefix) }

// subscription parses the text of a SUBSCRIBE: a topic filter, or $share/group/filter.
func subscription(s string) (filter string, shared bool, err error) {
	if !IsShared(s) {
		return s, false, checkFilter(s)
	}
	if len(s) > maxText {
		return "", true, errTooLong
	}
	group, filter, ok := strings.Cut(s[len(sharePrefix):], "/")
	if !ok || checkTopic(group) != nil {
		return "", true, errGroup
	}
	return filter, true, checkFilter(filter)
}

// quote formats a client's input, which may be 64 KiB long, for an error.
func quote(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%.60q... (%d bytes)", s, len(s))
	}
	return fmt.Sprintf("%q", s)
}

// The first filter of the functions below may be a rule made by expand, with
// clientMark where the client ID goes. All texts are valid and not empty.

// matches reports whether the filter matches the topic.
func matches(filter, topic, client string) bool {
	if topic[0] == '$' && wild(filter) {
		return false
	}
	for {
		level, rest, more := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		topicLevel, topicRest, topicMore := strings.Cut(topic, "/")
		switch {
		case level != "+" && !same(level, topicLevel, client):
			return false
		case !topicMore:
			return !more || rest == "#" // a/# matches a, too
		case !more:
			return false
		}
		filter, topic = rest, topicRest
	}
}

// covers reports whether f matches every topic that g matches.
func covers(f, g, client string) bool {
	f, g = longer(f), longer(g)
	if wild(f) && g[0] == '$' {
		return false
	}
	for {
		level, rest, more := strings.Cut(f, "/")
		if level == "#" {
			return true
		}
		other, otherRest, otherMore := strings.Cut(g, "/")
		switch {
		case other == "#", level != "+" && !same(level, other, client):
			return false
		case !otherMore:
			return !more || rest == "#"
		case !more:
			return false
		}
		f, g = rest, otherRest
	}
}

// longer rewrites the two filters whose last level # would match no level at all
// only in the empty topic, which does not exist.
func longer(f string) string {
	switch f {
	case "#":
		return "+/#"
	case "/#":
		return "/+/#"
	}
	return f
}

// overlaps reports whether some topic is matched by both filters.
func overlaps(f, g, client string) bool {
	if wild(f) && g[0] == '$' || wild(g) && f[0] == '$' {
		return false
	}
	if f == "+" && g == "/#" || f == "/#" && g == "+" {
		return false // they share only the empty topic, which does not exist
	}
	for {
		level, rest, more := strings.Cut(f, "/")
		other, otherRest, otherMore := strings.Cut(g, "/")
		switch {
		case level == "#", other == "#":
			return true
		case level != "+" && other != "+" && !same(level, other, client):
			return false
		case !more:
			return !otherMore || otherRest == "#"
		case !otherMore:
			return rest == "#"
		}
		f, g = rest, otherRest
	}
}

// wild reports whether the first level of a filter is a wildcard.
func wild(filter string) bool { return filter[0] == '+' || filter[0] == '#' }

// same reports whether a level of a rule equals text once client replaces each
// clientMark.
func same(level, text, client string) bool {
	for {
		before, after, marked := strings.Cut(level, clientMark)
		if !marked {
			return level == text
		}
		var ok bool
		if text, ok = strings.CutPrefix(text, before); !ok {
			return false
		}
		if text, ok = strings.CutPrefix(text, client); !ok {
			return false
		}
		level = after
	}
}

// clientMark stands for the client ID in an expanded pattern. No filter and no name
// can contain this character.
const clientMark = "\x00"

// expand turns the pattern of a right into a rule: the subject replaces %u, and
// clientMark replaces %c. ok is false if the right does not apply because the
// pattern is not a filter or the subject would span levels.
func expand(pattern, subject string) (rule string, ok bool) {
	if _, err := ParseFilter(pattern); err != nil {
		return "", false
	}
	if strings.Contains(pattern, "%u") && !expandable(subject, pattern[0] == '%') {
		return "", false
	}
	// One pass over the pattern: a subject named "%c" stays what it is.
	rule = strings.NewReplacer("%u", subject, "%c", clientMark).Replace(pattern)
	return rule, len(rule) <= maxText
}

// expandable reports whether a name is plain text of one level. At the start of a
// rule it must not open the $ topics either.
func expandable(name string, first bool) bool {
	return checkText(name) == nil && !strings.ContainsAny(name, "+#/") && !(first && name[0] == '$')
}

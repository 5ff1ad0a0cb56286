package legacy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxMessage is how many trytes of a message are kept: more than any message has
// that can be read.
const maxMessage = 16384

// doubt separates messages of which nobody can tell which one counts.
const doubt = "\n-- the same transfer also says: --\n"

// message is what an output of a bundle says.
type message struct {
	text       []byte // decoded; the trytes themselves, without padding, if unreadable
	unreadable string // why it could not be decoded; empty if it could
}

// trytesText collects the trytes of a message. A message begins with an output
// and runs on through transactions without value. A transaction's fragment has an
// odd number of trytes and a character two, so that they are decoded together.
type trytesText struct {
	kept  []byte // the first of them
	count int    // of all
	end   int    // up to where they are not padding
}

func (t *trytesText) add(fragment string) {
	if content := len(strings.TrimRight(fragment, "9")); content > 0 {
		t.end = t.count + content
	}
	t.count += len(fragment)
	t.kept = append(t.kept, fragment[:min(len(fragment), maxMessage-len(t.kept))]...)
}

// decode returns the message that the trytes encode, without padding: each pair
// is a byte, its first tryte the lower digit in base 27, as in iota.go's
// encoding/ascii. Bytes beyond ASCII are taken as they are, since PyOTA writes
// UTF-8 like that. Trytes that are not exactly such an encoding are not made to
// fit: two names could become one.
func (t *trytesText) decode() message {
	const alphabet = "9ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	trytes := t.kept[:min(t.end, len(t.kept))]
	unreadable := func(format string, args ...any) message {
		return message{bytes.Clone(trytes), fmt.Sprintf(format, args...)}
	}
	if t.end%2 != 0 && t.end == t.count { // no padding that the second tryte could be
		return unreadable("the message ends in the middle of a character")
	}
	var text []byte
	for i := 0; i < len(trytes); i += 2 {
		high := byte('9')
		if i+1 < len(trytes) {
			high = trytes[i+1]
		}
		code := strings.IndexByte(alphabet, trytes[i]) + 27*strings.IndexByte(alphabet, high)
		if code < 0 || code > 255 {
			return unreadable("character %d of the message, trytes %c%c, is not in the encoding", i/2+1, trytes[i], high)
		}
		text = append(text, byte(code))
	}
	m := message{text: text}
	if t.end > len(t.kept) {
		m.unreadable = fmt.Sprintf("the message has %d bytes, more than %d", (t.end+1)/2, maxMessage/2)
	}
	return m
}

// join returns what several outputs of a bundle, or several attachments of it,
// say. If two differ, nobody can tell which is the payer's.
func join(messages []message) message {
	messages = slices.DeleteFunc(slices.Clone(messages), func(m message) bool { return len(m.text) == 0 })
	slices.SortFunc(messages, func(a, b message) int {
		return cmp.Or(bytes.Compare(a.text, b.text), cmp.Compare(a.unreadable, b.unreadable))
	})
	messages = slices.CompactFunc(messages, func(a, b message) bool {
		return a.unreadable == b.unreadable && bytes.Equal(a.text, b.text)
	})
	switch len(messages) {
	case 0:
		return message{}
	case 1:
		return messages[0]
	}
	var texts [][]byte
	for _, m := range messages[:min(len(messages), 10)] {
		texts = append(texts, m.text)
	}
	all := bytes.Join(texts, []byte(doubt))
	return message{all[:min(len(all), 2*maxMessage)], fmt.Sprintf("the same transfer has %d different messages", len(messages))}
}

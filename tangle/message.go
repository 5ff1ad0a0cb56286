package tangle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxMessage is the longest message in bytes that is read. A longer one is held.
const maxMessage = 4096

// Message is what a payment says: whose it is, and perhaps what it is for.
type Message struct {
	Username string // who is to have what was paid for; empty if only Signup says so
	Offer    string // an offer's ID; empty if the deposit address decides
	Signup   string // a sealed sign-up (package signup); empty if there is none
}

// ParseMessage reads a payment's message, {"username": "john"} or a sealed sign-up,
// {"signup": "AWY-..."}, optionally with "offer": "live". It may hold both. It is a
// JSON object (RFC 8259) in UTF-8 of at most 4 KiB.
// Names are compared exactly, each may occur once, and unknown ones are passed
// over. Anything that could be read in two ways is refused: a payment for the
// wrong person cannot be taken back, one that is held can be assigned.
func ParseMessage(text []byte) (Message, error) {
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return Message{}, errors.New("there is no message")
	case len(text) > maxMessage:
		return Message{}, fmt.Errorf("the message has %d bytes, more than %d", len(text), maxMessage)
	case !utf8.Valid(text):
		return Message{}, errors.New("the message is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return Message{}, errors.New("the message is not a JSON object")
	}
	var m Message
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return Message{}, fmt.Errorf("the message is not JSON: %w", err)
		}
		name, ok := t.(string)
		if !ok {
			return Message{}, errors.New("the message is not a JSON object")
		}
		if seen[name] {
			return Message{}, fmt.Errorf("the message has %.80q twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return Message{}, fmt.Errorf("the message is not JSON: %w", err)
		}
		switch name {
		case "username":
			m.Username, err = parseText(value)
		case "offer":
			m.Offer, err = parseText(value)
		case "signup":
			m.Signup, err = parseText(value)
		}
		if err != nil {
			return Message{}, fmt.Errorf("the message's %q %w", name, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return Message{}, fmt.Errorf("the message is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Message{}, errors.New("trailing data after the JSON object of the message")
	}
	if !seen["username"] && !seen["signup"] {
		return Message{}, errors.New("the message names no username")
	}
	return m, nil
}

// parseText reads a JSON string that is not empty.
func parseText(value json.RawMessage) (string, error) {
	if len(value) == 0 || value[0] != '"' {
		return "", errors.New("is not a string")
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", fmt.Errorf("is not a string: %w", err)
	}
	switch {
	case s == "":
		return "", errors.New("is empty")
	// encoding/json puts U+FFFD for half a surrogate pair: two texts that differ
	// would become the same name.
	case strings.ContainsRune(s, utf8.RuneError):
		return "", errors.New("has a character that does not exist")
	case strings.ContainsRune(s, 0): // not in an MQTT string (MQTT 5, section 1.5.4)
		return "", errors.New("has a NUL character")
	}
	return s, nil
}

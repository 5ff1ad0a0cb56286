package signup

import (
	"bytes"
	"crypto/hpke"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Key is a key pair of the seller's. Its private half never leaves the store.
type Key struct {
	private hpke.PrivateKey
	// NotAfter is when buyers stop sealing with it. Open accepts it for longer:
	// what was sealed in time may be final late.
	NotAfter time.Time
}

// NewKey returns a random key that is announced until notAfter.
func NewKey(notAfter time.Time) (Key, error) {
	private, err := kem.GenerateKey()
	if err != nil {
		return Key{}, fmt.Errorf("generate sign-up key: %w", err)
	}
	return Key{private: private, NotAfter: notAfter.UTC().Truncate(time.Second)}, nil
}

// ParseKey returns the key whose private half [Key.Private] returned.
func ParseKey(private []byte, notAfter time.Time) (Key, error) {
	k, err := kem.NewPrivateKey(private)
	if err != nil {
		return Key{}, errors.New("parse sign-up key: not an X25519 private key")
	}
	return Key{private: k, NotAfter: notAfter.UTC()}, nil
}

// Private returns the private half for the store: 32 secret bytes.
func (k Key) Private() ([]byte, error) { return k.private.Bytes() }

// ID returns the key's ID, as in [Announcement].
func (k Key) ID() string { return keyID(k.private.PublicKey().Bytes()) }

// Announcement returns the public half.
func (k Key) Announcement() Announcement {
	public := k.private.PublicKey().Bytes()
	return Announcement{
		Version: version, KeyID: keyID(public), Suite: Suite,
		Public: base64.RawURLEncoding.EncodeToString(public), NotAfter: k.NotAfter,
	}
}

// Keys are the keys with which sealed texts are still opened. They overlap: a new
// one is announced before the earlier one is retired.
type Keys []Key

// Open returns the credentials that a buyer sealed for a payment with this
// context. The error wraps [ErrKey], [ErrSealed] or [ErrCredentials], and holds
// nothing of what was sealed.
func (keys Keys) Open(text string, in Context) (Credentials, error) {
	if base64.RawURLEncoding.DecodedLen(len(text)) > maxSealed {
		return Credentials{}, fmt.Errorf("%w: longer than %d bytes", ErrSealed, maxSealed)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < headerLen+encLen || raw[0] != version {
		return Credentials{}, ErrSealed
	}
	id, enc, sealed := hex.EncodeToString(raw[1:headerLen]), raw[headerLen:headerLen+encLen], raw[headerLen+encLen:]
	for _, k := range keys {
		if k.ID() != id {
			continue
		}
		recipient, err := hpke.NewRecipient(enc, k.private, kdf, aead, in.info())
		if err != nil {
			return Credentials{}, ErrSealed
		}
		plain, err := recipient.Open([]byte(in.Offer), sealed)
		if err != nil {
			return Credentials{}, ErrSealed
		}
		return parseCredentials(plain)
	}
	return Credentials{}, fmt.Errorf("%w: %s", ErrKey, id)
}

// parseCredentials reads the JSON object of version 1. Names are compared exactly,
// each occurs once, and there are no others, so that no reader sees other
// credentials than we do.
func parseCredentials(plain []byte) (Credentials, error) {
	var c Credentials
	fields := map[string]*string{"username": &c.Username, "verifier": &c.Verifier}
	malformed := fmt.Errorf("%w: not the JSON object of version 1", ErrCredentials)
	d := json.NewDecoder(bytes.NewReader(plain))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return Credentials{}, malformed
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return Credentials{}, malformed
		}
		text, _ := name.(string)
		field := fields[text]
		if field == nil || d.Decode(field) != nil {
			return Credentials{}, malformed
		}
		delete(fields, text)
	}
	if _, err := d.Token(); err != nil {
		return Credentials{}, malformed
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Credentials{}, fmt.Errorf("%w: trailing data after the JSON object", ErrCredentials)
	}
	return c, c.check()
}

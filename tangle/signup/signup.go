// Package signup lets a stranger name the account that a payment is to open,
// inside the payment, readable by the seller alone.
//
// The seller publishes an [Announcement], the public half of a [Key]. The
// buyer's program generates a password, keeps it, and seals its verifier
// together with a username into the payment's message (HPKE, RFC 9180, mode
// base). Only the verifier travels, so that whoever reads it one day gains
// nothing but the name. docs/signup.md specifies the bytes for other
// implementations; testdata/vectors.json holds examples.
//
// What is sealed is bound to the ledger, the deposit address and the offer: a
// ciphertext that is copied into another payment can only pay the bill of the
// account that it names.
package signup

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/iotoll/iotoll/acl/password"
)

// Suite names the algorithms of version 1, the only ones so far.
const Suite = "X25519-HKDF-SHA256-ChaCha20Poly1305"

const (
	version   = 1
	keyIDLen  = 4  // bytes of the SHA-256 of the public key
	encLen    = 32 // bytes of an encapsulated X25519 key
	headerLen = 1 + keyIDLen
	// maxSealed bounds the bytes of a sealed text: a username of 256 bytes that
	// JSON escapes, and a verifier, leave ample room.
	maxSealed = 4096
)

var (
	kem  = hpke.DHKEM(ecdh.X25519())
	kdf  = hpke.HKDFSHA256()
	aead = hpke.ChaCha20Poly1305()
)

// Errors that [Keys.Open] wraps.
var (
	// ErrKey means that no key of ours has the ID: it was retired, or the text was
	// sealed for another seller.
	ErrKey = errors.New("sealed for a key that is not in use")
	// ErrSealed means that the text is damaged, or was sealed for another ledger,
	// deposit address or offer.
	ErrSealed = errors.New("damaged, or sealed for another address or offer")
	// ErrCredentials means that the text opened and holds no usable credentials.
	ErrCredentials = errors.New("credentials are not usable")
)

// Context is what a sealed text is bound to.
type Context struct {
	Ledger  string // the ledger's name, as in tangle.Payment
	Address string // the deposit address, in its canonical form
	Offer   string // the offer's ID
}

// info returns the info parameter of HPKE: the version, then ledger and address,
// each ended by a zero byte, which neither contains.
func (c Context) info() []byte {
	return []byte("iotoll signup v1\x00" + c.Ledger + "\x00" + c.Address + "\x00")
}

// Credentials are the account that a buyer asks for.
type Credentials struct {
	Username string `json:"username"`
	// Verifier is the hash of a generated password (package acl/password).
	Verifier string `json:"verifier"`
}

// Announcement is what buyers' programs need to seal. Its JSON form is published.
type Announcement struct {
	Version  int       `json:"v"`
	KeyID    string    `json:"kid"`    // 8 hexadecimal digits
	Suite    string    `json:"suite"`  // see [Suite]
	Public   string    `json:"public"` // the public key, base64url without padding
	NotAfter time.Time `json:"not_after"`
}

// ParseAnnouncement reads the JSON form. The error says what about it is unknown,
// malformed or over at the instant now.
func ParseAnnouncement(text []byte, now time.Time) (Announcement, error) {
	var a Announcement
	if err := json.Unmarshal(text, &a); err != nil {
		return Announcement{}, fmt.Errorf("parse sign-up key: %w", err)
	}
	switch {
	case a.Version != version:
		return Announcement{}, fmt.Errorf("sign-up key: v is %d, want %d: use a newer release", a.Version, version)
	case a.Suite != Suite:
		return Announcement{}, fmt.Errorf("sign-up key: suite is %.80q, want %s", a.Suite, Suite)
	case !now.Before(a.NotAfter):
		return Announcement{}, fmt.Errorf("sign-up key: expired at %s", a.NotAfter.UTC().Format(time.RFC3339))
	}
	if _, err := a.key(); err != nil {
		return Announcement{}, err
	}
	return a, nil
}

func (a Announcement) key() (hpke.PublicKey, error) {
	raw, err := base64.RawURLEncoding.DecodeString(a.Public)
	if err != nil {
		return nil, fmt.Errorf("sign-up key: public is not base64url: %w", err)
	}
	key, err := kem.NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("sign-up key: public is not an X25519 key: %w", err)
	}
	if id := keyID(raw); id != a.KeyID {
		return nil, fmt.Errorf("sign-up key: kid is %.20q, but the public key's is %s", a.KeyID, id)
	}
	return key, nil
}

func keyID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:keyIDLen])
}

// Seal returns the text for the "signup" field of a payment's message: base64url
// without padding of the version, the key's ID, the encapsulated key and the
// ciphertext. Each call makes another text. The error is that of [Announcement]
// fields or of credentials that no seller would accept.
func (a Announcement) Seal(c Credentials, to Context) (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	public, err := a.key()
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode credentials: %w", err)
	}
	enc, sender, err := hpke.NewSender(public, kdf, aead, to.info())
	if err != nil {
		return "", fmt.Errorf("seal credentials: %w", err)
	}
	sealed, err := sender.Seal([]byte(to.Offer), plain)
	if err != nil {
		return "", fmt.Errorf("seal credentials: %w", err)
	}
	id, err := hex.DecodeString(a.KeyID)
	if err != nil {
		return "", fmt.Errorf("sign-up key: kid %.20q is not hexadecimal: %w", a.KeyID, err)
	}
	text := append([]byte{version}, id...)
	text = append(append(text, enc...), sealed...)
	if len(text) > maxSealed {
		return "", fmt.Errorf("seal credentials: %d bytes, want at most %d: use a shorter username", len(text), maxSealed)
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// check returns an error wrapping ErrCredentials unless the verifier is the hash
// of a generated password. Which names are allowed is the store's to say.
func (c Credentials) check() error {
	if c.Username == "" {
		return fmt.Errorf("%w: username is empty", ErrCredentials)
	}
	if !password.Cheap(c.Verifier) {
		return fmt.Errorf("%w: verifier is not the hash of a generated password", ErrCredentials)
	}
	if _, err := password.Verify(c.Verifier, ""); err != nil {
		return fmt.Errorf("%w: verifier: %w", ErrCredentials, err)
	}
	return nil
}

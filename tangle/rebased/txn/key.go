package txn

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcutil/bech32"
)

// Flags before keys and signatures say their scheme (SDK
// src/cryptography/signature-scheme.ts).
const flagEd25519 = 0

var schemes = map[byte]string{
	0: "Ed25519", 1: "Secp256k1", 2: "Secp256r1", 3: "MultiSig", 5: "zkLogin", 6: "Passkey", 7: "MoveAuthenticator",
}

func scheme(flag byte) string {
	if name := schemes[flag]; name != "" {
		return name
	}
	return fmt.Sprintf("of unknown scheme %d", flag)
}

// keyPrefix begins the text of a private key.
const keyPrefix = "iotaprivkey"

// maxKeyText bounds what is read as the text of a key; it has 70 characters.
const maxKeyText = 90

// Key is an Ed25519 private key. Printing it shows its address only.
type Key struct{ private ed25519.PrivateKey }

// NewKey returns a random key.
func NewKey() Key {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return Key{private}
}

// ParseKey reads a private key in the form of IOTA's wallets, iotaprivkey1…
// (bech32). Its errors do not repeat the text.
func ParseKey(text string) (Key, error) {
	if len(text) > maxKeyText {
		return Key{}, fmt.Errorf("private key: %d characters, want %s1… of 70", len(text), keyPrefix)
	}
	prefix, words, err := bech32.Decode(text)
	if err != nil {
		return Key{}, fmt.Errorf("private key: not bech32 with a valid checksum, want %s1… of 70 characters", keyPrefix)
	}
	if prefix != keyPrefix {
		return Key{}, fmt.Errorf("private key: want one that begins with %s1", keyPrefix)
	}
	b, err := bech32.ConvertBits(words, 5, 8, false)
	if err != nil || len(b) != 1+ed25519.SeedSize {
		return Key{}, errors.New("private key: want a scheme and 32 bytes")
	}
	if b[0] != flagEd25519 {
		return Key{}, fmt.Errorf("private key: its scheme is %s, want Ed25519", scheme(b[0]))
	}
	return Key{ed25519.NewKeyFromSeed(b[1:])}, nil
}

// Secret returns the key as text, iotaprivkey1…, as ParseKey reads it. It must
// be kept out of logs and errors.
func (k Key) Secret() string {
	words, err := bech32.ConvertBits(append([]byte{flagEd25519}, k.private.Seed()...), 8, 5, true)
	if err != nil {
		panic(err) // 8 bits always fit
	}
	text, err := bech32.Encode(keyPrefix, words)
	if err != nil {
		panic(err) // words are of 5 bits
	}
	return text
}

// String returns the address, never the secret.
func (k Key) String() string { return k.Address().String() }

// Format implements fmt.Formatter: every verb prints the address.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// Address returns the address that the key signs for.
func (k Key) Address() Address { return addressOf(k.public()) }

func (k Key) public() ed25519.PublicKey {
	return k.private.Public().(ed25519.PublicKey)
}

// addressOf returns the address of an Ed25519 key: the hash of the public key
// without a flag, unlike for the other schemes and unlike on Sui.
func addressOf(public ed25519.PublicKey) Address { return hash(public) }

// Intents: what is signed, version 0, application Iota (SDK
// src/cryptography/intent.ts).
var (
	intentTransaction = []byte{0, 0, 0}
	intentMessage     = []byte{3, 0, 0}
)

// Sign returns the signature of a transaction in BCS, in base64.
func (k Key) Sign(transaction []byte) string { return k.sign(intentTransaction, transaction) }

// SignMessage returns the signature of a personal message, in base64.
func (k Key) SignMessage(message []byte) string {
	return k.sign(intentMessage, PureString(string(message)))
}

func (k Key) sign(intent, body []byte) string {
	digest := hash(intent, body)
	s := append([]byte{flagEd25519}, ed25519.Sign(k.private, digest[:])...)
	return base64.StdEncoding.EncodeToString(append(s, k.public()...))
}

// maxSignatureText bounds what is read as a signature. One by Ed25519 has 132
// characters; the errors name other schemes, which have more.
const maxSignatureText = 8192

// ErrSignature means that a well-formed signature does not fit what was signed.
var ErrSignature = errors.New("signature does not match")

// Verify returns the address whose key signed a transaction in BCS. It returns
// an error that wraps ErrSignature if the signature is of something else, and
// another one if it is malformed or not Ed25519.
func Verify(transaction []byte, signature string) (Address, error) {
	return verify(intentTransaction, transaction, signature)
}

// VerifyMessage returns the address whose key signed a personal message, with
// the errors of Verify.
func VerifyMessage(message []byte, signature string) (Address, error) {
	return verify(intentMessage, PureString(string(message)), signature)
}

func verify(intent, body []byte, signature string) (Address, error) {
	const size = 1 + ed25519.SignatureSize + ed25519.PublicKeySize
	if len(signature) > maxSignatureText {
		return Address{}, fmt.Errorf("signature: %d characters, more than %d", len(signature), maxSignatureText)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(signature))
	if err != nil {
		return Address{}, errors.New("signature: not base64")
	}
	switch {
	case len(b) == 0:
		return Address{}, errors.New("signature: empty")
	case b[0] != flagEd25519:
		return Address{}, fmt.Errorf("signature: its scheme is %s, want Ed25519", scheme(b[0]))
	case len(b) != size:
		return Address{}, fmt.Errorf("signature: %d bytes, want %d", len(b), size)
	}
	public := ed25519.PublicKey(b[1+ed25519.SignatureSize:])
	digest := hash(intent, body)
	if !ed25519.Verify(public, digest[:], b[1:1+ed25519.SignatureSize]) {
		return Address{}, ErrSignature
	}
	return addressOf(public), nil
}

// Package password hashes and verifies the passwords of MQTT users.
//
// New hashes are argon2id in the PHC string format (RFC 9106). Those of
// mosquitto-auth-plug verify too: PBKDF2$sha256$iterations$salt$key, where the
// salt is used as the base64 text that it is written as.
//
// A slow hash limits how many passwords a thief of the store can try in a second.
// A password that [Generate] made has 130 random bits, which nobody finds at any
// speed. Its hash is therefore $generated-sha256$salt$key, the HMAC-SHA-256 of the
// password under the salt, which verifies in a microsecond. Such a password ends
// with a checksum, by which [Hash] tells it from one that a human chose.
package password

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a new hash, as OWASP recommends for argon2id: about 25 ms and 19 MiB
// for each login.
const (
	memory  = 19456 // KiB
	passes  = 2
	threads = 1
	saltLen = 16
	keyLen  = 32
)

// The greatest cost that a stored hash may ask for: a second or two, and 128 MiB. A
// hash that asks for more is refused before any work is done.
const (
	maxMemory     = 128 << 10 // KiB
	maxTime       = 10
	maxThreads    = 16
	maxIterations = 2_000_000
	maxBytes      = 128 // of salt, and of key
	minKey        = 16
)

// generatedPrefix begins the hash of a generated password.
const generatedPrefix = "$generated-sha256$"

// A generated password is 26 characters A-Z and 2-7 from crypto/rand, which hold 130
// random bits, and 6 characters of their digest.
const (
	randomLen   = 26
	checksumLen = 6
)

// ErrFormat is wrapped by the errors of [Verify]: the stored hash is not one
// that this package reads.
var ErrFormat = errors.New("not a password hash that iotoll reads")

// Generate returns a new random password of 32 characters.
func Generate() string {
	text := rand.Text()
	return text + checksum(text)
}

// checksum returns the end of a generated password, which no human would choose.
func checksum(text string) string {
	sum := sha256.Sum256([]byte("iotoll generated password\x00" + text))
	return base32.StdEncoding.EncodeToString(sum[:])[:checksumLen]
}

// isGenerated reports whether Generate made a password. One in a billion other texts
// of 32 characters passes as well.
func isGenerated(password string) bool {
	return len(password) == randomLen+checksumLen && checksum(password[:randomLen]) == password[randomLen:]
}

// Hash returns the hash of a password under a new random salt, in the PHC string
// format: argon2id, or the cheap one if [Generate] made the password.
func Hash(password string) (string, error) {
	if password == "" {
		return "", errors.New("password is empty")
	}
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails, see crypto/rand
	b64 := base64.RawStdEncoding
	if isGenerated(password) {
		return generatedPrefix + b64.EncodeToString(salt) + "$" + b64.EncodeToString(generatedKey(salt, password)), nil
	}
	key := argon2.IDKey([]byte(password), salt, passes, memory, threads, keyLen)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, threads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// Verify reports whether a password belongs to a stored hash. It compares in
// constant time. Its errors wrap ErrFormat and name nothing of the hash but its
// kind and cost.
func Verify(stored, password string) (bool, error) {
	verify, err := parse(stored)
	if err != nil {
		return false, err
	}
	return verify(password)
}

// Check returns an error wrapping ErrFormat unless [Verify] can compare passwords
// with a stored hash. It takes a microsecond, whatever the hash costs.
func Check(stored string) error {
	_, err := parse(stored)
	return err
}

// parse returns the function that compares passwords with a stored hash.
func parse(stored string) (func(password string) (bool, error), error) {
	kind, _, _ := strings.Cut(strings.TrimPrefix(stored, "$"), "$")
	switch {
	case kind == "argon2id" && stored[0] == '$':
		return parseArgon2id(stored)
	case kind == "PBKDF2" && stored[0] == 'P':
		return parsePBKDF2(stored)
	case Cheap(stored):
		return parseGenerated(stored)
	}
	return nil, fmt.Errorf("%w: it begins with none of $argon2id$, PBKDF2$ and %s", ErrFormat, generatedPrefix)
}

// Cheap reports whether a stored hash is that of a generated password, which
// [Verify] compares in a microsecond. Nobody can guess such a password, so its logins
// need no throttle.
func Cheap(stored string) bool { return strings.HasPrefix(stored, generatedPrefix) }

// parseGenerated reads $generated-sha256$salt$key.
func parseGenerated(stored string) (func(string) (bool, error), error) {
	salt, key, ok := strings.Cut(stored[len(generatedPrefix):], "$")
	if !ok {
		return nil, fmt.Errorf("%w: want %ssalt$key", ErrFormat, generatedPrefix)
	}
	s, err := decode(base64.RawStdEncoding, "salt", salt, saltLen)
	if err != nil {
		return nil, err
	}
	want, err := decode(base64.RawStdEncoding, "key", key, keyLen)
	if err != nil {
		return nil, err
	}
	return func(password string) (bool, error) {
		// Only a generated password is safe under this hash, however it got there.
		same := subtle.ConstantTimeCompare(generatedKey(s, password), want) == 1
		return same && isGenerated(password), nil
	}, nil
}

func generatedKey(salt []byte, password string) []byte {
	h := hmac.New(sha256.New, salt)
	h.Write([]byte(password))
	return h.Sum(nil)
}

// parseArgon2id reads $argon2id$v=19$m=19456,t=2,p=1$salt$key.
func parseArgon2id(stored string) (func(string) (bool, error), error) {
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return nil, fmt.Errorf("%w: want $argon2id$v=19$m=...,t=...,p=...$salt$key", ErrFormat)
	}
	if parts[2] != "v=19" {
		return nil, fmt.Errorf("%w: want argon2id version v=19", ErrFormat)
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return nil, fmt.Errorf("%w: want argon2id costs such as m=19456,t=2,p=1", ErrFormat)
	}
	var m, t, n int
	var err error
	for i, c := range []struct {
		name     string
		to       *int
		min, max int
	}{{"m=", &m, 8, maxMemory}, {"t=", &t, 1, maxTime}, {"p=", &n, 1, maxThreads}} {
		if *c.to, err = number(costs[i], c.name, c.min, c.max); err != nil {
			return nil, err
		}
	}
	if m < 8*n { // RFC 9106, section 3.1
		return nil, fmt.Errorf("%w: argon2id m=%d is less than 8 times p=%d", ErrFormat, m, n)
	}
	salt, err := decode(base64.RawStdEncoding, "salt", parts[4], 8)
	if err != nil {
		return nil, err
	}
	want, err := decode(base64.RawStdEncoding, "key", parts[5], minKey)
	if err != nil {
		return nil, err
	}
	return func(password string) (bool, error) {
		got := argon2.IDKey([]byte(password), salt, uint32(t), uint32(m), uint8(n), uint32(len(want)))
		return subtle.ConstantTimeCompare(got, want) == 1, nil
	}, nil
}

// parsePBKDF2 reads PBKDF2$sha256$901$salt$key as mosquitto-auth-plug's np wrote it.
func parsePBKDF2(stored string) (func(string) (bool, error), error) {
	parts := strings.Split(stored, "$")
	if len(parts) != 5 {
		return nil, fmt.Errorf("%w: want PBKDF2$sha256$iterations$salt$key", ErrFormat)
	}
	var digest func() hash.Hash
	switch parts[1] {
	case "sha1":
		digest = sha1.New
	case "sha256":
		digest = sha256.New
	case "sha512":
		digest = sha512.New
	default:
		return nil, fmt.Errorf("%w: PBKDF2 digest is none of sha1, sha256, sha512", ErrFormat)
	}
	iterations, err := number(parts[2], "", 1, maxIterations)
	if err != nil {
		return nil, err
	}
	salt := parts[3]
	if salt == "" || len(salt) > maxBytes {
		return nil, fmt.Errorf("%w: PBKDF2 salt has %d bytes, want 1 to %d", ErrFormat, len(salt), maxBytes)
	}
	key, err := decode(base64.StdEncoding, "key", parts[4], minKey)
	if err != nil {
		return nil, err
	}
	return func(password string) (bool, error) {
		got, err := pbkdf2.Key(digest, password, []byte(salt), iterations, len(key))
		if err != nil {
			return false, fmt.Errorf("derive PBKDF2 key: %w", err)
		}
		return subtle.ConstantTimeCompare(got, key) == 1, nil
	}, nil
}

// number reads a decimal number after a name, such as m=19456.
func number(s, name string, least, most int) (int, error) {
	digits, ok := strings.CutPrefix(s, name)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < least || n > most {
		return 0, fmt.Errorf("%w: a cost is %.20q, want %s%d to %d", ErrFormat, s, name, least, most)
	}
	return n, nil
}

// decode reads base64 of at least so many bytes.
func decode(enc *base64.Encoding, what, s string, least int) ([]byte, error) {
	b, err := enc.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: the %s is not base64", ErrFormat, what)
	}
	if len(b) < least || len(b) > maxBytes {
		return nil, fmt.Errorf("%w: the %s has %d bytes, want %d to %d", ErrFormat, what, len(b), least, maxBytes)
	}
	return b, nil
}

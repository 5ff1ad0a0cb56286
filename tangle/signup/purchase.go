package signup

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/iotoll/iotoll/acl/password"
)

// ErrPurchase is returned by [NewPurchase] if there is a journal.
var ErrPurchase = errors.New("a purchase is under way")

// Purchase is a buyer's account to be, in a journal on disk. Its password is made
// once, and is on disk before anything is sealed with its verifier, so that a
// purchase that was interrupted anywhere ends with the password that works.
type Purchase struct {
	Username string `json:"username"`
	Password string `json:"password"` // secret
	Verifier string `json:"verifier"`
	// Text is the payment's message, once it was sealed: sealing again would make
	// another one, and a payment that is sent again must be the same.
	Text   string  `json:"message,omitempty"`
	Sealed Context `json:"sealed_for,omitzero"` // what Text is bound to

	path string
}

// ProposeName returns a name that is free for all we know: it ends with 4 random
// characters.
func ProposeName(name string) string { return name + "-" + strings.ToLower(rand.Text()[:4]) }

// ReadPurchase returns the purchase in a journal; nil if there is no journal.
func ReadPurchase(path string) (*Purchase, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	p := &Purchase{path: path}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("read journal %s: not a journal of a purchase", path) // the error could quote the password
	}
	if ok, err := password.Verify(p.Verifier, p.Password); err != nil || !ok {
		return nil, fmt.Errorf("read journal %s: the password does not match its verifier", path)
	}
	return p, nil
}

// NewPurchase generates a password for a name, and returns once both are in a new
// journal, synchronized, which only the user can read. The error wraps
// [ErrPurchase], and nothing is changed, if there is one: also if another process
// made it in this instant.
func NewPurchase(path, username string) (*Purchase, error) {
	p := &Purchase{Username: username, Password: password.Generate(), path: path}
	var err error
	if p.Verifier, err = password.Hash(p.Password); err != nil {
		return nil, fmt.Errorf("hash generated password: %w", err)
	}
	// Unlike a rename, a link never replaces a file.
	err = p.write(os.Link)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: see %s", ErrPurchase, path)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Message returns the message for the payment. Sealed for the same ledger, address
// and offer before, it is the same. Otherwise it seals with a, and returns once the
// journal has the message.
func (p *Purchase) Message(a Announcement, to Context) (string, error) {
	if p.Text != "" && p.Sealed == to {
		return p.Text, nil
	}
	sealed, err := a.Seal(Credentials{Username: p.Username, Verifier: p.Verifier}, to)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(struct {
		Signup string `json:"signup"`
		Offer  string `json:"offer"`
	}{sealed, to.Offer})
	if err != nil {
		return "", fmt.Errorf("encode message: %w", err)
	}
	next := *p
	next.Text, next.Sealed = string(text), to
	if err := next.write(os.Rename); err != nil {
		return "", err
	}
	*p = next
	return p.Text, nil
}

// Done removes the journal. The password must be stored elsewhere by then.
func (p *Purchase) Done() error {
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove journal: %w", err)
	}
	return syncDirectory(filepath.Dir(p.path))
}

// write makes the journal: a synchronized file that place moves there.
func (p *Purchase) write(place func(from, to string) error) (err error) {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return errors.New("encode journal of a purchase") // the error could quote the password
	}
	f, err := os.CreateTemp(filepath.Dir(p.path), ".purchase-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := place(f.Name(), p.path); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return syncDirectory(filepath.Dir(p.path))
}

// syncDirectory makes what was moved into a directory, or removed, survive a power
// cut.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("synchronize directory of the journal: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("synchronize directory of the journal: %w", err)
	}
	return nil
}

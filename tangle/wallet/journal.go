package wallet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// entry is the payment in the journal. Everything needed to repeat or to
// recognise it is on disk before it is sent for the first time.
type entry struct {
	Chain     string `json:"chain"`
	To        string `json:"to"`
	Amount    int64  `json:"amount,string"` // nanos
	Memo      string `json:"memo"`
	Digest    string `json:"digest"`
	TxBytes   []byte `json:"txBytes"`
	Signature string `json:"signature"`
	Coin      string `json:"coin"`               // the first gas coin
	Version   uint64 `json:"version"`            // of that coin
	LastEpoch uint64 `json:"lastEpoch"`          // in which it can be executed
	Executed  bool   `json:"executed,omitempty"` // it is known to be
}

// same reports whether e pays the same as another payment would.
func (e *entry) same(to string, amount int64, memo string) bool {
	return e.To == to && e.Amount == amount && e.Memo == memo
}

func (e *entry) transfer() Transfer { return Transfer{Digest: e.Digest, Amount: e.Amount, To: e.To} }

// readJournal returns the entry, or nil if there is none.
func readJournal(path string) (*entry, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	e := new(entry)
	if err := json.Unmarshal(b, e); err != nil || e.Digest == "" || len(e.TxBytes) == 0 {
		return nil, fmt.Errorf("read journal: %s: not a journal: a payment may be under way that it does not show", path)
	}
	return e, nil
}

// writeJournal replaces the entry. When it returns nil, the entry survives a
// power cut.
func writeJournal(path string, e *entry) (err error) {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// clearJournal removes the entry.
func clearJournal(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear journal: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("clear journal: %w", err)
	}
	return nil
}

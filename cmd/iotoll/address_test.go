package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	seed := writeFile(t, "seller.seed", strings.Repeat("SELLER9OF9READINGS9", 5)[:80]+"9\n")
	if got := mustRun(t, "address", "--seed-file", seed); got != depositAddress+"\n" {
		t.Errorf("address 0: got %s want %s", got, depositAddress)
	}
	if got := mustRun(t, "address", "--seed-file", seed, "--index", "1"); got == depositAddress+"\n" || len(got) != 91 {
		t.Errorf("address 1: got %q, want another one", got)
	}
}

func TestAddressNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.seed")
	out := mustRun(t, "address", "--seed-file", path, "--new")
	if again := mustRun(t, "address", "--seed-file", path); again != out {
		t.Errorf("address: got %q and then %q from the same seed", out, again)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("seed file: got %v, %v, want mode 0600", info.Mode(), err)
	}
	if r := iotoll(t, "", "address", "--seed-file", path, "--new"); r.code != 1 || !strings.Contains(r.errOut, "file exists\nhint: without --new ") {
		t.Errorf("--new again: got %+v, want a refusal to overwrite", r)
	}
}

// TestKeyTellsLedger: without --ledger, a key says which ledger it is for, and a new
// one is for today's network.
func TestKeyTellsLedger(t *testing.T) {
	seed := writeFile(t, "seller.seed", strings.Repeat("SELLER9OF9READINGS9", 5)[:80]+"9\n")
	if got := mustRun(t, "address", "--key-file", seed); got != depositAddress+"\n" {
		t.Errorf("address of a seed: got %s want %s", got, depositAddress)
	}
	key := filepath.Join(t.TempDir(), "new.key")
	out := mustRun(t, "address", "--key-file", key, "--new")
	if !strings.HasPrefix(out, "0x") || len(out) != 67 || mustRun(t, "address", "--key-file", key) != out {
		t.Errorf("address of a new key: got %q, want 0x and 64 digits twice", out)
	}
	if out := mustRun(t, "address", "--ledger", "legacy", "--key-file", filepath.Join(t.TempDir(), "new.seed"), "--new"); len(out) != 91 {
		t.Errorf("address of a new seed: got %q, want 90 trytes", out)
	}
	if r := iotoll(t, "", "address", "--ledger", "legacy", "--key-file", key); r.code != 1 || !strings.Contains(r.errOut, "want a seed of 81 trytes") {
		t.Errorf("address of a key on the legacy tangle: got %+v, want a refusal", r)
	}
	if r := iotoll(t, "", "address", "--key-file", "/nonexistent"); r.code != 1 || !strings.Contains(r.errOut, "read key: open /nonexistent: no such file") {
		t.Errorf("address of no key: got %+v", r)
	}
}

// TestSeedFaults: a seed is checked without being shown.
func TestSeedFaults(t *testing.T) {
	for _, seed := range []string{"HUNTER", strings.Repeat("HUNTER", 20), strings.Repeat("hunter999", 9)} {
		r := iotoll(t, "", "address", "--seed-file", writeFile(t, "seed", seed))
		if r.code != 1 || !strings.Contains(r.errOut, "want a seed of 81 trytes (A to Z and 9)") || strings.Contains(strings.ToUpper(r.errOut), "HUNTER") {
			t.Errorf("seed %q: got %+v, want the fault without the seed", seed, r)
		}
	}
}

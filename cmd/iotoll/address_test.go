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

// TestSeedFaults: a seed is checked without being shown.
func TestSeedFaults(t *testing.T) {
	for _, seed := range []string{"HUNTER", strings.Repeat("HUNTER", 20), strings.Repeat("hunter999", 9)} {
		r := iotoll(t, "", "address", "--seed-file", writeFile(t, "seed", seed))
		if r.code != 1 || !strings.Contains(r.errOut, "want a seed of 81 trytes (A to Z and 9)") || strings.Contains(strings.ToUpper(r.errOut), "HUNTER") {
			t.Errorf("seed %q: got %+v, want the fault without the seed", seed, r)
		}
	}
}

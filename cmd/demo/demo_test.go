package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// TestStory plays the demo on each ledger, with shorter times.
func TestStory(t *testing.T) {
	bin := t.TempDir()
	for _, args := range [][]string{
		{"build", "-o", filepath.Join(bin, "iotoll"), "../iotoll"},
		{"build", "-buildmode=c-shared", "-o", filepath.Join(bin, "iotoll.so"), "../../plugin"},
	} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// The parallel subtests are done before bin is removed.
	for ledger, price := range money {
		t.Run(ledger, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			o := rig.Options{Bin: bin, Dir: t.TempDir(), Ledger: ledger, Minute: time.Second, Period: 4 * time.Second}
			if err := show(t.Context(), o, &out, tell); err != nil {
				t.Fatalf("%v\nafter:\n%s", err, out.String())
			}
			for _, want := range []string{"The live readings cost " + price + ".", "Done: every step happened."} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the story: got\n%s\nwant %q in it", out.String(), want)
				}
			}
			if ledger == ledgers.IOTA && !strings.Contains(out.String(), "sent 0.5 IOTA\n") {
				t.Errorf("the story: got\n%s\nwant a payment of 0.5 IOTA", out.String())
			}
		})
	}
}

package insight

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/iotoll/iotoll/wemo/simulator"
)

// TestMain lets more tests run side by side than there are processors: most of
// their time they wait, for a deadline of 3 s or for answers to a search. With
// IOTOLL_SIMULATE=N the process is N plugs instead, see simulateElsewhere.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("IOTOLL_SIMULATE")); err == nil {
		for range n {
			p, err := simulator.Listen(simulator.Config{})
			if err != nil {
				panic(err)
			}
			p.Freeze(simulator.Values{State: 1, Power: 4155})
			go p.Run(context.Background())
			fmt.Println(p.Addr())
		}
		io.Copy(io.Discard, os.Stdin) // until nobody needs us
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// simulateElsewhere runs n plugs in a process of their own, so that what they
// use is not counted as ours, and returns their addresses.
func simulateElsewhere(b *testing.B, n int) []string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "IOTOLL_SIMULATE="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	var addrs []string
	lines := bufio.NewScanner(out)
	for len(addrs) < n && lines.Scan() {
		addrs = append(addrs, lines.Text())
	}
	if len(addrs) != n {
		b.Fatalf("simulators: got %d of %d addresses", len(addrs), n)
	}
	return addrs
}

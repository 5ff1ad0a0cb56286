package insight

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/wemo/simulator"
)

// TestMain runs more tests side by side than there are processors, since most of
// them wait. With IOTOLL_SIMULATE set the process is a plug instead.
func TestMain(m *testing.M) {
	if os.Getenv("IOTOLL_SIMULATE") != "" {
		p, err := simulator.Listen(simulator.Config{})
		if err != nil {
			panic(err)
		}
		p.Freeze(simulator.Values{State: 1, Power: 4155})
		go p.Run(context.Background())
		fmt.Println(p.Addr())
		io.Copy(io.Discard, os.Stdin) // until the parent has ended
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// simulateElsewhere runs a plug in another process, so that its CPU time does not
// count, and returns its address.
func simulateElsewhere(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "IOTOLL_SIMULATE=1")
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

//go:build injectsignals

package mongostore

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// inject sends this process a signal at a write to the store. IOTOLL_INJECT says
// which and when: "kill before 3" is SIGKILL when the third write since Open is
// about to be sent, "stop after 3" is SIGSTOP when it was acknowledged. Only a
// build with the tag injectsignals has it, for the tests.
//
// It listens to the driver, so that no write escapes it.
func inject(opts *options.ClientOptions) {
	var name, phase string
	var at int64
	if _, err := fmt.Sscanf(os.Getenv("IOTOLL_INJECT"), "%s %s %d", &name, &phase, &at); err != nil {
		return
	}
	signal := map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP}[name]
	var writes, request atomic.Int64
	var what string // the write; set before request is
	strike := func() {
		fmt.Fprintf(os.Stderr, "injected: %s %s %d: %s\n", name, phase, at, what)
		if err := syscall.Kill(os.Getpid(), signal); err != nil {
			panic(err)
		}
		// The signal may reach another thread first: write nothing until it has.
		time.Sleep(50 * time.Millisecond)
	}
	opts.SetMonitor(&event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			if !isWrite(e.CommandName) || writes.Add(1) != at {
				return
			}
			name, _ := e.Command.Lookup(e.CommandName).StringValueOK()
			what = e.CommandName + " " + name
			if phase == "before" {
				strike()
				return
			}
			request.Store(e.RequestID)
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			if writes.Load() >= at && phase == "after" && request.CompareAndSwap(e.RequestID, 0) {
				strike()
			}
		},
	})
}

func isWrite(command string) bool {
	switch command {
	case "insert", "update", "delete", "findAndModify":
		return true
	}
	return false
}

// Package guard keeps a panic in the plugin from ending the broker.
package guard

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
)

// Guard recovers panics. Its methods may be called from several goroutines.
type Guard struct {
	Log logrus.FieldLogger

	panics atomic.Uint64
	logged sync.Map // an op whose first panic is in the log
}

// Run calls f and recovers its panic. The first panic of each op is logged with
// its stack.
func (g *Guard) Run(op string, f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		g.panics.Add(1)
		if _, again := g.logged.LoadOrStore(op, true); !again {
			g.Log.WithFields(logrus.Fields{"op": op, "panic": fmt.Sprint(v), "stack": string(debug.Stack())}).Error("panic in the plugin, request denied")
		}
	}()
	inject(op)
	f()
}

// Panics returns how many panics were recovered.
func (g *Guard) Panics() uint64 { return g.panics.Load() }

// Package main is the Mosquitto plugin iotoll.so.
//
//	go build -buildmode=c-shared -o build/iotoll.so ./plugin
//
// bridge.c has the callbacks that the broker calls, table.c the decision cache, and
// this file passes their questions to Go: what a client may do is decided in package
// gate, who may log in in package login. This package is the only one that uses cgo.
package main

/*
#cgo CFLAGS: -O2 -Wall -Wno-cpp -fvisibility=hidden
#include "bridge.h"
*/
import "C"

import (
	"context"
	"errors"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/plugin/gate"
	"github.com/iotoll/iotoll/plugin/guard"
	"github.com/iotoll/iotoll/plugin/login"
)

const (
	reportEvery  = 10 * time.Second // how often the plugin publishes its state
	startTimeout = 2 * time.Second  // how long the broker's start waits for the store
	stopTimeout  = 2 * time.Second  // how long the broker's end waits for our goroutines
)

// The counters of bridge.c have a place for each reason.
var _ = [1]struct{}{}[acl.Reasons-C.IOTOLL_REASONS]

func main() {} // never called: this is a shared library

// instance is the Go side of a C instance.
type instance struct {
	gate      *gate.Gate
	logins    *login.Logins
	guard     *guard.Guard
	logs      *logQueue
	notify    func() // makes the broker's thread call iotollService
	reportDue atomic.Bool

	stop context.CancelFunc
	done sync.WaitGroup
}

// stray guards code that has no instance yet. Its log lines are lost.
var stray = func() *guard.Guard {
	log, _ := newLogger(func() {})
	return &guard.Guard{Log: log}
}()

// guarded runs f for the instance of a handle. After a panic, the caller returns the
// answer that it started with.
func guarded(h C.uintptr_t, op string, f func(*instance)) {
	stray.Run("handle", func() {
		i := cgo.Handle(h).Value().(*instance)
		i.guard.Run(op, func() { f(i) })
	})
}

// text copies a C string. NULL becomes the empty string.
func text(s *C.char) string {
	if s == nil {
		return ""
	}
	return C.GoString(s)
}

// iotollStart starts an instance with the broker's options. It returns a handle, or
// 0 and the reason in why.
//
//export iotollStart
func iotollStart(c *C.struct_iotoll_instance, opts *C.struct_mosquitto_opt, count C.int, why *C.char, size C.size_t) (h C.uintptr_t) {
	stray.Run("start", func() {
		i, err := newInstance(c, unsafe.Slice(opts, max(0, int(count))))
		if err != nil {
			room := unsafe.Slice((*byte)(unsafe.Pointer(why)), int(size))
			room[copy(room[:len(room)-1], err.Error())] = 0
			return
		}
		h = C.uintptr_t(cgo.NewHandle(i))
	})
	return h
}

// newInstance starts an instance. It waits a short time for the first snapshot, so
// that the first clients get their answers, and returns an error if an option is
// wrong or the store has a schema that this program does not know.
func newInstance(c *C.struct_iotoll_instance, opts []C.struct_mosquitto_opt) (*instance, error) {
	var options []gate.Option
	for _, o := range opts {
		options = append(options, gate.Option{Key: text(o.key), Value: text(o.value)})
	}
	config, err := gate.ParseOptions(options)
	if err != nil {
		return nil, err
	}
	// C frees its instance only if iotollStop returns true.
	generation := (*uint64)(unsafe.Pointer(&c.generation))
	pending := (*uint32)(unsafe.Pointer(&c.pending))
	notify := func() { atomic.StoreUint32(pending, 1) }
	wake := func() { notify(); C.iotoll_wake() }

	log, logs := newLogger(notify)
	i := &instance{guard: &guard.Guard{Log: log}, logs: logs, notify: notify}
	store, err := config.OpenStore(log)
	if err != nil {
		return nil, err
	}
	host := gate.Host{Changed: func() { atomic.AddUint64(generation, 1) }, Wake: wake}
	if i.gate, err = gate.New(config, store, host, i.guard, log); err != nil {
		return nil, err
	}
	if i.logins, err = login.New(i.gate, i.guard, wake, log); err != nil {
		return nil, err
	}

	ctx, cancel := context.WithCancel(context.Background())
	i.stop = cancel
	run := func(op string, f func(context.Context)) {
		i.done.Go(func() { i.guard.Run(op, func() { f(ctx) }) })
	}
	run("gate", i.gate.Run)
	run("logins", i.logins.Run)
	run("report", func(ctx context.Context) {
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				i.report()
			}
		}
	})
	select {
	case err := <-i.gate.First():
		if errors.Is(err, mongostore.ErrVersion) {
			i.close() // bridge.c frees nothing that has no handle, however long this takes
			return nil, err
		}
	case <-time.After(startTimeout):
	}
	return i, nil
}

// close ends the goroutines of an instance. It reports whether all ended in time.
func (i *instance) close() bool {
	i.stop()
	all := make(chan struct{})
	go func() {
		defer close(all)
		i.done.Wait()
	}()
	select {
	case <-all:
		return true
	case <-time.After(stopTimeout):
		return false
	}
}

// iotollStop ends an instance, whose handle is invalid from then on. It returns
// whether nothing uses the C instance any more.
//
//export iotollStop
func iotollStop(h C.uintptr_t) (ended C.bool) {
	guarded(h, "stop", func(i *instance) {
		ended = C.bool(i.close())
		cgo.Handle(h).Delete()
	})
	return ended
}

// report makes the broker's thread publish the state of the instance.
func (i *instance) report() {
	i.reportDue.Store(true)
	i.notify()
}

// iotollReload reads the settings file and the store again, and reports.
//
//export iotollReload
func iotollReload(h C.uintptr_t) {
	guarded(h, "reload", func(i *instance) {
		i.gate.Reload()
		i.report()
	})
}

// iotollDecide answers an ACL_CHECK.
//
//export iotollDecide
func iotollDecide(h C.uintptr_t, c *C.struct_iotoll_client, topic *C.char, access C.int, out *C.struct_iotoll_answer) {
	guarded(h, "decide", func(i *instance) {
		r := acl.Request{Subject: text(c.username), ClientID: text(c.id), Topic: text(topic), Access: acl.Access(access)}
		var a gate.Answer
		switch r.Access {
		case acl.Subscribe:
			a = i.gate.Subscribe(r, gate.Conn(c.conn))
		case acl.Unsubscribe:
			i.gate.Unsubscribe(r.ClientID, r.Topic)
			fallthrough
		default:
			a = i.gate.Decide(r)
		}
		if !a.Until.IsZero() {
			out.until_ms = C.int64_t(a.Until.UnixMilli())
		}
		if a.Keep {
			out.keep = 1
		}
		out.reason = C.uint8_t(a.Reason)
		switch a.Verdict {
		case gate.Permit:
			out.rc = C.MOSQ_ERR_SUCCESS
		case gate.DeferToNext:
			out.rc = C.MOSQ_ERR_PLUGIN_DEFER
		}
	})
}

// iotollLogin answers a BASIC_AUTH.
//
//export iotollLogin
func iotollLogin(h C.uintptr_t, c *C.struct_iotoll_client, password, address *C.char, patience C.enum_iotoll_patience) (code C.int) {
	code = C.MOSQ_ERR_AUTH
	guarded(h, "login", func(i *instance) {
		credentials := login.Credentials{
			Username: text(c.username), HasUsername: c.username != nil,
			Password: text(password), HasPassword: password != nil,
			ClientID: text(c.id), Address: text(address),
		}
		p := login.Blocking
		switch patience {
		case C.IOTOLL_MUST_ANSWER:
			p = login.MustAnswer
		case C.IOTOLL_ASYNC:
			p = login.Async
		}
		answer := i.logins.Login(credentials, p)
		if c.conn != 0 {
			switch {
			case answer == login.Accept:
				i.gate.Connected(credentials.ClientID, credentials.Username, gate.Conn(c.conn), bool(c.clean))
			case answer == login.Defer && !credentials.HasUsername:
				i.gate.Arriving(credentials.ClientID, gate.Conn(c.conn))
			}
		}
		code = codeOf(answer)
	})
	return code
}

// codeOf returns the answer to BASIC_AUTH that stands for a login's.
func codeOf(a login.Answer) C.int {
	switch a {
	case login.Accept:
		return C.MOSQ_ERR_SUCCESS
	case login.Defer:
		return C.MOSQ_ERR_PLUGIN_DEFER
	case login.Later:
		return C.IOTOLL_AUTH_DELAYED
	case login.Unavailable:
		// Every version closes the connection without a CONNACK. A code of MQTT 5
		// would become "not authorized" for MQTT 3.1.1 in Mosquitto 2.1.
		return C.MOSQ_ERR_UNKNOWN
	}
	return C.MOSQ_ERR_AUTH
}

// iotollConnected hears that the broker accepted a client. Only 2.1 says so.
//
//export iotollConnected
func iotollConnected(h C.uintptr_t, c *C.struct_iotoll_client) {
	guarded(h, "connect", func(i *instance) {
		i.gate.Connected(text(c.id), text(c.username), gate.Conn(c.conn), bool(c.clean))
	})
}

// iotollDisconnected hears that a connection was closed.
//
//export iotollDisconnected
func iotollDisconnected(h C.uintptr_t, c *C.struct_iotoll_client) {
	guarded(h, "disconnect", func(i *instance) {
		// A session of MQTT 5 may last longer, which Mosquitto does not tell.
		i.gate.Disconnected(text(c.id), gate.Conn(c.conn), bool(c.clean && !c.v5))
	})
}

// iotollService does what only the broker's thread may do: it completes logins, ends
// sessions if mayKick is true, writes the log, and publishes announcements and the
// report. Of several instances in one process, only the first one announces.
//
//export iotollService
func iotollService(h C.uintptr_t, c *C.struct_iotoll_instance, mayKick C.bool) {
	guarded(h, "service", func(i *instance) {
		for _, o := range i.logins.Outcomes() {
			with(o.ClientID, func(id *C.char) { C.iotoll_complete_login(id, codeOf(o.Answer)) })
		}
		if mayKick {
			for _, k := range i.gate.Kicks() {
				if k.Username != "" {
					with(k.Username, func(name *C.char) { C.iotoll_kick(name, nil) })
					continue
				}
				with(k.ClientID, func(id *C.char) {
					for _, f := range k.Filters {
						with(f, func(filter *C.char) { C.iotoll_unsubscribe(id, filter) })
					}
					C.iotoll_kick(nil, id)
				})
			}
		}
		if c.number == 1 {
			for _, m := range i.gate.Announcements() {
				publish(m)
			}
		}
		for _, l := range i.logs.take() {
			with(l.text, func(line *C.char) { C.iotoll_log(C.int(l.level), line) })
		}
		if !i.reportDue.Swap(false) {
			return
		}
		count := gate.Counters{Hits: uint64(c.table.hits), Misses: uint64(c.table.misses), Evictions: uint64(c.table.evictions), Deferred: i.logins.Deferred()}
		for r := range count.Checks {
			count.Checks[r] = uint64(c.checks[r])
		}
		for _, m := range i.gate.Report(count, int(c.number)) {
			publish(m)
		}
	})
}

// publish lets the broker publish a retained message. An empty one removes what is
// retained.
func publish(m gate.Message) {
	with(m.Topic, func(topic *C.char) {
		with(m.Payload, func(payload *C.char) { C.iotoll_publish(topic, payload) })
	})
}

// with calls f with a C copy of a string.
func with(s string, f func(*C.char)) {
	c := C.CString(s)
	defer C.free(unsafe.Pointer(c))
	f(c)
}

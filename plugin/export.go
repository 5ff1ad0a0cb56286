// Package main is the Mosquitto plugin iotoll.so: it answers who may log in, and
// who may read, write and subscribe to what, from a picture of the store that it
// keeps in memory.
//
//	go build -buildmode=c-shared -o build/iotoll.so ./plugin
//
// bridge.c holds the callbacks that the broker calls, gate.go what they ask. This
// file is between them, and with bridge.c the only one that knows of C.
package main

/*
#cgo CFLAGS: -O2 -Wall -Wno-cpp -fvisibility=hidden
#include "bridge.h"
*/
import "C"

import (
	"runtime/cgo"
	"sync/atomic"
	"unsafe"

	"github.com/iotoll/iotoll/acl"
)

// The counters of bridge.c have a place for each reason.
var _ = [1]struct{}{}[acl.Reasons-C.IOTOLL_REASONS]

func main() {} // never called: this is a shared library

// instance is what stands behind the handle that C holds.
type instance struct {
	*gate
	logs      *logQueue
	reportDue atomic.Bool
	notify    func() // tells the broker's thread to call iotollService
	wake      func() // the same, and wakes it
}

// of returns the instance behind a handle. It panics for any other, so call it
// under a guard.
func of(h C.uintptr_t) *instance { return cgo.Handle(h).Value().(*instance) }

// strayPanics guards where there is no instance to ask for a log: at start, and
// for a handle that is none. Its lines are lost, its answers are to deny.
var strayPanics = func() *panics {
	log, _ := newLogger(func() {})
	return &panics{log: log}
}()

// guard runs f for an instance. A panic leaves the caller's answer as it was.
func guard(h C.uintptr_t, op string, f func(*instance)) {
	strayPanics.guard(op, func() {
		i := of(h)
		i.panics.guard(op, func() { f(i) })
	})
}

// text copies a C string; NULL becomes the empty string.
func text(s *C.char) string {
	if s == nil {
		return ""
	}
	return C.GoString(s)
}

// iotollStart makes a gate with the broker's options and lets it begin to follow
// the store. It returns a handle, or 0 and the reason in why.
//
//export iotollStart
func iotollStart(c *C.struct_iotoll_instance, opts *C.struct_mosquitto_opt, count C.int, why *C.char, size C.size_t) (h C.uintptr_t) {
	strayPanics.guard("start", func() {
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

func newInstance(c *C.struct_iotoll_instance, opts []C.struct_mosquitto_opt) (*instance, error) {
	inject("start")
	var options []option
	for _, o := range opts {
		options = append(options, option{text(o.key), text(o.value)})
	}
	config, err := parseOptions(options)
	if err != nil {
		return nil, err
	}
	// C frees the instance only when iotollStop says that nobody uses it.
	generation := (*uint64)(unsafe.Pointer(&c.generation))
	pending := (*uint32)(unsafe.Pointer(&c.pending))
	i := &instance{notify: func() { atomic.StoreUint32(pending, 1) }}
	i.wake = func() { i.notify(); C.iotoll_wake() }
	log, logs := newLogger(i.notify)
	i.logs = logs
	store, err := openStore(config, log)
	if err != nil {
		return nil, err
	}
	i.gate, err = newGate(config, store, log, func() { atomic.AddUint64(generation, 1) })
	if err != nil {
		return nil, err
	}
	if err := i.start(); err != nil {
		i.close() // if not in time: bridge.c frees nothing that has no handle
		return nil, err
	}
	i.every(reportEvery, "report", func() {
		i.reportDue.Store(true)
		i.notify()
	})
	return i, nil
}

// iotollStop ends a gate, and tells whether nothing of it is left that could use
// the C instance. Its handle is invalid from then on.
//
//export iotollStop
func iotollStop(h C.uintptr_t) (ended C.bool) {
	guard(h, "stop", func(i *instance) {
		ended = C.bool(i.close())
		cgo.Handle(h).Delete()
	})
	return ended
}

// iotollReload has the store and the settings file read anew.
//
//export iotollReload
func iotollReload(h C.uintptr_t) {
	guard(h, "reload", func(i *instance) {
		inject("reload")
		i.renew()
	})
}

// iotollDecide answers an ACL_CHECK. The caller has set the answer to denied.
//
//export iotollDecide
func iotollDecide(h C.uintptr_t, name, clientID, topic *C.char, access C.int, out *C.struct_iotoll_answer) {
	guard(h, "decide", func(i *instance) {
		if access < 0 || access > 255 {
			return
		}
		a := i.decide(acl.Request{Subject: text(name), ClientID: text(clientID), Topic: text(topic), Access: acl.Access(access)})
		if !a.until.IsZero() {
			out.until_ms = C.int64_t(a.until.UnixMilli())
		}
		if a.keep {
			out.keep = 1
		}
		out.reason = C.uint8_t(a.reason)
		out.rc = C.uint8_t(a.code)
	})
}

// iotollLogin answers a BASIC_AUTH. later says that the broker can hear the answer
// later, final that it can not, and that any answer but yes costs the client what it
// has: a connection, or a page of the web interface.
//
//export iotollLogin
func iotollLogin(h C.uintptr_t, username, password, clientID, address *C.char, later, final C.bool) (code C.int) {
	code = codeAuth
	guard(h, "login", func(i *instance) {
		c := credentials{
			username: text(username), hasUsername: username != nil,
			password: text(password), hasPassword: password != nil,
			clientID: text(clientID), address: text(address),
		}
		p := waits
		switch {
		case bool(final):
			p = waitsLong
		case bool(later) && clientID != nil:
			p = delays
		}
		code = C.int(i.login(c, p, i.wake))
	})
	return code
}

// iotollService does on the broker's thread what no other may: it completes
// logins, writes the log and publishes the report.
//
//export iotollService
func iotollService(h C.uintptr_t, c *C.struct_iotoll_instance) {
	guard(h, "service", func(i *instance) {
		inject("service")
		for _, a := range i.takeAnswers() {
			id := C.CString(a.clientID)
			C.iotoll_complete_login(id, C.int(a.code))
			C.free(unsafe.Pointer(id))
		}
		for _, l := range i.logs.take() {
			s := C.CString(l.text)
			C.iotoll_log(C.int(l.level), s)
			C.free(unsafe.Pointer(s))
		}
		if !i.reportDue.Swap(false) {
			return
		}
		count := counters{hits: uint64(c.hits), misses: uint64(c.misses), evictions: uint64(c.evictions)}
		for r := range count.checks {
			count.checks[r] = uint64(c.checks[r])
		}
		for _, m := range i.report(count, int(c.number)) {
			topic, payload := C.CString(m.topic), C.CString(m.payload)
			C.iotoll_publish(topic, payload)
			C.free(unsafe.Pointer(topic))
			C.free(unsafe.Pointer(payload))
		}
	})
}

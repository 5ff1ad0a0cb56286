package rebased

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is a way in which a node's answers are wrong.
type Fault string

// The faults. Those that come from a proxy in front of the node keep the request
// from it; with all others it did what it was asked.
const (
	HTML           Fault = "html"             // 502 with a page, from a proxy
	HTML200        Fault = "html-200"         // the same page, as if all were well
	Limited        Fault = "429"              // 429 without a body, from a proxy
	LimitedRetry   Fault = "429-retry-after"  // 429 with Retry-After: 2, from a proxy
	LimitedHTML    Fault = "429-html"         // 429 with a page, from a proxy
	Error500       Fault = "error-500"        // 500 with nothing
	Error503       Fault = "error-503"        // 503 with a text, from a proxy
	EmptyObject    Fault = "empty-object"     // 200 with {}
	EmptyBody      Fault = "empty-body"       // 200 with nothing
	NullData       Fault = "null-data"        // 200 with {"data":null}
	DataAndErrors  Fault = "data-and-errors"  // 200 with the data and an error
	InternalError  Fault = "internal-error"   // 200 with the error INTERNAL_SERVER_ERROR, or -32603
	RequestTimeout Fault = "request-timeout"  // 200 with the error REQUEST_TIMEOUT, or -32050
	WrongType      Fault = "wrong-type"       // the right body as text/plain
	WrongValues    Fault = "wrong-values"     // 200, numbers where texts should be and the other way round
	Truncated      Fault = "truncated"        // half of the announced body, then the end
	HalfJSON       Fault = "half-json"        // half of the body, as if it were the whole
	ResetAnswer    Fault = "reset-connection" // the connection closed without an answer
	Hang           Fault = "hang"             // no answer until the client gives up
	Endless        Fault = "endless"          // a body that does not end until the client gives up
)

var faults = []Fault{
	HTML, HTML200, Limited, LimitedRetry, LimitedHTML, Error500, Error503, EmptyObject, EmptyBody, NullData, DataAndErrors,
	InternalError, RequestTimeout, WrongType, WrongValues, Truncated, HalfJSON, ResetAnswer, Hang, Endless,
}

// Faults returns all faults that [Node.Break] knows.
func Faults() []Fault { return slices.Clone(faults) }

// atProxy are the faults with which a request does not reach the node.
var atProxy = []Fault{HTML, Limited, LimitedRetry, LimitedHTML, Error503}

// tricks are what a node does to its answers, and to executions.
type tricks struct {
	mu      sync.Mutex
	broken  map[string]Fault // by operation in lower case; "" is for all others
	latency time.Duration
	execute Misbehaviour
	times   int
	split   bool
}

// Break makes the answers to an operation wrong, or to all operations if it is
// "". An operation is a field at the top of a GraphQL document, such as
// transactionBlocks, or a method of JSON-RPC. The fault "" mends them;
// Break("", "") mends everything.
func (n *Node) Break(operation string, fault Fault) error {
	known := operation == "" || methods[operation] != nil
	now, _ := schemas()
	known = known || now.Query.Fields.ForName(operation) != nil || now.Mutation.Fields.ForName(operation) != nil
	if !known {
		return fmt.Errorf("break %q: there is no such operation", operation)
	}
	if fault != "" && !slices.Contains(faults, fault) {
		return fmt.Errorf("break with fault %q: want one of %q", fault, faults)
	}
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	switch {
	case fault == "" && operation == "":
		n.broken = nil
	case fault == "":
		delete(n.broken, operation)
	default:
		if n.broken == nil {
			n.broken = make(map[string]Fault)
		}
		n.broken[operation] = fault
	}
	return nil
}

// Latency delays every answer.
func (n *Node) Latency(d time.Duration) {
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	n.latency = d
}

func (n *Node) trick(operations string) (Fault, time.Duration) {
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	for _, name := range strings.Fields(operations) {
		if fault, ok := n.broken[name]; ok {
			return fault, n.latency
		}
	}
	return n.broken[""], n.latency
}

const pageText = "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"

// answer runs a request, unless a fault keeps it from the node, and writes what
// run returns, or what the fault makes of it. If run returns nil, the connection
// is closed.
func (n *Node) answer(w http.ResponseWriter, r *http.Request, operations string, run func() any) {
	fault, latency := n.trick(operations)
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	var body []byte
	if !slices.Contains(atProxy, fault) {
		out := run()
		if out == nil {
			panic(http.ErrAbortHandler)
		}
		var err error
		if body, err = json.Marshal(out); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("x-iota-rpc-version", rpcVersion)
	w.Header().Set("Content-Type", "application/json")
	spoil(w, r, fault, body)
}

// spoil writes body, or what a fault makes of it.
func spoil(w http.ResponseWriter, r *http.Request, fault Fault, body []byte) {
	write := func(status int, kind, body string) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
	rpc := bytes.HasPrefix(body, []byte(`{"jsonrpc"`))
	switch fault {
	case "":
		w.Write(body)
	case HTML:
		write(http.StatusBadGateway, "text/html", pageText)
	case HTML200:
		write(http.StatusOK, "text/html", pageText)
	case Limited, LimitedRetry:
		if fault == LimitedRetry {
			w.Header().Set("Retry-After", "2")
		}
		w.Header().Del("Content-Type")
		w.WriteHeader(http.StatusTooManyRequests)
	case LimitedHTML:
		write(http.StatusTooManyRequests, "text/html", strings.ReplaceAll(pageText, "502 Bad Gateway", "429 Too Many Requests"))
	case Error500:
		w.Header().Del("Content-Type")
		w.WriteHeader(http.StatusInternalServerError)
	case Error503:
		write(http.StatusServiceUnavailable, "text/plain", "no healthy upstream")
	case EmptyObject:
		w.Write([]byte("{}"))
	case EmptyBody:
	case NullData:
		w.Write([]byte(`{"data":null}`))
	case DataAndErrors:
		w.Write(append(bytes.TrimSuffix(body, []byte("}")), `,"errors":[{"message":"Internal error occurred while processing request: connection pool timed out","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`...))
	case InternalError, RequestTimeout:
		switch {
		case rpc && fault == InternalError:
			w.Write([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}}`))
		case rpc:
			w.Write([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32050,"message":"Transaction timed out before reaching finality"}}`))
		case fault == InternalError:
			w.Write([]byte(`{"data":null,"errors":[{"message":"Internal error occurred while processing request: connection pool timed out","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`))
		default:
			w.Write([]byte(`{"data":null,"errors":[{"message":"Query request timed out. Limit: 40s","extensions":{"code":"REQUEST_TIMEOUT"}}]}`))
		}
	case WrongType:
		w.Header().Set("Content-Type", "text/plain")
		w.Write(body)
	case WrongValues:
		var v any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&v); err == nil {
			body, _ = json.Marshal(swapTypes(v))
		}
		w.Write(body)
	case ResetAnswer:
		panic(http.ErrAbortHandler)
	case Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Endless:
		w.Write([]byte(`{"data":{"chainIdentifier":"`))
		for chunk := bytes.Repeat([]byte("0"), 1<<16); ; {
			if _, err := w.Write(chunk); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	case Truncated:
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body[:len(body)/2])
		http.NewResponseController(w).Flush() // what cannot be flushed is lost, as well
		panic(http.ErrAbortHandler)
	case HalfJSON:
		w.Write(body[:len(body)/2])
	}
}

// swapTypes turns texts into numbers and numbers into texts.
func swapTypes(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = swapTypes(e)
		}
	case []any:
		for i, e := range v {
			v[i] = swapTypes(e)
		}
	case string:
		return len(v)
	case json.Number:
		return v.String()
	}
	return v
}

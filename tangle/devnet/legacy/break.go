package legacy

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

// The faults. "Lists" are the lists in an answer: hashes, trytes, states,
// balances.
const (
	HTML        Fault = "html"         // 502 with a page, as from a proxy
	HTML200     Fault = "html-200"     // the same page, as if all were well
	EmptyObject Fault = "empty-object" // 200 with {}
	EmptyBody   Fault = "empty-body"   // 200 with nothing
	EmptyLists  Fault = "empty-lists"  // 200, the lists without elements
	ShortLists  Fault = "short-lists"  // 200, the lists without their last element
	LongLists   Fault = "long-lists"   // 200, the last element of lists twice
	NullLists   Fault = "null-lists"   // 200, null instead of lists
	WrongTypes  Fault = "wrong-types"  // 200, objects instead of the elements
	Nines       Fault = "nines"        // 200, hashes and trytes all 9, as for something unknown
	Forged      Fault = "forged"       // 200, valid trytes with more value, which do not have the hash
	AllTrue     Fault = "all-true"     // 200, every state true: included, or spent
	Error200    Fault = "error-200"    // 200 with {"error": "…"}
	Error400    Fault = "error-400"    // 400 "node not synced"
	Error403    Fault = "error-403"    // 403 with an object as the error, as from Hornet's framework
	Error500    Fault = "error-500"    // 500 with nothing, as after a panic in Hornet
	Error503    Fault = "error-503"    // 503 with {"error": "…"}
	Truncated   Fault = "truncated"    // half of the announced body, then the end
	Reset       Fault = "reset"        // the connection closed without an answer
	Hang        Fault = "hang"         // no answer until the client gives up
	Endless     Fault = "endless"      // a body that does not end until the client gives up
)

var faults = []Fault{
	HTML, HTML200, EmptyObject, EmptyBody, EmptyLists, ShortLists, LongLists, NullLists, WrongTypes, Nines, Forged, AllTrue,
	Error200, Error400, Error403, Error500, Error503, Truncated, Reset, Hang, Endless,
}

// Faults returns all faults that [Node.Break] knows.
func Faults() []Fault { return slices.Clone(faults) }

// tricks are the faults of a node's answers.
type tricks struct {
	mu      sync.Mutex
	broken  map[string]Fault // by command in lower case; "" is for all others
	latency time.Duration
}

// Break makes the answers to a command wrong, or to all commands if command is "".
// The fault "" mends them; Break("", "") mends everything.
func (n *Node) Break(command string, fault Fault) error {
	if _, ok := commands[strings.ToLower(command)]; !ok && command != "" {
		return fmt.Errorf("break %q: unknown command", command)
	}
	if fault != "" && !slices.Contains(faults, fault) {
		return fmt.Errorf("break with fault %q: want one of %q", fault, faults)
	}
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	switch {
	case fault == "" && command == "":
		n.broken = nil
	case fault == "":
		delete(n.broken, strings.ToLower(command))
	default:
		if n.broken == nil {
			n.broken = make(map[string]Fault)
		}
		n.broken[strings.ToLower(command)] = fault
	}
	return nil
}

// Latency delays every answer.
func (n *Node) Latency(d time.Duration) {
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	n.latency = d
}

func (n *Node) trick(command string) (Fault, time.Duration) {
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	fault, ok := n.broken[command]
	if !ok {
		fault = n.broken[""]
	}
	return fault, n.latency
}

const page = "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"

// spoil answers with a fault. out and err are the true answer.
func spoil(w http.ResponseWriter, r *http.Request, fault Fault, out any, err error) {
	object := func(status int, body string) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
	switch fault {
	case HTML, HTML200:
		w.Header().Set("Content-Type", "text/html")
		if fault == HTML {
			w.WriteHeader(http.StatusBadGateway)
		}
		w.Write([]byte(page))
	case EmptyObject:
		object(http.StatusOK, "{}")
	case EmptyBody:
		object(http.StatusOK, "")
	case Error200:
		object(http.StatusOK, `{"error":"internal error"}`)
	case Error400:
		object(http.StatusBadRequest, `{"error":"node not synced"}`)
	case Error403:
		object(http.StatusForbidden, `{"error":{"code":"403","message":"Forbidden"}}`)
	case Error500:
		w.WriteHeader(http.StatusInternalServerError)
	case Error503:
		object(http.StatusServiceUnavailable, `{"error":"node is not synchronized"}`)
	case Reset:
		panic(http.ErrAbortHandler)
	case Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Endless:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Write([]byte(`{"hashes":["`))
		for chunk := bytes.Repeat([]byte("9"), 1<<16); ; {
			if _, err := w.Write(chunk); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	case Truncated:
		var complete answer
		reply(&complete, out, err)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", fmt.Sprint(complete.body.Len()))
		w.WriteHeader(complete.status)
		w.Write(complete.body.Bytes()[:complete.body.Len()/2])
		panic(http.ErrAbortHandler)
	default:
		if err == nil {
			out = spoilLists(out, fault)
		}
		reply(w, out, err)
	}
}

// answer records a reply.
type answer struct {
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return http.Header{} }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// spoilLists returns an answer with a fault in the lists at its top level.
func spoilLists(out any, fault Fault) any {
	encoded, err := json.Marshal(out)
	if err != nil {
		return out
	}
	var fields map[string]any
	if err := json.Unmarshal(encoded, &fields); err != nil {
		return out
	}
	for name, value := range fields {
		list, ok := value.([]any)
		if !ok {
			continue
		}
		last := max(len(list)-1, 0)
		switch fault {
		case EmptyLists:
			fields[name] = []any{}
		case NullLists:
			fields[name] = nil
		case ShortLists:
			fields[name] = list[:last]
		case LongLists:
			fields[name] = append(list, list[last:]...)
		case WrongTypes:
			for i := range list {
				list[i] = map[string]any{"is": list[i]}
			}
		case AllTrue:
			for i := range list {
				if _, ok := list[i].(bool); ok {
					list[i] = true
				}
			}
		case Nines, Forged:
			for i := range list {
				s, ok := list[i].(string)
				switch {
				case !ok || name != "hashes" && name != "trytes":
				case fault == Nines:
					list[i] = strings.Repeat("9", len(s))
				case name == "trytes" && strings.Trim(s[valueAt:valueAt+tagSize], "9") != "":
					list[i] = s[:valueAt+3] + "A" + s[valueAt+4:]
				}
			}
		}
	}
	return fields
}

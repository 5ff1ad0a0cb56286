package legacy

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Control returns a handler that lets other processes command the tangle and this
// node, for example with
//
//	curl -X POST 'http://127.0.0.1:14266/prune?before=12'
//
// It is not part of a node's API: serve it on another port. It obeys clients on the
// loopback interface only, and no browser. Each command is a POST that is named
// after the method that it calls:
//
//	/milestone
//	/stall?on=true            /isolate?on=true
//	/lag?on=true              /blank?on=true
//	/iri?on=true
//	/restart                  /crash?milestones=2
//	/prune?before=12          /latency?of=200ms
//	/break?command=getTrytes&fault=html
//	/replay?tail=HASH         /impersonate?tail=HASH&message=TEXT
//	/flood?address=ADDRESS&count=5000&junk=zero
//
// It answers 200 with {"milestone": the newest index}, and "tail" if the command
// made one, or 400 with {"error": what is wrong}.
func (n *Node) Control() http.Handler {
	mux := http.NewServeMux()
	handle := func(name string, do func(*http.Request) (tail string, err error)) {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() || r.Header.Get("Origin") != "" {
				controlled(w, http.StatusForbidden, map[string]any{"error": "want a request from this machine, and not from a browser"})
				return
			}
			tail, err := do(r)
			if err != nil {
				controlled(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
				return
			}
			out := map[string]any{"milestone": n.Index()}
			if tail != "" {
				out["tail"] = tail
			}
			controlled(w, http.StatusOK, out)
		})
	}
	flag := func(name string, set func(bool)) {
		handle(name, func(r *http.Request) (string, error) {
			on, err := strconv.ParseBool(r.FormValue("on"))
			if err != nil {
				return "", fmt.Errorf("on=%q: want true or false", r.FormValue("on"))
			}
			set(on)
			return "", nil
		})
	}
	number := func(r *http.Request, name string) (int, error) {
		i, err := strconv.Atoi(r.FormValue(name))
		if err != nil {
			return 0, fmt.Errorf("%s=%q: want a number", name, r.FormValue(name))
		}
		return i, nil
	}

	flag("stall", n.Stall)
	flag("isolate", n.Isolate)
	flag("lag", n.Lag)
	flag("blank", n.Blank)
	flag("iri", n.IRI)
	handle("milestone", func(*http.Request) (string, error) {
		_, err := n.Milestone()
		return "", err
	})
	handle("restart", func(*http.Request) (string, error) {
		n.Restart()
		return "", nil
	})
	handle("crash", func(r *http.Request) (string, error) {
		milestones, err := number(r, "milestones")
		if err != nil {
			return "", err
		}
		return "", n.Crash(milestones)
	})
	handle("prune", func(r *http.Request) (string, error) {
		before, err := number(r, "before")
		if err == nil {
			n.Prune(before)
		}
		return "", err
	})
	handle("latency", func(r *http.Request) (string, error) {
		d, err := time.ParseDuration(r.FormValue("of"))
		if err != nil || d < 0 {
			return "", fmt.Errorf("of=%q: want a duration such as 200ms", r.FormValue("of"))
		}
		n.Latency(d)
		return "", nil
	})
	handle("break", func(r *http.Request) (string, error) {
		return "", n.Break(r.FormValue("command"), Fault(r.FormValue("fault")))
	})
	handle("replay", func(r *http.Request) (string, error) {
		return n.Replay(r.FormValue("tail"))
	})
	handle("impersonate", func(r *http.Request) (string, error) {
		return n.Impersonate(r.FormValue("tail"), r.FormValue("message"))
	})
	handle("flood", func(r *http.Request) (string, error) {
		count, err := number(r, "count")
		if err == nil && (count < 0 || count > maxFlood) {
			err = fmt.Errorf("count=%d: want 0 to %d", count, maxFlood)
		}
		if err != nil {
			return "", err
		}
		return "", n.Flood(r.FormValue("address"), count, Junk(r.FormValue("junk")))
	})
	return mux
}

// maxFlood bounds the memory that one command takes, at 3 kB a transaction.
const maxFlood = 100000

func controlled(w http.ResponseWriter, status int, out map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out) // the client is gone if this fails
}

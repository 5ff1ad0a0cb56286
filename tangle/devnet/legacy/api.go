package legacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxFind   = 1000     // of a node's default configuration
	maxTrytes = 1000     // the same
	maxBody   = 64 << 20 // bytes of a request; Hornet 0.5.6 has no limit
)

// fail is an answer with another status than 200. The body is empty if text is,
// as after a panic in Hornet.
type fail struct {
	status int
	text   string
	field  string // that holds the text; "error" if empty
}

func (f fail) Error() string { return f.text }

func bad(format string, args ...any) error {
	return fail{status: http.StatusBadRequest, text: fmt.Sprintf(format, args...)}
}

// commands are those that a Hornet answers, by their names in lower case.
var commands = map[string]func(*Node, []byte) (any, error){
	"getnodeinfo":              (*Node).getNodeInfo,
	"findtransactions":         (*Node).findTransactions,
	"gettrytes":                (*Node).getTrytes,
	"getinclusionstates":       (*Node).getInclusionStates,
	"getbalances":              (*Node).getBalances,
	"wereaddressesspentfrom":   (*Node).wereAddressesSpentFrom,
	"checkconsistency":         (*Node).checkConsistency,
	"gettipinfo":               (*Node).getTipInfo,
	"getledgerdiffext":         (*Node).getLedgerDiffExt,
	"gettransactionstoapprove": (*Node).getTransactionsToApprove,
	"attachtotangle":           (*Node).attachToTangle,
	"broadcasttransactions":    (*Node).broadcastTransactions,
	"storetransactions":        (*Node).broadcastTransactions,
}

// ServeHTTP answers the API on POST / and the health check on GET /healthz.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz" && r.Method == http.MethodGet:
		n.tangle.mu.Lock()
		healthy := n.healthy()
		n.tangle.mu.Unlock()
		if !healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case r.URL.Path != "/" || r.Method != http.MethodPost:
		reply(w, nil, fail{status: http.StatusNotFound, text: "not found"})
	default:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			reply(w, nil, fail{status: http.StatusRequestEntityTooLarge, text: err.Error()})
			return
		}
		command, err := commandOf(body)
		fault, latency := n.trick(strings.ToLower(command))
		if latency > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(latency):
			}
		}
		var out any
		if err == nil {
			out, err = n.answer(r, command, body)
		}
		if fault != "" {
			spoil(w, r, fault, out, err)
			return
		}
		reply(w, out, err)
	}
}

// commandOf returns a request's command.
func commandOf(body []byte) (string, error) {
	var request map[string]any
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
		return "", bad("%s", err)
	}
	name, ok := request["command"]
	if !ok {
		return "", bad("error parsing command")
	}
	command, ok := name.(string)
	if !ok {
		return "", fail{status: http.StatusInternalServerError}
	}
	return command, nil
}

// answer answers a command as the node's software does.
func (n *Node) answer(r *http.Request, command string, body []byte) (any, error) {
	n.tangle.mu.Lock()
	iri := n.iri
	n.tangle.mu.Unlock()
	if iri {
		return n.asIRI(r, strings.ToLower(command), body)
	}
	return n.run(command, body)
}

func (n *Node) run(command string, body []byte) (any, error) {
	run, ok := commands[strings.ToLower(command)]
	if !ok {
		return nil, bad("command [%s] is unknown", command)
	}
	return run(n, body)
}

func reply(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	if err != nil {
		f := fail{status: http.StatusInternalServerError, text: err.Error()}
		errors.As(err, &f)
		status = f.status
		if f.text == "" {
			w.WriteHeader(status)
			return
		}
		if f.field == "" {
			f.field = "error"
		}
		out = map[string]string{f.field: f.text}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out) // the client is gone if this fails
}

// decode reads the fields of a request. Its errors are Hornet's.
func decode(body []byte, to any) error {
	err := json.NewDecoder(bytes.NewReader(body)).Decode(to)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Type.Kind().String() == "slice":
		return fail{status: http.StatusInternalServerError, text: fmt.Sprintf(
			"internal error: 1 error(s) decoding:\n\n* '%s': source data must be an array or slice, got %s", fieldName(wrong), wrong.Value)}
	case errors.As(err, &wrong):
		return fail{status: http.StatusInternalServerError, text: fmt.Sprintf(
			"internal error: 1 error(s) decoding:\n\n* '%s' expected type '%s', got %s", fieldName(wrong), wrong.Type, wrong.Value)}
	case err != nil:
		return fail{status: http.StatusInternalServerError, text: "internal error: " + err.Error()}
	}
	return nil
}

// fieldName is a field of a request as the API spells it.
func fieldName(err *json.UnmarshalTypeError) string {
	if err.Field == "" {
		return err.Field
	}
	return strings.ToLower(err.Field[:1]) + err.Field[1:]
}

// timing ends every answer. Hornet's duration is always 0.
type timing struct {
	Duration int `json:"duration"`
}

// Age in milestones from which a pending transaction should be promoted, and from
// which only a reattachment helps, as in Hornet.
const (
	promoteAfter  = 2
	reattachAfter = 15
)

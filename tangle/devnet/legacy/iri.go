package legacy

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/iotaledger/iota.go/trinary"
)

// IRI makes the node answer as IRI 1.8.5 does
// (https://github.com/iotaledger/iri, service/API.java), or as Hornet again. IRI
// requires the header X-IOTA-API-Version, a threshold with getBalances and tips
// with getInclusionStates. It confirms only what milestones up to those tips did,
// and knows none of Hornet's own commands and fields.
func (n *Node) IRI(on bool) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	n.iri = on
}

// iriParameters are what a request must contain, by command in lower case.
var iriParameters = map[string][]string{
	"getbalances":              {"addresses", "threshold"},
	"getinclusionstates":       {"transactions", "tips"},
	"gettrytes":                {"hashes"},
	"wereaddressesspentfrom":   {"addresses"},
	"gettransactionstoapprove": {"depth"},
	"attachtotangle":           {"trunkTransaction", "branchTransaction", "minWeightMagnitude", "trytes"},
	"storetransactions":        {"trytes"},
	"broadcasttransactions":    {"trytes"},
}

// hornetOnly are commands that IRI does not know.
var hornetOnly = []string{"gettipinfo", "getledgerdiffext"}

// asIRI answers a command as IRI does.
func (n *Node) asIRI(r *http.Request, command string, body []byte) (any, error) {
	if r.Header.Get("X-IOTA-API-Version") == "" {
		return nil, bad("Invalid API Version")
	}
	if slices.Contains(hornetOnly, command) {
		return nil, bad("Command [%s] is unknown", command)
	}
	var request map[string]json.RawMessage
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, bad("Invalid JSON syntax: %s", err)
	}
	for _, name := range iriParameters[command] {
		if _, ok := request[name]; !ok {
			return nil, fail{http.StatusInternalServerError, "Invalid parameters", "exception"}
		}
	}
	switch command {
	case "findtransactions":
		delete(request, "valueOnly")
	case "getinclusionstates":
		return n.includedAsOf(request["transactions"], request["tips"])
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	out, err := n.run(command, body)
	if info, ok := out.(nodeInfo); ok {
		info.AppName, info.AppVersion = "IRI", "1.8.5-RELEASE"
		info.IsSynced, info.IsHealthy = nil, nil
		return info, err
	}
	return out, err
}

// includedAsOf tells which transactions were confirmed by milestones up to the newest
// of the tips: none without tips.
func (n *Node) includedAsOf(transactions, tips json.RawMessage) (any, error) {
	var asked, of []trinary.Hash
	if json.Unmarshal(transactions, &asked) != nil || json.Unmarshal(tips, &of) != nil {
		return nil, fail{http.StatusInternalServerError, "Invalid parameters", "exception"}
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, bad("This operation can not be executed: The subtangle has not been updated yet.")
	}
	newest := 0
	for _, h := range of {
		x := n.tangle.byHash[h]
		if x == nil || !n.sees(x) {
			return nil, bad("One of the tips is absent")
		}
		newest = max(newest, x.included)
	}
	states := make([]bool, len(asked))
	for i, h := range asked {
		x := n.tangle.byHash[h]
		states[i] = n.includes(x) && x.included <= newest
	}
	return inclusion{states, timing{}}, nil
}

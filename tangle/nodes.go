package tangle

import (
	"errors"
	"fmt"
	"strings"
)

// CheckNodes returns what is wrong with the URLs of a ledger's nodes, and with how
// many of them must agree. example is a URL for the error, and name returns the
// name of the node at a URL, without a password, or what is wrong with the URL.
func CheckNodes(nodes []string, agree int, example string, name func(url string) (string, error)) error {
	var faults []error
	if len(nodes) == 0 {
		faults = append(faults, errors.New("nodes: required: at least one URL such as "+example))
	}
	if agree < 0 || agree > 1 && agree > len(nodes) {
		faults = append(faults, fmt.Errorf("agree: %d, want 1 to the number of nodes, which is %d", agree, len(nodes)))
	}
	urls := make(map[string]int)
	for i, address := range nodes {
		shown, err := name(address)
		if err != nil {
			faults = append(faults, fmt.Errorf("nodes[%d]: %w", i, err))
			continue
		}
		same := strings.TrimRight(address, "/") // a node must not agree with itself
		if first, twice := urls[same]; twice {
			faults = append(faults, fmt.Errorf("nodes[%d]: %q duplicates nodes[%d]", i, shown, first))
			continue
		}
		urls[same] = i
	}
	return errors.Join(faults...)
}

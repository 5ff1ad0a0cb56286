package legacy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/trinary"
)

// recording is a request to a real Hornet 0.5.6, and its answer.
type recording struct {
	Name    string
	Request struct {
		Method, Path string
		Headers      map[string]string
		Body         any
	}
	Response struct {
		Status      int
		ContentType *string
		JSON        any
		Text        *string
	}
}

func recordings(t *testing.T, state string) []recording {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", state, "*.json"))
	if err != nil || len(files) < 50 {
		t.Fatalf("recordings of %s: found %d, %v", state, len(files), err)
	}
	var all []recording
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r recording
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, r)
	}
	return all
}

// What was on the recorded tangle.
const (
	recordedTail   = "XZTJESYLKBFRSCJFERQDEDEBPFDFCKTS9WCGDIAAXCRHULIQ9LIHOFSONVIZKLUEFTOAEUBUTVZLCM999"
	recordedSource = "BDSFSEZSSWTPBUDLIJLUKM9DRRMWDBCCGHEMNGMXVGJCHXGHTJN9TYDHJLP9UXBBNIRGQKJMCPDWNURIZ"
	recordedLoser  = "RQZBNXQQQMEGUBNEDFRPJZWAJNKKJXYLADNPFEJILYNBFXDPW9FHLXLJAFBJJ9WKCQYMADWTHGKUYX999"
)

// asRecorded returns a node in the state that the recordings were made in: the
// recorded payment itself, confirmed by milestone 4, and a bundle that lost
// against another that spends the same input. The loser's trytes were not
// recorded: what is returned stands in for its hash.
func asRecorded(t *testing.T) (*Node, trinary.Hash) {
	t.Helper()
	var coordinator string
	var trytes []trinary.Trytes
	for _, r := range recordings(t, "hornet-0.5.6-synced") {
		switch r.Name {
		case "getNodeInfo":
			coordinator = r.Response.JSON.(map[string]any)["coordinatorAddress"].(string)
		case "getTrytes-order":
			for _, s := range r.Response.JSON.(map[string]any)["trytes"].([]any) {
				if s != unknownTrytes {
					trytes = append(trytes, s.(string))
				}
			}
		}
	}
	// The network had a magnitude of 9; less is enough for what it recorded, too.
	n, err := New(Config{MWM: 1, Coordinator: coordinator, Genesis: map[trinary.Hash]uint64{
		recordedSource: 1000000000000, addressOf(t, DemoSeed, 0): 1000,
	}})
	if err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 2)
	if _, err := n.Submit(trytes); err != nil {
		t.Fatalf("submit the recorded payment: %v", err)
	}
	milestones(t, n, 1)
	if !n.Included(recordedTail) {
		t.Fatal("the recorded payment was not included")
	}
	var loser trinary.Hash
	for i := range uint64(2) {
		signed, err := Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, i), Value: 1000}}}.Sign()
		if err != nil {
			t.Fatal(err)
		}
		if loser, err = n.Send(signed); err != nil {
			t.Fatal(err)
		}
	}
	milestones(t, n, 1)
	return n, loser
}

func milestones(t *testing.T, n *Node, count int) {
	t.Helper()
	for range count {
		if _, err := n.Milestone(); err != nil {
			t.Fatal(err)
		}
	}
}

// The node answers the recorded requests as the real one did: status, content
// type, and the same JSON but for values that cannot be equal.
func TestConformance(t *testing.T) {
	n, loser := asRecorded(t)
	// Of these only the type can be compared.
	differ := []string{
		"latestMilestone", "latestMilestoneIndex", "latestSolidSubtangleMilestone", "latestSolidSubtangleMilestoneIndex",
		"time", "tips", "references", "trunkTransaction", "branchTransaction", "lastSnapshottedMilestoneIndex", "getBalances.milestoneIndex",
	}
	for _, state := range []struct {
		name   string
		enter  func()
		differ []string
	}{
		{"hornet-0.5.6-synced", func() {}, differ},
		{"hornet-0.5.6-coordinator-down", func() { n.Isolate(true) }, differ},
		{"hornet-0.5.6-restarted-no-milestones", func() { n.Isolate(false); n.Restart() }, differ},
		{"hornet-0.5.6-unsynced", func() { n.Blank(true) }, []string{"time"}},
	} {
		t.Run(state.name, func(t *testing.T) {
			state.enter()
			server := httptest.NewServer(n)
			defer server.Close()
			for _, r := range recordings(t, state.name) {
				var body io.Reader
				command := ""
				switch b := r.Request.Body.(type) {
				case nil:
				case string:
					body = strings.NewReader(b)
				default:
					encoded, err := json.Marshal(b)
					if err != nil {
						t.Fatal(err)
					}
					body = strings.NewReader(strings.ReplaceAll(string(encoded), recordedLoser, loser))
					command = fmt.Sprint(b.(map[string]any)["command"])
				}
				request, err := http.NewRequest(r.Request.Method, server.URL+r.Request.Path, body)
				if err != nil {
					t.Fatal(err)
				}
				for key, value := range r.Request.Headers {
					request.Header.Set(key, value)
				}
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Errorf("%s: %v", r.Name, err)
					continue
				}
				answer, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil {
					t.Errorf("%s: %v", r.Name, err)
				}
				if response.StatusCode != r.Response.Status {
					t.Errorf("%s: got status %d, want %d", r.Name, response.StatusCode, r.Response.Status)
				}
				var contentType []string
				if r.Response.ContentType != nil {
					contentType = []string{*r.Response.ContentType}
				}
				if got := response.Header["Content-Type"]; !slices.Equal(got, contentType) {
					t.Errorf("%s: got content type %q, want %q", r.Name, got, contentType)
				}
				if r.Response.Text != nil {
					if string(answer) != *r.Response.Text {
						t.Errorf("%s: got body %q, want %q", r.Name, answer, *r.Response.Text)
					}
					continue
				}
				var got any
				if err := json.Unmarshal(answer, &got); err != nil {
					t.Errorf("%s: body %.200q: %v", r.Name, answer, err)
					continue
				}
				if r.Name == "attachToTangle-wrong-mwm" {
					r.Response.JSON = map[string]any{"error": "Wrong MinWeightMagnitude. requested: 14, expected: 1"} // 9 was
				}
				for _, d := range compare(command, got, r.Response.JSON, state.differ) {
					t.Errorf("%s: %s", r.Name, d)
				}
			}
		})
	}
}

// compare returns how an answer differs from the recorded one. Lists of hashes
// and of the ledger's changes have no order.
func compare(path string, got, want any, differ []string) (out []string) {
	key := path[strings.LastIndex(path, ".")+1:]
	if slices.Contains(differ, key) || slices.Contains(differ, path) {
		if g, w := reflect.TypeOf(got), reflect.TypeOf(want); g != w {
			out = append(out, fmt.Sprintf("%s: got %v, want a value of type %v", path, got, w))
		}
		if w, ok := want.([]any); ok && reflect.TypeOf(got) == reflect.TypeOf(want) && len(got.([]any)) != len(w) {
			out = append(out, fmt.Sprintf("%s: got %v, want %d elements", path, got, len(w)))
		}
		return out
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: got %v, want an object", path, got)}
		}
		for k := range g {
			if _, ok := w[k]; !ok {
				out = append(out, fmt.Sprintf("%s: got the field %s, which was not recorded", path, k))
			}
		}
		for k := range w {
			if _, ok := g[k]; !ok {
				out = append(out, fmt.Sprintf("%s: the field %s is missing", path, k))
				continue
			}
			out = append(out, compare(path+"."+k, g[k], w[k], differ)...)
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return []string{fmt.Sprintf("%s: got %v, want %d elements", path, got, len(w))}
		}
		if slices.Contains([]string{"hashes", "confirmedTxWithValue", "Txs"}, key) {
			g, w = inOrder(g), inOrder(w)
		}
		for i := range w {
			out = append(out, compare(fmt.Sprintf("%s[%d]", path, i), g[i], w[i], differ)...)
		}
	default:
		if !reflect.DeepEqual(got, want) {
			out = append(out, fmt.Sprintf("%s: got %v, want %v", path, got, want))
		}
	}
	return out
}

func inOrder(list []any) []any {
	return slices.SortedFunc(slices.Values(list), func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

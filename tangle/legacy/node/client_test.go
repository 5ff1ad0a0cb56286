package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/trinary"
)

// serve returns a client of a node that gives one answer, and the last request.
func serve(t *testing.T, status int, answer string) (*Client, *request) {
	t.Helper()
	last := new(request)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &last.body) != nil {
			t.Errorf("got request %q, %v", body, err)
		}
		last.header = r.Header
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	c, err := New(server.URL, nil, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return c, last
}

type request struct {
	header http.Header
	body   map[string]any
}

var hash = strings.Repeat("A", 81)

// Requests carry what IRI before 1.8.6 refuses them without.
func TestRequests(t *testing.T) {
	c, last := serve(t, 200, `{"balances":["5"],"references":["`+hash+`"],"milestoneIndex":7,"states":[true]}`)
	b, err := c.Balances(t.Context(), []trinary.Hash{hash})
	if err != nil || b.Index != 7 || b.Milestone != hash || b.Amounts[0] != 5 {
		t.Errorf("Balances: got %+v, %v", b, err)
	}
	if last.body["threshold"] != 100.0 || last.body["command"] != "getBalances" {
		t.Errorf("Balances: sent %v, want a threshold of 100", last.body)
	}
	if h := last.header; h.Get("X-IOTA-API-Version") != "1" || h.Get("Content-Type") != "application/json" {
		t.Errorf("Balances: sent header %v", h)
	}
	for _, test := range []struct {
		milestone trinary.Hash
		want      string
	}{{hash, "[" + hash + "]"}, {"", "[]"}} {
		states, err := c.Included(t.Context(), test.milestone, []trinary.Hash{hash})
		if err != nil || !states[hash] || fmt.Sprint(last.body["tips"]) != test.want {
			t.Errorf("Included: got %v, %v, sent tips %v, want %s", states, err, last.body["tips"], test.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		is     error  // that the error wraps; nil for a *StatusError
		text   string // in the error
	}{
		{200, `<html>`, ErrAnswer, "not the JSON expected"},
		{200, `{"latestMilestoneIndex":7}`, ErrAnswer, "no milestone index"},
		{200, strings.Repeat(" ", maxAnswer+1), ErrAnswer, "longer than"},
		{400, `{"error":"node not synced"}`, ErrUnsynced, "status 400"},
		{503, `{"error":"node is not synchronized"}`, ErrUnsynced, "status 503"},
		{400, `{"error":"This operation can not be executed: The subtangle has not been updated yet."}`, ErrUnsynced, "status 400"},
		{500, `{"exception":"Invalid parameters"}`, nil, `status 500: "Invalid parameters"`},
		{403, `{"error":{"code":"403","message":"Forbidden"}}`, nil, "status 403"},
		{502, `<html>`, nil, "status 502"},
		{500, ``, nil, "status 500"},
	} {
		c, _ := serve(t, test.status, test.body)
		_, err := c.Info(t.Context())
		var status *StatusError
		if test.is != nil && !errors.Is(err, test.is) || test.is == nil && (!errors.As(err, &status) || status.Code != test.status) {
			t.Errorf("%d %.80q: got %v, want %v", test.status, test.body, err, test.is)
		}
		if err == nil || !strings.Contains(err.Error(), test.text) || !strings.HasPrefix(err.Error(), "getNodeInfo: ") {
			t.Errorf("%d %.80q: got %v, want %q after the command", test.status, test.body, err, test.text)
		}
	}
}

// A password in a URL shows nowhere, and reaches the node.
func TestPassword(t *testing.T) {
	c, last := serve(t, 200, `{}`)
	secret, err := New(strings.Replace(c.url, "http://", "http://jane:sesame@", 1), nil, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_, err = secret.Info(t.Context())
	if user, password, _ := (&http.Request{Header: last.header}).BasicAuth(); user != "jane" || password != "sesame" {
		t.Errorf("sent %q and %q", user, password)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, canceled := secret.Info(ctx)
	_, malformed := New("http//jane:sesame@host", nil, time.Second)
	for _, err := range []error{err, canceled, malformed, errors.New(secret.Name())} {
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("got %v", err)
		}
	}
}

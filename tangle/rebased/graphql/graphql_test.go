package graphql_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/graphql"
)

func ask(t *testing.T, handler http.HandlerFunc) (string, graphql.Answer, error) {
	t.Helper()
	s := httptest.NewServer(handler)
	defer s.Close()
	c, err := graphql.New(s.URL, s.Client(), 5*time.Second, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var data struct{ Tip *string }
	answer, err := c.Do(t.Context(), "query{tip}", map[string]any{"a": 1}, &data)
	tip := "null"
	if data.Tip != nil {
		tip = *data.Tip
	}
	return tip, answer, err
}

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		header [2]string
		body   string
		tip    string
		check  func(graphql.Answer, error) bool
	}{
		"data": {body: `{"data":{"tip":"7"}}`, tip: "7", check: func(a graphql.Answer, err error) bool { return err == nil && a.Errors == nil }},
		"version": {header: [2]string{"X-Iota-Rpc-Version", "1.35.2"}, body: `{"data":{"tip":"7"}}`, tip: "7", check: func(a graphql.Answer, err error) bool {
			return err == nil && a.Version == "1.35.2"
		}},
		"data and errors": {body: `{"data":{"tip":"7"},"errors":[{"message":"m","path":["a",0]}]}`, tip: "7", check: func(a graphql.Answer, err error) bool {
			return err == nil && len(a.Errors) == 1
		}},
		"errors": {body: `{"data":null,"errors":[{"message":"pruned","extensions":{"code":"DATA_PRUNED"}}]}`, check: func(_ graphql.Answer, err error) bool {
			var e graphql.Errors
			return errors.As(err, &e) && !e.Unknown("pruned") && err.Error() == "DATA_PRUNED: pruned"
		}},
		"errors with 400": {status: 400, body: `{"errors":[{"message":"unknown field \"x\""}]}`, check: func(_ graphql.Answer, err error) bool {
			var e graphql.Errors
			return errors.As(err, &e) && e.Unknown("x") && !e.Unknown("y")
		}},
		"neither": {body: `{}`, check: sense},
		"429": {status: 429, header: [2]string{"Retry-After", "17"}, body: `{}`, check: func(_ graphql.Answer, err error) bool {
			var s *graphql.StatusError
			return errors.As(err, &s) && s.Code == 429 && s.RetryAfter == 17*time.Second
		}},
		"429 with HTML": {status: 429, body: "<html>slow down</html>", check: func(_ graphql.Answer, err error) bool {
			var s *graphql.StatusError
			return errors.As(err, &s) && s.Code == 429 && s.RetryAfter == 0
		}},
		"429 for ever": {status: 429, header: [2]string{"Retry-After", "999999999"}, check: func(_ graphql.Answer, err error) bool {
			var s *graphql.StatusError
			return errors.As(err, &s) && s.RetryAfter == time.Hour
		}},
		"502":        {status: 502, body: "<html>bad gateway</html>", check: func(_ graphql.Answer, err error) bool { return err.Error() == "status 502 Bad Gateway" }},
		"HTML":       {header: [2]string{"Content-Type", "text/html"}, body: "<html>hello</html>", check: sense},
		"truncated":  {body: `{"data":{"tip":"7"`, check: sense},
		"wrong type": {body: `{"data":{"tip":7}}`, check: sense},
		"no object":  {body: `[]`, check: sense},
		"too long": {body: `{"data":{"tip":"` + strings.Repeat("x", 1000) + `"}}`, check: func(_ graphql.Answer, err error) bool {
			var s *graphql.SizeError
			return errors.As(err, &s) && errors.Is(err, graphql.ErrAnswer)
		}},
		"control characters": {body: `{"data":null,"errors":[{"message":"a\u001b[31mb"}]}`, check: func(_ graphql.Answer, err error) bool { return err.Error() == "a[31mb" }},
	} {
		tip, answer, err := ask(t, func(w http.ResponseWriter, r *http.Request) {
			if test.header[0] != "" {
				w.Header().Set(test.header[0], test.header[1])
			}
			if test.status != 0 {
				w.WriteHeader(test.status)
			}
			fmt.Fprint(w, test.body)
		})
		if test.tip == "" {
			test.tip = "null"
		}
		if err == nil && tip != test.tip || test.tip == "null" && err == nil || !test.check(answer, err) {
			t.Errorf("%s: got %s, %+v, %v", name, tip, answer, err)
		}
	}
}

func sense(_ graphql.Answer, err error) bool { return errors.Is(err, graphql.ErrAnswer) }

// TestSecrets: a password in the URL is in no error, whatever goes wrong.
func TestSecrets(t *testing.T) {
	for _, address := range []string{"http://jane:hunter2@127.0.0.1:1/", "ftp://jane:hunter2@x", "jane:hunter2@x", "http://jane:hunter2@x:y"} {
		c, err := graphql.New(address, nil, time.Second, 1000)
		if err == nil {
			if strings.Contains(c.Name(), "hunter2") {
				t.Errorf("name is %s", c.Name())
			}
			_, err = c.Do(t.Context(), "query{tip}", nil, new(any))
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	c, err := graphql.New(s.URL, nil, 20*time.Millisecond, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), "query{tip}", nil, new(any)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
}

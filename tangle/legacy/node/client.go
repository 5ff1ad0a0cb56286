// Package node asks one node of the legacy tangle, through the HTTP API that IRI
// and Hornet 0.4 to 0.5 share (https://github.com/iotaledger/iri, "IRI API
// reference"). The watcher and the wallet use it.
//
// Answers are bounded in time and size, and each is checked for the length and
// form that it must have. Transactions are hashed here. Whether a milestone
// confirmed something is the node's word.
package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds an answer in bytes; 1,000 transactions are 2.7 MB.
const maxAnswer = 8 << 20

// MaxHashes is how many transactions one request may ask for, and how many an
// answer to [Client.Find] holds at most. A node does not say that there are more.
const MaxHashes = 1000

// Faults of a node, for errors.Is.
var (
	// ErrAnswer means that an answer is not what the API promises.
	ErrAnswer = errors.New("answer makes no sense")
	// ErrUnsynced means that the node has not caught up with the network.
	ErrUnsynced = errors.New("node is not in sync")
)

// StatusError is an HTTP status other than 200.
type StatusError struct {
	Code int
	Text string // the node's; empty if the body has another form
}

// Error returns the status and the node's text.
func (e *StatusError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("status %d", e.Code)
	}
	return fmt.Sprintf("status %d: %.200q", e.Code, e.Text)
}

// Client asks one node. It is safe for concurrent use.
type Client struct {
	url     string
	name    string
	http    *http.Client
	timeout time.Duration
}

// New returns a client of the node at a URL such as http://127.0.0.1:14265. It
// sends nothing yet. A nil client means [http.DefaultClient]; timeout bounds each
// request. The error names the URL without its password.
func New(address string, client *http.Client, timeout time.Duration) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		if i := strings.LastIndexByte(address, '@'); i >= 0 { // before it may be a password
			address = "…" + address[i:]
		}
		return nil, fmt.Errorf("node %q: want a URL such as http://127.0.0.1:14265", address)
	}
	if client == nil {
		client = http.DefaultClient
	}
	return &Client{url: address, name: u.Redacted(), http: client, timeout: timeout}, nil
}

// Name returns the node's URL without its password.
func (c *Client) Name() string { return c.name }

// fields are the parameters of a command.
type fields map[string]any

// ask sends a command and decodes the answer. The error names the command. It
// wraps ErrUnsynced, ErrAnswer or a *StatusError if the node answered.
func (c *Client) ask(ctx context.Context, command string, parameters fields, answer any) error {
	return c.askWithin(ctx, c.timeout, command, parameters, answer)
}

func (c *Client) askWithin(ctx context.Context, timeout time.Duration, command string, parameters fields, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := c.post(ctx, command, parameters)
	if err == nil {
		if err = json.Unmarshal(body, answer); err != nil {
			err = fmt.Errorf("%w: not the JSON expected: %w", ErrAnswer, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

func (c *Client) post(ctx context.Context, command string, parameters fields) ([]byte, error) {
	body := fields{"command": command}
	for name, value := range parameters {
		body[name] = value
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(encoded))
	if err != nil {
		return nil, errors.New("malformed URL") // err would show its password
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-IOTA-API-Version", "1") // IRI refuses requests without it
	response, err := c.http.Do(request)
	if err != nil {
		var inURL *url.Error // its text repeats the URL, perhaps with a password
		if errors.As(err, &inURL) {
			err = inURL.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	case err != nil:
		return nil, err
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrAnswer, maxAnswer)
	case response.StatusCode != http.StatusOK:
		return nil, refusal(response.StatusCode, answer)
	}
	return answer, nil
}

// refusal returns the error of an answer with another status than 200. Hornet's
// and IRI's texts are in "error" or "exception"; a proxy's page has neither.
func refusal(status int, body []byte) error {
	var told struct{ Error, Exception any }
	_ = json.Unmarshal(body, &told) // a page: no text
	text, ok := told.Error.(string)
	if !ok {
		text, _ = told.Exception.(string)
	}
	for _, unsynced := range []string{"not synced", "not synchronized", "subtangle has not been updated"} {
		if strings.Contains(text, unsynced) {
			return fmt.Errorf("status %d: %w", status, ErrUnsynced)
		}
	}
	return &StatusError{Code: status, Text: text}
}

// Package graphql sends GraphQL requests over HTTP
// (https://graphql.org/learn/serving-over-http/) with limits on time and size, and
// distinguishes the ways in which they fail.
package graphql

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// ErrAnswer means that an answer is not what the protocol or the schema
// promises.
var ErrAnswer = errors.New("answer makes no sense")

// Client asks one server. Make one with New.
type Client struct {
	url     string
	name    string
	http    *http.Client
	timeout time.Duration
	maxBody int64
}

// New returns a client for a URL. A request takes at most timeout, and an answer
// has at most maxBody bytes. httpClient may be nil.
func New(address string, httpClient *http.Client, timeout time.Duration, maxBody int64) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("node %q: want a URL such as https://graphql.testnet.iota.cafe", redact(address))
	}
	if httpClient == nil {
		httpClient = &http.Client{}
	}
	return &Client{url: address, name: u.Redacted(), http: httpClient, timeout: timeout, maxBody: maxBody}, nil
}

// redact removes what may be a password from something that is not a URL.
func redact(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "…" + address[i:]
	}
	return address
}

// Name returns the URL without a password.
func (c *Client) Name() string { return c.name }

// Answer is what an answer holds besides its data.
type Answer struct {
	Version string // of the server, from its header x-iota-rpc-version; may be empty
	Errors  Errors // of parts of the data: where they point, the data is null
}

// Do sends a document with variables and decodes the data of the answer into
// data. It returns an error if there is no data: a [*StatusError], [Errors], or
// one that wraps ErrAnswer or comes from the connection. Errors that come with
// data are not failures; Answer lists them.
func (c *Client) Do(ctx context.Context, document string, variables map[string]any, data any) (Answer, error) {
	request, err := json.Marshal(struct {
		Query     string         `json:"query"`
		Variables map[string]any `json:"variables,omitempty"`
	}{document, variables})
	if err != nil {
		return Answer{}, fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(request))
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "iotoll")
	response, err := c.http.Do(r)
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, c.maxBody+1))
	if err != nil {
		return Answer{}, fmt.Errorf("read answer: %w", withoutURL(err))
	}
	if int64(len(body)) > c.maxBody {
		return Answer{}, &SizeError{Limit: c.maxBody}
	}
	answer := Answer{Version: printable(response.Header.Get("x-iota-rpc-version"), 40)}
	var envelope struct {
		Data   json.RawMessage `json:"data"`
		Errors Errors          `json:"errors"`
	}
	err = json.Unmarshal(body, &envelope)
	if response.StatusCode != http.StatusOK {
		// A server may answer 400 with errors in the usual form.
		if err == nil && len(envelope.Errors) > 0 && response.StatusCode == http.StatusBadRequest {
			return answer, envelope.Errors
		}
		return answer, &StatusError{Code: response.StatusCode, RetryAfter: retryAfter(response.Header)}
	}
	if err != nil {
		kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
		return answer, fmt.Errorf("%w: not JSON, but %d bytes of %q: %w", ErrAnswer, len(body), kind, err)
	}
	if len(envelope.Data) == 0 || string(envelope.Data) == "null" {
		if len(envelope.Errors) > 0 {
			return answer, envelope.Errors
		}
		return answer, fmt.Errorf("%w: neither data nor errors", ErrAnswer)
	}
	if err := json.Unmarshal(envelope.Data, data); err != nil {
		return answer, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	answer.Errors = envelope.Errors
	return answer, nil
}

// withoutURL drops the URL, which may hold a password, from an error.
func withoutURL(err error) error {
	var address *url.Error
	if errors.As(err, &address) {
		return address.Err
	}
	return err
}

// SizeError means that an answer is longer than the limit.
type SizeError struct{ Limit int64 }

func (e *SizeError) Error() string { return fmt.Sprintf("answer is longer than %d bytes", e.Limit) }

// Is reports a SizeError to be an ErrAnswer as well.
func (e *SizeError) Is(target error) bool { return target == ErrAnswer }

// StatusError is an HTTP status other than 200.
type StatusError struct {
	Code       int
	RetryAfter time.Duration // what the server asks for; 0 if it does not say
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("status %d %s", e.Code, http.StatusText(e.Code))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", retry after %s", e.RetryAfter)
	}
	return strings.TrimSpace(text)
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = time.Hour

// retryAfter reads the header Retry-After (RFC 9110, section 10.2.3).
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil && seconds >= 0 {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	// The header Date is of the same clock as at.
	if now, err := http.ParseTime(h.Get("Date")); err == nil {
		return max(0, min(at.Sub(now), maxRetryAfter))
	}
	return max(0, min(time.Until(at), maxRetryAfter))
}

// Errors are the errors of an answer.
type Errors []Error

// Error is one error of an answer.
type Error struct {
	Message    string `json:"message"`
	Path       []any  `json:"path"`
	Extensions struct {
		Code string `json:"code"`
	} `json:"extensions"`
}

// Error joins the first three errors.
func (e Errors) Error() string {
	var all []string
	for i, one := range e {
		if i == 3 {
			all = append(all, fmt.Sprintf("and %d more", len(e)-i))
			break
		}
		text := printable(one.Message, 300)
		if code := printable(one.Extensions.Code, 40); code != "" {
			text = code + ": " + text
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// Unknown reports whether an error says that the schema lacks a name: the request
// was refused, without any of the codes of a server that could not answer it.
func (e Errors) Unknown(name string) bool {
	for _, one := range e {
		switch one.Extensions.Code {
		case "INTERNAL_SERVER_ERROR", "REQUEST_TIMEOUT", "DATA_PRUNED":
		default:
			if strings.Contains(one.Message, name) {
				return true
			}
		}
	}
	return false
}

// printable cuts a text to n characters and drops those that do not print.
func printable(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if n == 0 {
			b.WriteString("…")
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			n--
		}
	}
	return b.String()
}

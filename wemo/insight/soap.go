package insight

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Fault is a UPnP error, which a device sends with HTTP status 500, such as 401
// Invalid Action or 501 Action Failed.
type Fault struct {
	Code        int
	Description string
}

// Error returns the code and the description.
func (f *Fault) Error() string {
	return fmt.Sprintf("UPnP error %d %s", f.Code, f.Description)
}

// errNoElement says that a well-formed document has no such element.
var errNoElement = errors.New("no such element")

// Matching is by local name only: every Insight answers GetInsightParams in
// the namespace of another service, urn:Belkin:service:metainfo:1.

// soapValue returns the text of the first element called name in an envelope.
// A fault in its place is returned as a *Fault.
func soapValue(envelope []byte, name string) (string, error) {
	v, err := xmlTexts(envelope, true, name, "faultstring", "errorCode", "errorDescription")
	if err != nil {
		return "", fmt.Errorf("parse SOAP envelope: %w", err)
	}
	if s, ok := v[name]; ok {
		return s, nil
	}
	if s, ok := v["errorCode"]; ok {
		code, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil {
			return "", fmt.Errorf("parse SOAP fault: error code is %.80q, want an integer", s)
		}
		return "", &Fault{Code: code, Description: plain(v["errorDescription"])}
	}
	if s, ok := v["faultstring"]; ok {
		return "", &Fault{Description: plain(s)}
	}
	return "", fmt.Errorf("parse SOAP envelope: %w: %s", errNoElement, name)
}

// xmlTexts returns the text of the first element of each local name. It stops at
// the end of the root element, since devices send bytes after it. With an error
// it returns the elements that were complete before it. Unless strict, it accepts
// a bare &.
func xmlTexts(doc []byte, strict bool, names ...string) (map[string]string, error) {
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(doc, []byte("\uFEFF"))))
	d.Strict = strict
	found := make(map[string]string, len(names))
	var text strings.Builder
	var open string // the element that text belongs to
	depth, openDepth := 0, 0
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return found, errors.New("no XML element")
		}
		if err != nil {
			return found, err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			depth++
			if open != "" {
				continue
			}
			for _, n := range names {
				if _, seen := found[n]; !seen && tok.Name.Local == n {
					open, openDepth = n, depth
					text.Reset()
				}
			}
		case xml.CharData:
			if open != "" {
				text.Write(tok)
			}
		case xml.EndElement:
			if open != "" && depth == openDepth {
				found[open], open = text.String(), ""
			}
			if depth--; depth == 0 {
				return found, nil
			}
		}
	}
}

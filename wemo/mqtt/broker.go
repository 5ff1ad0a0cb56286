// Package mqtt publishes to an MQTT broker and reads power from one.
//
// [Publisher] is a [wemo.Publisher]; [Source] is a [wemo.Source] for devices
// that publish their power themselves. Both connect through [Broker], by MQTT
// 5.0 (docs.oasis-open.org/mqtt/mqtt/v5.0), which Mosquitto speaks since 1.6:
// an MQTT 3.1.1 broker acknowledges a message that it refuses as if it had
// taken it, whereas an acknowledgement of 5.0 says which it did.
package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/net/websocket"
)

// Broker says where an MQTT broker is and how to log in to it.
type Broker struct {
	// URL is mqtt://HOST, mqtts://HOST, ws://HOST/PATH or wss://HOST/PATH, each
	// with or without :PORT. mqtts and wss use TLS; ws and wss are WebSockets.
	URL      string
	Username string // empty: anonymous
	Password []byte // never logged
	// CA holds the certificates, in PEM, of the authorities to trust with mqtts
	// and wss; nil: the system's.
	CA []byte

	patience time.Duration // see timeout; 0 is 5 s; tests set it
}

// timeout limits connecting, each write and each acknowledgement. It is also the
// keep-alive interval, which bounds how long a dead connection swallows readings.
func (b Broker) timeout() time.Duration {
	if b.patience != 0 {
		return b.patience
	}
	return 5 * time.Second
}

// ports are the default ports of the schemes.
var ports = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// Validate returns every reason why no connection can be tried. Its error does
// not contain a password, not even one in the URL.
func (b Broker) Validate() error {
	_, err := b.parse()
	_, tlsErr := b.tls()
	return errors.Join(err, tlsErr)
}

// parse returns the URL with its port.
func (b Broker) parse() (*url.URL, error) {
	const want = "want mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH"
	u, err := url.Parse(b.URL)
	if err != nil {
		return nil, errors.New("broker URL: " + want) // err may quote a password
	}
	if u.User != nil {
		return nil, errors.New("broker URL: username and password have fields of their own")
	}
	port, known := ports[u.Scheme]
	webSocket := strings.HasPrefix(u.Scheme, "ws")
	if !known || u.Hostname() == "" || !webSocket && strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("broker URL %.80q: %s", b.URL, want)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	return u, nil
}

// tls returns the TLS configuration for CA.
func (b Broker) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if b.CA != nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b.CA) {
			return nil, errors.New("broker CA: want certificates in PEM")
		}
	}
	return c, nil
}

// Try connects once and disconnects. Its error says why it cannot.
func (b Broker) Try(ctx context.Context) error {
	c, err := b.connect(ctx, newClientID(), nil, nil)
	if err != nil {
		return err
	}
	c.disconnect()
	return nil
}

// ErrRefused says that the broker refuses a subscription.
var ErrRefused = errors.New("subscription refused")

// TrySubscribe connects once, subscribes to a filter, and disconnects. The error
// wraps ErrRefused if the broker refuses the subscription.
func (b Broker) TrySubscribe(ctx context.Context, filter string) error {
	c, err := b.connect(ctx, newClientID(), nil, nil)
	if err != nil {
		return err
	}
	defer c.disconnect()
	ack, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter}}})
	if ack != nil && len(ack.Reasons) > 0 && ack.Reasons[0] >= 0x80 {
		return fmt.Errorf("subscribe to %s at %s: %w: %s", filter, b.URL, ErrRefused, reason(ack.Reasons[0], ""))
	} else if err != nil {
		return fmt.Errorf("subscribe to %s at %s: %w", filter, b.URL, b.explain(ctx, err))
	}
	return nil
}

// connection is one MQTT connection. After the first error it is of no use, and
// its owner connects again; nothing is left over from the old one.
type connection struct {
	*paho.Client
	lost chan error // receives why the connection ended
}

// connect connects and logs in within timeout. receive is called for each
// message, one after the other; nil if nothing is subscribed to.
func (b Broker) connect(ctx context.Context, clientID string, will *paho.WillMessage, receive func(*paho.Publish)) (*connection, error) {
	u, err := b.parse()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout())
	defer cancel()
	conn, err := b.dial(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", b.URL, b.explain(ctx, err))
	}
	c := &connection{lost: make(chan error, 1)}
	lose := func(err error) {
		select {
		case c.lost <- fmt.Errorf("connection to %s: %w", b.URL, err):
		default: // a consequence of the first error
		}
	}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn:          &deadlineConn{Conn: conn, timeout: b.timeout()},
		PacketTimeout: b.timeout(),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if receive != nil {
				receive(p.Packet)
			}
			return true, nil
		}},
		OnClientError: lose,
		OnServerDisconnect: func(d *paho.Disconnect) {
			text := ""
			if d.Properties != nil {
				text = d.Properties.ReasonString
			}
			lose(fmt.Errorf("broker disconnected: %s", reason(d.ReasonCode, text)))
		},
	})
	few := uint16(16)          // paho allocates a queue of this length
	largest := uint32(1 << 20) // bytes; the broker leaves out longer messages
	ack, err := c.Connect(ctx, &paho.Connect{
		ClientID:     clientID,
		CleanStart:   true,
		KeepAlive:    uint16(b.timeout().Seconds()),
		UsernameFlag: b.Username != "", Username: b.Username,
		PasswordFlag: b.Username != "", Password: b.Password,
		WillMessage: will,
		Properties:  &paho.ConnectProperties{ReceiveMaximum: &few, MaximumPacketSize: &largest, RequestProblemInfo: true},
	})
	if err == nil {
		return c, nil
	}
	if ack != nil && ack.ReasonCode >= 0x80 {
		text := ""
		if ack.Properties != nil {
			text = ack.Properties.ReasonString
		}
		err = errors.New(reason(ack.ReasonCode, text))
	}
	return nil, fmt.Errorf("connect to %s: %w", b.URL, b.explain(ctx, err))
}

// dial opens the transport.
func (b Broker) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	config, err := b.tls()
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "mqtt":
		return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	case "mqtts":
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
	}
	ws := websocket.Config{
		Location: u, Origin: &url.URL{Scheme: "http", Host: u.Host},
		Protocol: []string{"mqtt"}, Version: websocket.ProtocolVersionHybi13, TlsConfig: config,
	}
	conn, err := ws.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	conn.PayloadType = websocket.BinaryFrame
	return conn, nil
}

// disconnect ends the connection in good order: no last will is published.
func (c *connection) disconnect() { c.Disconnect(&paho.Disconnect{}) }

// explain replaces the error of an expired timeout by what it means.
func (b Broker) explain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", b.timeout())
	}
	return err
}

// deadlineConn limits the time of each write, and lets paho serialize writes.
type deadlineConn struct {
	net.Conn
	sync.Mutex
	timeout time.Duration
}

func (c *deadlineConn) Write(b []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(c.timeout))
	return c.Conn.Write(b)
}

// newClientID returns an ID that nobody can guess: a client that connects with
// our ID ends our connection.
func newClientID() string { return "iotoll-" + strings.ToLower(rand.Text()[:16]) }

// reason returns the name of a reason code (MQTT 5.0, section 2.4) and the
// broker's own text, if any.
func reason(code byte, text string) string {
	name, ok := map[byte]string{
		0x80: "unspecified error",
		0x83: "implementation specific error",
		0x84: "unsupported protocol version",
		0x85: "client identifier not valid",
		0x86: "bad username or password",
		0x87: "not authorized",
		0x88: "server unavailable",
		0x89: "server busy",
		0x8a: "banned",
		0x8b: "server shutting down",
		0x8d: "keep alive timeout",
		0x8e: "session taken over",
		0x90: "topic name invalid",
		0x95: "packet too large",
		0x96: "message rate too high",
		0x97: "quota exceeded",
		0x98: "administrative action",
		0x99: "payload format invalid",
		0x9a: "retain not supported",
		0x9b: "QoS not supported",
	}[code]
	if !ok {
		name = fmt.Sprintf("reason code 0x%02x", code)
	}
	if text != "" {
		name += fmt.Sprintf(" (%.80q)", text)
	}
	return name
}

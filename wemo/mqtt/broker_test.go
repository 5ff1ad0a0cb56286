package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/internal/mosquitto"
)

func TestTry(t *testing.T) {
	t.Parallel()
	b := start(t)
	s := b.subscribe("#")
	if err := (&Publisher{Broker: b.login(), Status: "sensor/status"}).Try(t.Context()); err != nil {
		t.Errorf("Try: %v", err)
	}
	wrong := b.login()
	wrong.Password = []byte("wrong-s3cret")
	if err := wrong.Try(t.Context()); err == nil || !strings.Contains(err.Error(), "not authorized") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Try with a wrong password: got %v, want the reason and not the password", err)
	}
	b.Kill()
	if err := b.login().Try(t.Context()); err == nil || !strings.Contains(err.Error(), b.URL()) {
		t.Errorf("Try without a broker: got %v, want an error with the URL", err)
	}
	if all := s.on("sensor/status"); len(all) > 0 {
		t.Errorf("Try published %v", all)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		b := Broker{URL: scheme + "://" + silent.Addr().String(), patience: 100 * time.Millisecond}
		if err := b.Try(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
			t.Errorf("Try %s with a silent broker: got %v, want no answer", scheme, err)
		}
	}
}

func TestBrokerURL(t *testing.T) {
	for url, want := range map[string]string{
		"mqtt://h": "mqtt://h:1883", "mqtts://h": "mqtts://h:8883", "mqtt://[::1]:7/": "mqtt://[::1]:7/",
		"ws://h/mqtt": "ws://h:80/mqtt", "wss://h": "wss://h:443",
	} {
		b := Broker{URL: url}
		if u, err := b.parse(); err != nil || b.Validate() != nil || u.String() != want {
			t.Errorf("%s: got %v, %v, want %s", url, u, err, want)
		}
	}
	for _, url := range []string{"", "127.0.0.1:1883", "http://127.0.0.1", "mqtt://", "mqtt://writer:s3cret@127.0.0.1", "mqtt://s3cret:s3cret@%zz", "mqtt://h/path"} {
		p := &Publisher{Broker: Broker{URL: url}}
		if err := p.Run(t.Context(), nil); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Run with URL %q: got %v, want an error without the password", url, err)
		}
	}
	if err := (Broker{URL: "mqtts://h", CA: []byte("x")}).Validate(); err == nil || !strings.Contains(err.Error(), "want certificates in PEM") {
		t.Errorf("CA that is no PEM: got %v", err)
	}
}

// Each scheme connects, and with TLS only to a broker whose certificate the CA has
// signed.
func TestTransports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := selfSigned(t, dir)
	ports := map[string]int{}
	conf := "allow_anonymous true\n"
	for _, scheme := range []string{"mqtts", "ws", "wss"} {
		ports[scheme] = mosquitto.FreePort(t)
		conf += fmt.Sprintf("listener %d 127.0.0.1\n", ports[scheme])
		if strings.HasPrefix(scheme, "ws") {
			conf += "protocol websockets\n"
		}
		if strings.HasSuffix(scheme, "s") && scheme != "ws" {
			conf += fmt.Sprintf("certfile %s/cert\nkeyfile %s/key\n", dir, dir)
		}
	}
	b := &broker{t: t, Broker: mosquitto.Start(t, conf+"listener PORT 127.0.0.1\n")}
	for _, port := range ports {
		b.WaitListening(port)
	}
	s := b.subscribe("#")
	for scheme, port := range ports {
		url := fmt.Sprintf("%s://127.0.0.1:%d/", scheme, port)
		p := &Publisher{Broker: Broker{URL: url, CA: ca}}
		connected(t, p)
		p.Publish(scheme, []byte(strings.Repeat("x", 10_000)), true)
		s.wait(t, scheme, func(m published) bool { return len(m.payload) == 10_000 })
		if got, err := (Broker{URL: url, CA: ca}).Retained(t.Context(), scheme); err != nil || len(got) != 10_000 {
			t.Errorf("%s: Retained: got %d bytes, %v, want 10000", scheme, len(got), err)
		}
		err := Broker{URL: url}.Try(t.Context())
		if secure := scheme != "ws"; secure != (err != nil && strings.Contains(err.Error(), "certificate")) {
			t.Errorf("%s without the CA: got %v, want an error about the certificate: %t", scheme, err, secure)
		}
	}
}

// selfSigned writes cert and key for 127.0.0.1 and returns the certificate.
func selfSigned(t *testing.T, dir string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"cert": cert, "key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

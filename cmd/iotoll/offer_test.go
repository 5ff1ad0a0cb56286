package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/cmd/internal/daemon"
)

// TestOffersTopic: a buyer's program reads from the broker what there is to buy.
func TestOffersTopic(t *testing.T) {
	t.Parallel()
	port := startMosquitto(t)
	s := newSite(t, "http://127.0.0.1:1", fmt.Sprintf(`broker: {url: "mqtt://127.0.0.1:%s", username: iotoll, password_file: broker-password, offers_topic: iotoll/offers}
`, port))
	s.edit("public: [sensor/1m]", "public: [sensor/1m, iotoll/offers]")
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.config), "broker-password"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, "", "--config", s.config, "serve")

	var document []byte
	eventually(t, "the offers to be there, retained", func() bool {
		var err error
		document, err = exec.Command("mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-t", "iotoll/offers", "--retained-only", "-C", "1", "-W", "5").Output()
		return err == nil
	})
	var offers []daemon.Listing
	if err := json.Unmarshal(document, &offers); err != nil || len(offers) != 1 {
		t.Fatalf("iotoll/offers: got %s, %v", document, err)
	}
	if line, _ := json.Marshal(offers[0]); string(line)+"\n" != s.must("", "offer", "list") || offers[0].Price != "500" || offers[0].Address != depositAddress {
		t.Errorf("iotoll/offers: got %s, want what offer list prints", document)
	}
	// The account was made, and may publish there.
	if out := s.must("", "user", "list", "--json"); !strings.Contains(out, `"iotoll/offers=w"`) {
		t.Errorf("user list: got %s, want the right to publish the offers", out)
	}
}

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/cmd/internal/rig"
	"github.com/iotoll/iotoll/tangle/buyer"
)

// Everybody reads the offers; each user reads its own account and no other. The
// broker needs no setting for that.
func TestBuyersTopics(t *testing.T) {
	r := newRig(t, rig.Options{})
	url := fmt.Sprintf("mqtt://127.0.0.1:%d", r.BrokerPort)
	anybody := client(t, r, "anybody", "", "-t", "#")
	john := client(t, r, "john", "john", "-t", "iotoll/account/john")
	eventually(t, "the offers", func() bool { return strings.Contains(anybody.Output(), `iotoll/offers {"v":1,`) })
	eventually(t, "the account", func() bool { return strings.Contains(john.Output(), `"state":"none"`) })
	pay(t, r, r.Price, `{"username": "john"}`)
	eventually(t, "the purchase", func() bool { return strings.Contains(john.Output(), `"state":"open"`) })
	jane := client(t, r, "jane", "jane", "-t", "#", "-t", "sensor/#")
	eventually(t, "Jane's own account", func() bool { return strings.Contains(jane.Output(), `"username":"jane"`) })
	for _, other := range []*rig.Process{anybody, jane} {
		if strings.Contains(other.Output(), `"username":"john"`) || strings.Contains(other.Output(), "iotoll/account/john") {
			t.Errorf("%s read John's account:\n%s", other.Name, other.Output())
		}
	}
	if out := iotoll(t, r, "offers", url); !strings.Contains(out, "live: 500 i for 1h, available\n") {
		t.Errorf("offers: got\n%s", out)
	}
	out := iotoll(t, r, "status", url, "-u", "john", "--password-file", r.PasswordFile("john"))
	if !strings.Contains(out, "live: open until ") || !strings.Contains(out, "0:59:") {
		t.Errorf("status: got\n%s", out)
	}
	if out, err := r.Iotoll(t.Context(), "status", url, "-u", "john", "--password-file", r.PasswordFile("jane")); err == nil {
		t.Errorf("status with another's password: got\n%s", out)
	}
	if topic, _ := buyer.AccountTopic("john"); count(john, topic) < 2 {
		t.Errorf("got %d messages, want at least 2", count(john, topic))
	}
}

package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/internal/mosquitto"
)

// The web interface of Mosquitto 2.1 asks about logins and URLs on another thread than
// that of the deliveries. Mosquitto 2.0 has no web interface and refuses to start with
// one.
func TestBrokerWebInterface(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	for i := range 4 {
		s.user(acl.User{Name: fmt.Sprint("web", i), Rights: []acl.Right{{Pattern: "/api/v1/version", Access: acl.Read}}})
	}
	s.user(acl.User{Name: "off", Disabled: true, Rights: []acl.Right{{Pattern: "#", Access: acl.Read}}})
	port := mosquitto.FreePort(t)
	b := launch(t, conf(s.uri, fmt.Sprintf("listener %d 127.0.0.1\nprotocol http_api", port)), build(t, ""))
	eventually(t, "start", func() bool { return !b.Running() || strings.Contains(b.Log(), "mosquitto version ") })
	if !b.Running() {
		if want := "Invalid protocol value (http_api)"; !strings.Contains(b.Log(), want) {
			t.Errorf("the broker's log does not say %s:\n%s", want, b.Log())
		}
		return
	}
	b.WaitListening(b.Port)
	b.waitLog("following the store")
	b.WaitListening(port)
	get := func(user, pass, path string) int {
		r, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, pass)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Errorf("GET %s as %s: %v", path, user, err)
			return 0
		}
		answer.Body.Close()
		return answer.StatusCode
	}

	// Meanwhile every message has another topic, so that Go is entered and the decision
	// cache changes.
	var stop atomic.Bool
	var load sync.WaitGroup
	for i := range 2 {
		c := b.connect(connect{user: "jane", pass: "secret", id: fmt.Sprint("load", i)})
		c.subscribe("load/#", 0)
		load.Go(func() {
			for j := 0; !stop.Load(); j++ {
				c.publish(fmt.Sprint("load/", i, "/", j%1000), "x", 1, false)
			}
		})
	}
	var asking sync.WaitGroup
	for i := range 4 {
		web := fmt.Sprint("web", i)
		asking.Go(func() {
			for n := range 300 {
				for _, c := range []struct {
					user, pass, path string
					want             int
				}{
					{web, "secret", "/api/v1/version", 200}, {web, "secret", "/api/v1/systree", 401}, {web, "secret", fmt.Sprint("/none/", n), 401},
					{"jane", "secret", fmt.Sprint("/none/", n), 404}, {"", "", "/api/v1/version", 401},
				} {
					if got := get(c.user, c.pass, c.path); got != c.want {
						t.Errorf("GET %s as %q: got %d, want %d", c.path, c.user, got, c.want)
						return
					}
				}
			}
		})
	}
	asking.Wait()
	for _, c := range [][2]string{{"web0", "wrong"}, {"off", "secret"}, {"nobody", "secret"}} {
		if got := get(c[0], c[1], "/api/v1/version"); got != 401 {
			t.Errorf("GET as %s with password %s: got %d, want 401", c[0], c[1], got)
		}
	}
	stop.Store(true)
	load.Wait()
}

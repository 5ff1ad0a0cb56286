package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
)

// BenchmarkBrokerLogins measures what 20 logins a second cost the other clients, while
// a message is delivered every 5 ms, with Mosquitto's password_file and with the plugin.
// The users of "first", "more" and "generated" log in for the first time: those of
// "first" block Mosquitto 2.0, those of "more" are deferred, those of "generated" have
// passwords that iotoll made. "again" are the users of "first" once more. PATH selects
// the version of the broker.
func BenchmarkBrokerLogins(b *testing.B) {
	const first, more, again, generated = 60, 100, 60, 60
	pw := password.Generate()
	cheap, err := password.Hash(pw)
	if err != nil {
		b.Fatal(err)
	}
	jane := acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}}
	s := startStore(b)
	s.user(jane)
	passwords := []string{"jane:secret"}
	for i := range first + more {
		name := fmt.Sprint("u", i)
		s.user(acl.User{Name: name})
		passwords = append(passwords, name+":secret")
	}
	for i := range generated {
		if err := s.AddUser(b.Context(), acl.User{Name: fmt.Sprint("g", i), Password: cheap}); err != nil {
			b.Fatal(err)
		}
	}
	file := filepath.Join(b.TempDir(), "passwords")
	if err := os.WriteFile(file, []byte(strings.Join(passwords, "\n")+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("mosquitto_passwd", "-U", file).CombinedOutput(); err != nil {
		b.Fatalf("mosquitto_passwd: %v\n%s", err, out)
	}

	// measure lets users log in, with numbers from one to another.
	measure := func(broker *broker, name string, from, to int, prefix, pass string) {
		publisher := broker.connect(connect{user: "jane", pass: "secret", id: "publisher"})
		reader := broker.connect(connect{user: "jane", pass: "secret", id: "reader"})
		reader.subscribe("a", 0)
		var latencies, took []time.Duration
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					publisher.publish("a", "end", 0, false)
					return
				case <-tick.C: // whether or not the last one has arrived
					publisher.publish("a", time.Now().Format(time.RFC3339Nano), 0, false)
				}
			}
		})
		wg.Go(func() {
			for d := range reader.inbox {
				sent, err := time.Parse(time.RFC3339Nano, d.payload)
				if err != nil {
					return
				}
				latencies = append(latencies, time.Since(sent))
			}
		})
		for i := from; i < to; i++ {
			next := time.Now().Add(50 * time.Millisecond)
			if prefix != "" {
				start := time.Now()
				user := fmt.Sprint(prefix, i)
				broker.connect(connect{user: user, pass: pass, id: user}).drop()
				took = append(took, time.Since(start))
			}
			time.Sleep(time.Until(next))
		}
		close(stop)
		wg.Wait()
		publisher.disconnect()
		reader.disconnect()
		at := func(d []time.Duration, part float64) float64 {
			slices.Sort(d)
			return d[int(part*float64(len(d)-1))].Seconds() * 1000
		}
		b.ReportMetric(at(latencies, 0.5), name+"-p50-ms")
		b.ReportMetric(at(latencies, 0.99), name+"-p99-ms")
		b.ReportMetric(at(latencies, 1), name+"-max-ms")
		if len(took) > 0 {
			b.ReportMetric(at(took, 0.5), name+"-login-p50-ms")
			b.ReportMetric(at(took, 0.99), name+"-login-p99-ms")
		}
	}
	for b.Loop() {
		builtin := startBroker(b, "set_tcp_nodelay true\nlistener PORT 127.0.0.1\npassword_file "+file+"\n")
		measure(builtin, "password_file", 0, first, "u", "secret")
		builtin.Stop()
		ours := startBroker(b, conf(s.uri))
		ours.waitLog("following the store")
		measure(ours, "idle", 0, first, "", "")
		measure(ours, "generated", 0, generated, "g", pw)
		measure(ours, "first", 0, first, "u", "secret")
		measure(ours, "again", 0, again, "u", "secret")
		measure(ours, "more", first, first+more, "u", "secret")
		ours.Stop()
	}
}

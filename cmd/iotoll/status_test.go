package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle/buyer"
)

// TestAccountTopic: serve tells each user what it bought, and status prints it.
func TestAccountTopic(t *testing.T) {
	t.Parallel()
	node, seed := startTangle(t)
	s, port := newPublishingSite(t, node, "")
	s.must("hunter2", "user", "add", "john")
	p := startProcess(t, "--config", s.config, "serve")
	p.await("deposit address is watched from now on")
	url := "mqtt://127.0.0.1:" + port

	var a buyer.Account
	shows := func(what string, ok func() bool) {
		t.Helper()
		eventually(t, what, func() bool {
			document := retained(port, "iotoll/account/john")
			var err error
			if a, err = buyer.ParseAccount(document); err != nil || !ok() {
				return false
			}
			if err := conforms(t, "account.schema.json", document); err != nil {
				t.Errorf("%s: %v", document, err)
			}
			return true
		})
	}
	pay := func(amount int64, message string) {
		t.Helper()
		mustRun(t, "pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress,
			"--amount", strconv.FormatInt(amount, 10), "--message", message, "--wait")
	}
	shows("an empty account", func() bool { return a.Offers[0].State == buyer.None })
	pay(300, `{"username": "john"}`)
	shows("the credit", func() bool {
		return len(a.Notices) == 1 && a.Notices[0].Text == "300 of 500 i received for live. Send 200 more; the 300 stay yours."
	})
	pay(200, `{"username": "john"}`)
	shows("the time", func() bool { return a.Offers[0].State == buyer.Open && a.Receipt.Amount == "200" })
	pay(700, `{"username": "john", "offer": "gone"}`)
	shows("the held payment", func() bool { return len(a.Held) == 1 && a.Held[0].Amount == "700" })

	r := iotoll(t, "hunter2", "status", url, "-u", "john")
	for _, want := range []string{"live: open until 20", " 0:59:", "  renewal  500 i for 1h\n", "last payment: 200 i for live at ",
		`note: A payment of 700 i is held: the message names the offer "gone", which does not exist. `} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("status: got %+v, want %q", r, want)
		}
	}
	if r := iotoll(t, "hunter2", "status", url, "-u", "john", "--json"); r.code != 0 || r.out != string(retained(port, "iotoll/account/john")) {
		t.Errorf("status --json: got %+v, want the document", r)
	}
	if r := iotoll(t, "hunter2", "status", url, "-u", "a/b"); r.code != 2 || !strings.Contains(r.errOut, `--username "a/b": want a name without / + and #`) {
		t.Errorf("status of a name without a topic: got %+v", r)
	}
	if r := iotoll(t, "", "status", url, "-u", "john", "--password-file", "/nonexistent"); r.code != 1 || !strings.Contains(r.errOut, "open /nonexistent") {
		t.Errorf("status without the file: got %+v", r)
	}

	s.must("", "grant", "revoke", "john", "live", "--reason", "misuse")
	shows("the revocation", func() bool { return a.Offers[0].State == buyer.Ended })

	// Who listens is told of the removal by an empty message.
	var heard logBuffer
	listen := exec.Command("mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-t", "iotoll/account/john", "-F", "<%p>")
	listen.Stdout = &heard
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	defer listen.Wait()
	defer listen.Process.Kill()
	eventually(t, "the subscription", func() bool { return strings.Contains(heard.String(), "<{") })
	s.must("", "user", "remove", "john")
	eventually(t, "an empty message", func() bool { return strings.Contains(heard.String(), "<>") })
	eventually(t, "the topic to be cleared", func() bool { return retained(port, "iotoll/account/john") == nil })
}

// TestCountDown: a terminal shows each second what is left, and what changes.
func TestCountDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := func(until time.Time) buyer.Account {
			return buyer.Account{Version: 1, Offers: []buyer.Holding{{ID: "live", State: buyer.Open, Until: &until, Credit: "0", Renewal: "0.5", Unit: "IOTA", Seconds: 3600}}}
		}
		lost := errors.New("connection lost")
		for what, test := range map[string]struct {
			follow func(context.Context, func([]byte) bool) error
			err    string
			shows  []string
		}{
			"renewed": {func(ctx context.Context, receive func([]byte) bool) error {
				time.Sleep(2500 * time.Millisecond)
				longer, err := json.Marshal(account(time.Now().Add(72*time.Hour + 500*time.Millisecond)))
				receive(longer)
				<-ctx.Done()
				return err
			}, "<nil>", []string{"1d 02:01:30 left", "1d 02:01:29 left", "1d 02:01:28 left", "3d 00:00:00 left"}},
			"lost": {func(context.Context, func([]byte) bool) error { time.Sleep(1500 * time.Millisecond); return lost }, lost.Error(), []string{"1d 02:01:30 left", "1d 02:01:29 left"}},
			"removed": {func(ctx context.Context, receive func([]byte) bool) error {
				receive(nil)
				<-ctx.Done()
				return nil
			}, "the account was removed", []string{"1d 02:01:30 left"}},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			var w bytes.Buffer
			begin := time.Now()
			if err := countDown(ctx, &w, account(begin.Add(26*time.Hour+90*time.Second)), test.follow); fmt.Sprint(err) != test.err {
				t.Errorf("%s: got %v, want %s", what, err, test.err)
			}
			cancel()
			for _, want := range test.shows {
				if !strings.Contains(w.String(), want) {
					t.Errorf("%s: got %q, want %q", what, w.String(), want)
				}
			}
		}
	})
}

// TestLeft: what is left is rounded down.
func TestLeft(t *testing.T) {
	for d, want := range map[time.Duration]string{
		999 * time.Millisecond: "0:00:00", time.Hour - time.Millisecond: "0:59:59", 90 * time.Minute: "1:30:00", 49*time.Hour + time.Second: "2d 01:00:01",
	} {
		if got := left(d); got != want {
			t.Errorf("left(%s): got %s, want %s", d, got, want)
		}
	}
}

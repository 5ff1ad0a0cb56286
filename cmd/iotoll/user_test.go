package main

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/daemon"
)

func TestUser(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	s.prints("USER  STATE  RIGHTS\n", "user", "list")

	if out := s.must("hunter2\n", "user", "add", "john"); out != "added user john\n" {
		t.Errorf("user add: got %q", out)
	}
	file := writeFile(t, "password", "hunter3\n")
	s.must("", "user", "add", "sensor", "--password-file", file, "--right", "sensor/#=rw", "--right", "log/%u=w")
	s.must("hunter4", "user", "add", "root", "--superuser")
	s.must("", "user", "disable", "john")
	s.prints(`USER    STATE      RIGHTS
john    disabled   
root    superuser  
sensor  -          sensor/#=rw log/%u=w
`, "user", "list")
	s.prints(`{"user":"john","state":"disabled","superuser":false,"disabled":true,"rights":[]}
{"user":"root","state":"ready","superuser":true,"disabled":false,"rights":[]}
{"user":"sensor","state":"ready","superuser":false,"disabled":false,"rights":["sensor/#=rw","log/%u=w"]}
`, "user", "list", "--json")
	s.answers("deny: user disabled", "john", "read", "sensor/live")
	s.answers("permit: static right", "sensor", "write", "sensor/live")
	s.answers("permit: superuser", "root", "write", "any/thing")
	s.must("", "user", "set", "root", "--superuser=false", "--right", "log/#=r")
	s.answers("deny: no right", "root", "write", "any/thing")
	s.answers("permit: static right", "root", "read", "log/x")
	s.must("", "user", "set", "root", "--right", "")
	s.answers("deny: no right", "root", "read", "log/x")
	s.refuses(2, "nothing to set, want --right, --superuser or --disabled", "", "user", "set", "root")
	s.refuses(1, "not found", "", "user", "set", "nobody", "--disabled")
	s.must("", "user", "enable", "john")
	s.must("hunter5\n", "user", "passwd", "john")
	s.must("", "user", "remove", "john")
	s.answers("deny: unknown user", "john", "read", "sensor/live")

	s.refuses(1, "exists already\nhint: \"iotoll user passwd root\" changes the password\n", "x", "user", "add", "root")
	s.refuses(1, "not found", "", "user", "remove", "john")
	s.refuses(1, "not found", "x", "user", "passwd", "john")
	s.refuses(1, "not found", "", "user", "disable", "john")
	s.refuses(1, "read password from stdin: it is empty", "", "user", "add", "jane")
	s.refuses(1, "no such file or directory", "", "user", "add", "jane", "--password-file", "/nonexistent")
	s.refuses(2, `username "a/b": contains + # or /, which have a meaning in topics`, "x", "user", "add", "a/b")
	s.refuses(2, "is longer than 65535 bytes", "x", "user", "add", strings.Repeat("x", 70000))
	s.refuses(2, "contains a NUL character", "x", "user", "add", "a\x00b")
	s.refuses(2, `--right "sensor/#": must be a topic filter and =r, =w or =rw, such as sensor/#=rw`, "x", "user", "add", "jane", "--right", "sensor/#")
	s.refuses(2, `--right "sensor/#": must be`, "x", "user", "add", "jane", "--right", "sensor/#")
	s.refuses(2, `--right "a#=r": pattern of a right`, "x", "user", "add", "jane", "--right", "a#=r")
	s.refuses(2, "user needs a command: one of add, list, passwd, disable, enable, set, remove", "", "user")
}

// A generated password is printed once, and it is the one that was stored.
func TestUserGenerate(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	added := s.must("", "user", "add", "meter", "--generate", "--right", "sensor/#=w")
	changed := s.must("", "user", "passwd", "meter", "--generate")
	first, ok := strings.CutPrefix(added, "added user meter\npassword: ")
	second, ok2 := strings.CutPrefix(changed, "changed the password of meter\npassword: ")
	if !ok || !ok2 || first == second {
		t.Fatalf("user add and user passwd: got %q and %q, want two passwords", added, changed)
	}
	cfg, err := config.Load(s.config)
	if err != nil {
		t.Fatal(err)
	}
	err = daemon.WithStore(t.Context(), cfg, newLog(io.Discard), func(ctx context.Context, store *mongostore.Store) error {
		u, err := store.User(ctx, "meter")
		if err != nil {
			return err
		}
		if ok, err := password.Verify(u.Password, strings.TrimSuffix(second, "\n")); !ok || err != nil || !password.Cheap(u.Password) {
			t.Errorf("the stored hash is cheap: %t; it verifies what was printed: %t, %v", password.Cheap(u.Password), ok, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := s.run("", "user", "add", "meter", "--generate"); r.code != 1 || strings.Contains(r.out+r.errOut, "password: ") {
		t.Errorf("user add of one who exists: got %+v, want a refusal without a password", r)
	}
	s.refuses(2, "generate", "", "user", "add", "x", "--generate", "--password-file", "y")
}

func TestCheckUsage(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	s.refuses(2, `access "eat": must be read, write, subscribe or unsubscribe`, "", "check", "john", "eat", "cake")
	s.refuses(2, "missing argument: TOPIC", "", "check", "john", "read")
	s.answers("deny: malformed", "john", "read", "sensor/#")
	s.answers("permit: unsubscribe", "-", "unsubscribe", "sensor/live")
}

func TestOfferList(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:1", "")
	s.prints(`{"v":1,"ledger":"legacy","network":"local","offers":[{"id":"live","topics":["sensor/live"],"price":"500","unit":"i","decimals":0,"amount":"500","period_seconds":3600,"address":"`+depositAddress+`","how":"{\"username\":\"YOUR NAME\",\"offer\":\"live\"}"}],"free_topics":["sensor/1m"],"signup":false}
`, "offer", "list")
}

package main

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// topic is what everybody publishes and reads.
const topic = "sensor/live"

// otherRules is how many rules that do not match the topic a publisher or
// subscriber has, before the one that does.
const otherRules = 8

// fixture is the users and rules that all configurations share.
type fixture struct {
	publisher   account   // may write the topic
	subscribers []account // may read it
	callers     []account // only log in
}

func newFixture(subscribers, callers int) *fixture {
	named := func(name string) account { return account{name, rand.Text()} }
	f := &fixture{publisher: named("publisher")}
	for i := range subscribers {
		f.subscribers = append(f.subscribers, named(fmt.Sprintf("reader%04d", i)))
	}
	for i := range callers {
		f.callers = append(f.callers, named(fmt.Sprintf("caller%04d", i)))
	}
	return f
}

func (f *fixture) everybody() []account {
	all := append([]account{f.publisher}, f.subscribers...)
	return append(all, f.callers...)
}

// otherFilter returns the filter of a rule that does not match the topic.
func otherFilter(i int) string { return fmt.Sprintf("house/room%d/+/state", i) }

// hashed is a password as Mosquitto 2.0 stores it: PBKDF2 with SHA-512, of
// so few iterations that checking it takes a tenth of a millisecond.
type hashed struct {
	salt, key string // base64
}

const hashIterations = 101

// How a salt enters PBKDF2: Mosquitto decodes it, mosquitto-auth-plug, whose
// format iotoll reads, does not.
const (
	saltBytes = false
	saltText  = true
)

func hashPassword(password string, asText bool) (hashed, error) {
	salt := make([]byte, 12)
	rand.Read(salt)
	text := base64.StdEncoding.EncodeToString(salt)
	if asText {
		salt = []byte(text)
	}
	key, err := pbkdf2.Key(sha512.New, password, salt, hashIterations, sha512.Size)
	if err != nil {
		return hashed{}, fmt.Errorf("hash password: %w", err)
	}
	return hashed{text, base64.StdEncoding.EncodeToString(key)}, nil
}

// passwordFile returns the users for Mosquitto's password_file.
func (f *fixture) passwordFile() (string, error) {
	var b strings.Builder
	for _, a := range f.everybody() {
		h, err := hashPassword(a.password, saltBytes)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s:$7$%d$%s$%s\n", a.name, hashIterations, h.salt, h.key)
	}
	return b.String(), nil
}

// aclFile returns the rules for Mosquitto's acl_file.
func (f *fixture) aclFile() string {
	var b strings.Builder
	write := func(a account, access string) {
		fmt.Fprintf(&b, "user %s\n", a.name)
		for i := range otherRules {
			fmt.Fprintf(&b, "topic %s %s\n", access, otherFilter(i))
		}
		fmt.Fprintf(&b, "topic %s %s\n", access, topic)
	}
	write(f.publisher, "write")
	for _, a := range f.subscribers {
		write(a, "read")
	}
	return b.String()
}

// The configuration file of the dynamic-security plugin, as far as we use it.
type (
	dynsecConfig struct {
		DefaultACLAccess map[string]bool `json:"defaultACLAccess"`
		Clients          []dynsecClient  `json:"clients"`
		Groups           []struct{}      `json:"groups"`
		Roles            []dynsecRole    `json:"roles"`
	}
	dynsecClient struct {
		Username   string              `json:"username"`
		Password   string              `json:"password"`
		Salt       string              `json:"salt"`
		Iterations int                 `json:"iterations"`
		Roles      []map[string]string `json:"roles"`
	}
	dynsecRole struct {
		Rolename string      `json:"rolename"`
		ACLs     []dynsecACL `json:"acls"`
	}
	dynsecACL struct {
		Type  string `json:"acltype"`
		Topic string `json:"topic"`
		Allow bool   `json:"allow"`
	}
)

// dynamicSecurity returns users and rules for the dynamic-security plugin. It
// checks deliveries only when they are denied by default.
func (f *fixture) dynamicSecurity() (string, error) {
	c := dynsecConfig{
		DefaultACLAccess: map[string]bool{
			"publishClientSend": false, "publishClientReceive": false, "subscribe": false, "unsubscribe": true,
		},
		Groups: []struct{}{},
		Roles: []dynsecRole{
			{"publisher", dynsecRules("publishClientSend")},
			{"reader", append(dynsecRules("publishClientReceive"), dynsecACL{"subscribeLiteral", topic, true})},
			{"caller", []dynsecACL{}},
		},
	}
	for i, a := range f.everybody() {
		h, err := hashPassword(a.password, saltBytes)
		if err != nil {
			return "", err
		}
		role := "caller"
		if i == 0 {
			role = "publisher"
		} else if i <= len(f.subscribers) {
			role = "reader"
		}
		c.Clients = append(c.Clients, dynsecClient{
			a.name, h.key, h.salt, hashIterations, []map[string]string{{"rolename": role}},
		})
	}
	text, err := json.Marshal(c)
	return string(text), err
}

func dynsecRules(kind string) []dynsecACL {
	var rules []dynsecACL
	for i := range otherRules {
		rules = append(rules, dynsecACL{kind, otherFilter(i), true})
	}
	return append(rules, dynsecACL{kind, topic, true})
}

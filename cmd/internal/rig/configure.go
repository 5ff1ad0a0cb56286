package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/password"
)

// The configuration is written here rather than by "iotoll init", because
// every port differs and the offer lasts as long as the story needs.
var iotollConfig = template.Must(template.New("iotoll.yaml").Parse(`store:
  embedded:
    directory: {{.Dir}}/store
    socket: {{.Socket}}
ledger:
  kind: {{.Ledger}}
  network: local
  nodes: [{{.NodeURL}}]
offers:
  - id: live
    topics: [sensor/live]
    price: {{.Price}}
    period: {{.Period}}
    address: "{{.Deposit}}"
broker:
  url: mqtt://127.0.0.1:{{.BrokerPort}}
  username: ` + Publisher + `
  password_file: {{.PasswordFile "` + Publisher + `"}}
  settings_file: {{.Settings}}
plugs:
  - address: {{.PlugAddress}}
    live: sensor/live
    average: sensor/1m
    window: {{.Minute}}
`))

var brokerConfig = template.Must(template.New("mosquitto.conf").Parse(`listener {{.BrokerPort}} 127.0.0.1
allow_anonymous true
max_inflight_messages 0
{{if .Root}}user root
{{end}}plugin {{.Bin}}/iotoll.so
plugin_opt_store_uri {{.StoreURI}}
plugin_opt_settings_file {{.Settings}}
`))

// Root reports whether we are root, as whom the broker would otherwise give
// up the right to read our files.
func (r *Rig) Root() bool { return os.Getuid() == 0 }

// StoreURI is where the plugin finds the store.
func (r *Rig) StoreURI() string { return embedded.URI(r.Socket) }

// PasswordFile names the file that holds the password of a user.
func (r *Rig) PasswordFile(user string) string { return filepath.Join(r.Dir, user+".password") }

// Settings names the plugin's settings file: what is public.
func (r *Rig) Settings() string { return filepath.Join(r.Dir, "broker-settings") }

// configure makes a deposit address and writes the files.
func (r *Rig) configure(ctx context.Context) error {
	out, err := r.Iotoll(ctx, "address", "--new", "--ledger", r.Ledger, "--key-file", filepath.Join(r.Dir, "seller.key"))
	if err != nil {
		return fmt.Errorf("make a deposit address: %w\n%s", err, out)
	}
	r.Deposit = strings.TrimSpace(out)
	for path, t := range map[string]*template.Template{r.Config: iotollConfig, r.BrokerConf: brokerConfig} {
		var b bytes.Buffer
		if err := t.Execute(&b, r); err != nil {
			return err
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(r.Settings(), []byte("public sensor/1m\n"), 0o600); err != nil {
		return err
	}
	// serve creates this account, with a password as init writes it.
	return os.WriteFile(r.PasswordFile(Publisher), []byte(password.Generate()), 0o600)
}

// AddUser creates an account with a random password, kept in PasswordFile.
func (r *Rig) AddUser(ctx context.Context, name string, flags ...string) error {
	if err := os.WriteFile(r.PasswordFile(name), []byte(rand.Text()), 0o600); err != nil {
		return err
	}
	args := append([]string{"user", "add", name, "--password-file", r.PasswordFile(name)}, flags...)
	if out, err := r.Iotoll(ctx, args...); err != nil {
		return fmt.Errorf("add user %s: %w\n%s", name, err, out)
	}
	return nil
}

// Password returns the password of a user that AddUser created.
func (r *Rig) Password(user string) string {
	b, err := os.ReadFile(r.PasswordFile(user))
	if err != nil {
		return ""
	}
	return string(b)
}

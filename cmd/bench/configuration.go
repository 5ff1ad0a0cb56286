package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed peer/allow.c
var allowSource []byte

// The configurations that are compared. Ratios are to the floor, and to the
// better of the built-in ones.
const (
	none   = "none"   // no plugin
	files  = "files"  // password_file and acl_file
	dynsec = "dynsec" // Mosquitto's dynamic-security plugin, checking deliveries
	floor  = "allow"  // a C plugin that permits everything
	thread = "thread" // the same with a thread that sleeps: the floor for what is written in Go
	iotoll = "iotoll" // ours, every subscriber holding a live grant
)

var (
	configurations = []string{none, files, dynsec, floor, thread, iotoll}
	usual          = []string{none, files, dynsec, floor, iotoll}
	builtIn        = []string{files, dynsec}
)

// chosen returns the configurations of a comma-separated list, in our order; the
// usual ones if it is empty.
func chosen(list string) ([]string, error) {
	if list == "" {
		return usual, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(configurations, name) {
			return nil, fmt.Errorf("configuration %q does not exist, want some of %s", name, strings.Join(configurations, ","))
		}
	}
	return slices.DeleteFunc(slices.Clone(configurations), func(c string) bool { return !slices.Contains(names, c) }), nil
}

// prepare writes the files that a configuration needs and returns its part of
// mosquitto.conf.
func (b *bench) prepare(ctx context.Context, name string) (string, error) {
	switch name {
	case none:
		return "allow_anonymous true\n", nil
	case files:
		passwords, err := b.fixture.passwordFile()
		if err != nil {
			return "", err
		}
		return b.conf(
			option{"password_file", "passwords", passwords},
			option{"acl_file", "rules", b.fixture.aclFile()},
		)
	case dynsec:
		config, err := b.fixture.dynamicSecurity()
		if err != nil {
			return "", err
		}
		pattern := b.program.root + "/usr/lib/*/mosquitto_dynamic_security.so"
		plugins, err := filepath.Glob(pattern)
		if err != nil || len(plugins) == 0 {
			return "", errors.Join(fmt.Errorf("no %s: install Mosquitto's package", pattern), err)
		}
		plugin := "plugin " + b.program.inside(plugins[0]) + "\n"
		conf, err := b.conf(option{"plugin_opt_config_file", "dynamic-security.json", config})
		return plugin + conf, err
	case floor:
		return b.compileAllow(ctx, "allow.so")
	case thread:
		return b.compileAllow(ctx, "thread.so", "-DTHREAD")
	case iotoll:
		return b.prepareIotoll(ctx)
	}
	return "", fmt.Errorf("configuration %q does not exist", name)
}

// option is an option of mosquitto.conf that names a file, and the file's content.
type option struct{ name, file, content string }

// conf writes the files and returns the options.
func (b *bench) conf(options ...option) (string, error) {
	var conf strings.Builder
	for _, o := range options {
		path := filepath.Join(b.dir, o.file)
		if err := os.WriteFile(path, []byte(o.content), 0o600); err != nil {
			return "", err
		}
		fmt.Fprintf(&conf, "%s %s\n", o.name, b.program.inside(path))
	}
	return conf.String(), nil
}

// compileAllow compiles the plugin that permits everything.
func (b *bench) compileAllow(ctx context.Context, name string, flags ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	plugin := filepath.Join(b.dir, name)
	args := append([]string{"-O2", "-shared", "-fPIC", "-pthread", "-x", "c", "-o", plugin}, flags...)
	gcc := exec.CommandContext(ctx, "gcc", append(args, "-")...)
	gcc.Stdin = bytes.NewReader(allowSource)
	if out, err := gcc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the plugin that permits everything: %w\n%s", err, out)
	}
	return "plugin " + b.program.inside(plugin) + "\n", nil
}

//go:build !injectpanics

package main

// inject is where a test build panics; in this one it does nothing.
func inject(string) {}

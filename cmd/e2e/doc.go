// Package e2e holds the end-to-end tests: the programs as they are installed, a
// real Mosquitto and real mosquitto_sub clients, a simulated tangle and plug.
package e2e

// Package bench measures what iotoll's plugin costs a Mosquitto, as ratios to a
// baseline plugin that permits everything, to the same with a sleeping thread,
// and to Mosquitto's own password_file and acl_file. It holds benchmarks only:
//
//	go test -run '^$' -bench . -benchtime 1x ./cmd/bench
//
// The speed of a shared machine drifts by a quarter between minutes. So every
// figure is taken of all brokers in turn, throughput in slices of a quarter of a
// second, in several rounds with freshly started brokers, and a ratio is the
// median of the ratios within the rounds. Compare ratios, not absolute figures
// of different runs. The broker is the mosquitto on PATH (package
// internal/mosquitto).
package bench

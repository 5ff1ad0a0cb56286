package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	latencyReaders = 10
	messageRate    = 200 // messages a second
	loginRate      = 20  // log-ins a second
	warmUp         = 300 * time.Millisecond
	// beforehand is for how long others have logged in when "later" log-ins begin:
	// iotoll lets Mosquitto 2.0 stand still for them at first, and hardly later.
	beforehand = 3 * time.Second
)

// latency is how long deliveries took in one phase, in milliseconds.
type latency struct{ p50, p99, max float64 }

// latencies is the result of measureLatency, in milliseconds.
type latencies struct {
	alone  latency // nothing else going on
	logins latency // while others logged in
	later  latency // the same, when others had done so for a while
	login  float64 // p50 of the log-ins meanwhile, each the user's first
	again  float64 // p50 of the same users' second log-in
}

// measureLatency publishes at a rate far from the broker's limits and times
// each delivery: for a while alone, and as long again while users who were
// never there before log in, and later still do.
func measureLatency(ctx context.Context, b *broker, f *fixture, d time.Duration) (latencies, error) {
	pub, subs, err := connectAll(ctx, b.address, f, latencyReaders)
	defer closeAll(append(subs, pub))
	if err != nil {
		return latencies{}, err
	}
	m := &metronome{epoch: time.Now(), pub: pub}
	for _, c := range subs {
		m.readers = append(m.readers, bufio.NewReader(c))
	}
	var result latencies
	if _, err := m.phase(ctx, subs, warmUp); err != nil {
		return latencies{}, fmt.Errorf("warm up: %w", err)
	}
	if result.alone, err = m.phase(ctx, subs, d); err != nil {
		return latencies{}, fmt.Errorf("deliver: %w", err)
	}
	callers := f.callers[:loginsIn(d)]
	times := make(chan loginTimes, 1)
	go func() { times <- logIn(ctx, b.address, callers) }()
	for _, phase := range []struct {
		length time.Duration
		into   *latency
	}{{d, &result.logins}, {beforehand, new(latency)}, {d, &result.later}} {
		var phaseErr error
		*phase.into, phaseErr = m.phase(ctx, subs, phase.length)
		err = errors.Join(err, phaseErr)
	}
	first := <-times
	if err := errors.Join(err, first.err); err != nil {
		return latencies{}, fmt.Errorf("deliver during log-ins: %w", err)
	}
	result.login = quantile(first.ms, 0.5)
	var again []float64
	for _, a := range callers {
		ms, err := timeLogin(ctx, b.address, a)
		if err != nil {
			return latencies{}, fmt.Errorf("second log-in: %w", err)
		}
		again = append(again, ms)
	}
	result.again = quantile(again, 0.5)
	return result, nil
}

// loginsIn returns how many users log in in all three phases, of which the first
// and the last take d.
func loginsIn(d time.Duration) int { return int((2*d + beforehand).Seconds() * loginRate) }

// metronome publishes at a steady rate; each message carries its time.
type metronome struct {
	epoch   time.Time
	pub     net.Conn
	readers []*bufio.Reader
}

// phase publishes for d and returns how long the deliveries took.
func (m *metronome) phase(ctx context.Context, subs []net.Conn, d time.Duration) (latency, error) {
	messages := int(d.Seconds() * messageRate)
	deadline := time.Now().Add(d + patience)
	taken := make([][]float64, len(m.readers))
	errs := make([]error, len(m.readers)+1)
	var wg sync.WaitGroup
	for i, r := range m.readers {
		if err := subs[i].SetReadDeadline(deadline); err != nil {
			return latency{}, err
		}
		wg.Go(func() { taken[i], errs[i] = m.receive(r, messages) })
	}
	errs[len(m.readers)] = m.send(ctx, messages)
	if errs[len(m.readers)] != nil {
		closeAll(subs) // the readers would wait for what was not sent
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return latency{}, err
	}
	var all []float64
	for _, t := range taken {
		all = append(all, t...)
	}
	return latency{quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1)}, nil
}

func (m *metronome) send(ctx context.Context, messages int) error {
	var payload [payloadSize]byte
	begin := time.Now()
	for i := range messages {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / messageRate)))
		if err := ctx.Err(); err != nil {
			return err
		}
		binary.BigEndian.PutUint64(payload[:], uint64(time.Since(m.epoch)))
		if _, err := m.pub.Write(appendPublish(nil, topic, payload[:])); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}

// receive reads some messages and returns how many milliseconds each took.
func (m *metronome) receive(r *bufio.Reader, messages int) ([]float64, error) {
	taken := make([]float64, 0, messages)
	for range messages {
		kind, body, err := readPacket(r)
		if err != nil {
			return nil, fmt.Errorf("received %d of %d messages: %w", len(taken), messages, err)
		}
		if kind != packetPublish || len(body) < payloadSize {
			return nil, fmt.Errorf("received packet %#x of %d bytes, want a message", kind, len(body))
		}
		sent := time.Duration(binary.BigEndian.Uint64(body[len(body)-payloadSize:]))
		taken = append(taken, milliseconds(time.Since(m.epoch)-sent))
	}
	return taken, nil
}

// loginTimes is how long log-ins took.
type loginTimes struct {
	ms  []float64
	err error
}

// logIn logs users in at loginRate, whether or not the earlier ones are done.
func logIn(ctx context.Context, address string, users []account) loginTimes {
	ms := make([]float64, len(users))
	errs := make([]error, len(users))
	var wg sync.WaitGroup
	begin := time.Now()
	for i, a := range users {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / loginRate)))
		wg.Go(func() { ms[i], errs[i] = timeLogin(ctx, address, a) })
	}
	wg.Wait()
	return loginTimes{ms, errors.Join(errs...)}
}

// tryAgain is how long a client waits when the broker closed its connection
// without an answer, as iotoll makes Mosquitto 2.0 do when many log in at once.
const tryAgain = 100 * time.Millisecond

// timeLogin returns the milliseconds from opening the first connection to being
// let in.
func timeLogin(ctx context.Context, address string, a account) (float64, error) {
	begin := time.Now()
	c, err := dial(ctx, address, a)
	for (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && time.Since(begin) < handshakeTimeout && ctx.Err() == nil {
		time.Sleep(tryAgain)
		c, err = dial(ctx, address, a)
	}
	if err != nil {
		return 0, err
	}
	ms := milliseconds(time.Since(begin))
	hangUp(c)
	return ms, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

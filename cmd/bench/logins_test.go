package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	readers     = 10
	messageRate = 200 // messages a second, far from what a broker can deliver
	loginRate   = 20  // logins a second
	phase       = 1500 * time.Millisecond
	// settling is how long logins go on before they are measured again: the plugin
	// lets Mosquitto 2.0 stand still for the first ones, and hardly later.
	settling = 3 * time.Second
)

// BenchmarkLogins times deliveries at a moderate rate: while nothing else goes
// on, while users log in for the first time, and when they have done so for a
// while; and the logins themselves. iotoll's users have argon2id hashes, those of
// password_file PBKDF2 with 101 iterations.
func BenchmarkLogins(b *testing.B) {
	callers := int((2*phase + settling).Seconds() * loginRate)
	f := newFixture(b, readers, callers)
	for range b.N {
		values := make(map[string]series)
		for round := range rounds {
			for j := range 2 {
				name := []string{files, iotoll}[(round+j)%2]
				for measure, ms := range latencies(b, f, name) {
					if values[measure] == nil {
						values[measure] = make(series)
					}
					values[measure].add(name, ms)
				}
			}
		}
		for measure, v := range values {
			b.ReportMetric(v.median(iotoll), measure+"-ms")
			b.ReportMetric(v.ratio(iotoll, files), measure+"/files")
		}
	}
}

// latencies returns one round's milliseconds by measure.
func latencies(b *testing.B, f *fixture, name string) map[string]float64 {
	broker := f.start(b, name)
	defer broker.Stop()
	m := &metronome{epoch: time.Now(), publisher: dial(b, broker, f.publisher)}
	for _, a := range f.subscribers[:readers] {
		c := dial(b, broker, a)
		subscribe(b, c)
		m.subscribers = append(m.subscribers, c)
		m.readers = append(m.readers, bufio.NewReader(c))
	}
	m.publish(b, 300*time.Millisecond) // warm up
	result := make(map[string]float64)
	note := func(when string, ms []float64) {
		result[when+"-p50"], result[when+"-p99"] = quantile(ms, 0.5), quantile(ms, 0.99)
	}
	note("alone", m.publish(b, phase))
	first := make(chan []float64, 1)
	go func() { first <- logIn(b, broker, f.callers) }()
	note("logins", m.publish(b, phase))
	m.publish(b, settling)
	note("later-logins", m.publish(b, phase))
	result["first-login-p50"] = quantile(<-first, 0.5)
	var again []float64
	for _, a := range f.callers {
		again = append(again, timeLogin(b, broker, a))
	}
	result["second-login-p50"] = quantile(again, 0.5)
	return result
}

// metronome publishes at a steady rate; each message carries its time.
type metronome struct {
	epoch       time.Time
	publisher   net.Conn
	subscribers []net.Conn
	readers     []*bufio.Reader
}

// publish publishes for d and returns how many milliseconds each delivery took.
func (m *metronome) publish(b *testing.B, d time.Duration) []float64 {
	messages := int(d.Seconds() * messageRate)
	taken := make([][]float64, len(m.readers))
	var all sync.WaitGroup
	for i, r := range m.readers {
		m.subscribers[i].SetReadDeadline(time.Now().Add(d + patience))
		all.Go(func() {
			for range messages {
				payload, err := readMessage(r)
				if err != nil {
					b.Errorf("receive message %d of %d: %v", len(taken[i])+1, messages, err)
					return
				}
				sent := time.Duration(binary.BigEndian.Uint64(payload))
				taken[i] = append(taken[i], milliseconds(time.Since(m.epoch)-sent))
			}
		})
	}
	begin := time.Now()
	var payload [payloadSize]byte
	for i := range messages {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / messageRate)))
		binary.BigEndian.PutUint64(payload[:], uint64(time.Since(m.epoch)))
		if _, err := m.publisher.Write(publishFrame(payload[:])); err != nil {
			b.Errorf("publish: %v", err)
			break
		}
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	var ms []float64
	for _, t := range taken {
		ms = append(ms, t...)
	}
	return ms
}

// logIn logs users in at loginRate, whether or not the earlier ones are done.
func logIn(b *testing.B, broker *broker, users []account) []float64 {
	ms := make([]float64, len(users))
	var all sync.WaitGroup
	begin := time.Now()
	for i, a := range users {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / loginRate)))
		all.Go(func() { ms[i] = timeLogin(b, broker, a) })
	}
	all.Wait()
	return ms
}

// timeLogin returns the milliseconds from the first connection to CONNACK. As
// clients do, it tries again when the broker closes without an answer, which is
// how Mosquitto 2.0 defers a login.
func timeLogin(b *testing.B, broker *broker, a account) float64 {
	begin := time.Now()
	c, err := connect(broker, a)
	for (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && time.Since(begin) < patience {
		time.Sleep(100 * time.Millisecond)
		c, err = connect(broker, a)
	}
	if err != nil {
		b.Errorf("log in as %s: %v", a.name, err)
		return 0
	}
	defer c.Close()
	return milliseconds(time.Since(begin))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

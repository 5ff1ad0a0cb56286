package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// story plays the demo, step by step. Each step shows a command and what it
// printed, and fails if that is not what was promised.
type story struct {
	r     *rig.Rig
	out   io.Writer
	price string // for people
	shown int    // bytes of John's output already shown
}

const (
	live    = "sensor/live "
	average = "sensor/1m "
)

func (s *story) play(ctx context.Context) error {
	// The first average says null: there was too little time to measure.
	first, err := s.r.Client("first", "", "-t", "sensor/1m")
	if err != nil {
		return err
	}
	if err := s.until(ctx, func() bool { return strings.Count(first.Output(), average) >= 2 }); err != nil {
		return fmt.Errorf("no average was published: %w", err)
	}
	first.Stop()

	s.say("Anyone may read the average power, in milliwatts, without an account (a demo minute lasts %s).", s.r.Minute)
	anyone, err := s.r.Client("anyone", "", "-t", "sensor/1m", "-C", "1")
	if err != nil {
		return err
	}
	s.command("mosquitto_sub -p %d -t sensor/1m -v -C 1", s.r.BrokerPort)
	if err := s.until(ctx, func() bool { return strings.HasPrefix(anyone.Output(), average) }); err != nil {
		return fmt.Errorf("an anonymous client got no sensor/1m: %w", err)
	}
	s.print(anyone.Output())

	s.say("The live readings cost %s. A client without an account is refused.", s.price)
	refused, err := s.r.Client("refused", "", "-t", "sensor/live")
	if err != nil {
		return err
	}
	s.command("mosquitto_sub -p %d -t sensor/live -v", s.r.BrokerPort)
	select {
	case <-refused.Done():
	case <-time.After(5 * time.Second):
	}
	s.print(refused.Output())
	if !strings.Contains(refused.Output(), "denied") {
		return errors.New("an anonymous subscription to sensor/live was not refused")
	}

	s.say("John has an account and has not paid. His client subscribes to everything under sensor/ and stays connected until the end. Until he pays, it receives the free topic only.")
	john, err := s.r.Client("john", "john", "-t", "sensor/#")
	if err != nil {
		return err
	}
	s.command("mosquitto_sub -p %d -u john -P … -t 'sensor/#' -v", s.r.BrokerPort)
	if err := s.until(ctx, func() bool { return strings.Count(john.Output(), average) >= 2 }); err != nil {
		return fmt.Errorf("john's client got no sensor/1m: %w", err)
	}
	s.show(john)
	if strings.Contains(john.Output(), live) {
		return errors.New("john's client got sensor/live before he paid")
	}

	s.say("John pays %s and names himself. Once the payment is final, his client, still connected, receives the live readings.", s.price)
	if err := s.pay(ctx); err != nil {
		return err
	}
	if err := s.until(ctx, func() bool { return strings.Count(john.Output(), live) >= 4 }); err != nil {
		return fmt.Errorf("john paid and got no sensor/live: %w", err)
	}
	s.show(john)

	s.say("His time ends (here %s buy %s, not an hour). The live readings stop, the free ones go on.", s.price, s.r.Period)
	if err := s.expires(ctx, john); err != nil {
		return err
	}
	s.show(john)

	s.say("He pays again, and they resume.")
	before := strings.Count(john.Output(), live)
	if err := s.pay(ctx); err != nil {
		return err
	}
	if err := s.until(ctx, func() bool { return strings.Count(john.Output(), live) >= before+4 }); err != nil {
		return fmt.Errorf("john paid again and got no sensor/live: %w", err)
	}
	s.show(john)

	s.say("The seller's book:")
	s.command("iotoll payment list")
	book, err := s.r.Iotoll(ctx, "payment", "list")
	s.print(book)
	if err != nil || strings.Count(book, "credited") != 2 {
		return fmt.Errorf("the book does not show two credited payments (%v)", err)
	}
	fmt.Fprintf(s.out, "\nDone: every step happened. `make run LEDGER=%s` keeps this system up for you to try.\n", s.r.Ledger)
	return nil
}

// pay pays the price and shows the buyer's real command.
func (s *story) pay(ctx context.Context) error {
	amount, _, _ := strings.Cut(s.r.Price, " ")
	s.command(`iotoll pay --node %s --key-file %s --amount %s \
      --address %s --username john`, s.r.NodeURL, filepath.Base(s.r.KeyFile), amount, s.r.Deposit)
	out, err := s.r.Pay(ctx, s.r.Price, `{"username": "john"}`)
	s.print(out)
	if err != nil {
		return fmt.Errorf("pay: %w", err)
	}
	return nil
}

// expires waits until two averages have come with no live reading between
// them: five seconds in which ten readings were published.
func (s *story) expires(ctx context.Context, john *rig.Process) error {
	return s.until(ctx, func() bool {
		lines := strings.Split(strings.TrimSpace(john.Output()), "\n")
		n := len(lines)
		return n >= 2 && strings.HasPrefix(lines[n-1], average) && strings.HasPrefix(lines[n-2], average)
	})
}

func (s *story) until(ctx context.Context, happened func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, "\n"+format+"\n", args...) }

func (s *story) command(format string, args ...any) { fmt.Fprintf(s.out, "  $ "+format+"\n", args...) }

func (s *story) print(text string) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fmt.Fprintf(s.out, "    %s\n", line)
	}
}

// show prints what John's client received since the last time.
func (s *story) show(john *rig.Process) {
	text := john.Output()
	s.print(text[s.shown:])
	s.shown = len(text)
}

package simulator

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Fault is a way in which the HTTP server of a real plug fails. The zero value
// is none. As with real plugs, searches are still answered.
type Fault struct {
	Refuse bool          // the port is closed
	Silent bool          // connections are accepted and never answered
	Reset  bool          // the connection is reset after the request
	Half   bool          // the body is truncated
	Status int           // every answer has this HTTP status and no SOAP fault
	Code   int           // every action is answered with HTTP 500 and this UPnP error, such as 501 or -111
	Delay  time.Duration // before each answer
	Mute   bool          // subscriptions are granted, but no event is sent
	Times  int           // number of requests that fail; 0 is all, until SetFault
}

// SetFault makes the plug fail, or, with the zero value, work again. It errs if the
// port cannot be opened again.
func (p *Plug) SetFault(f Fault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	if !f.Refuse {
		return p.listen()
	}
	if p.http != nil {
		p.http.Close()
		p.http = nil
	}
	return nil
}

// takeFault returns the fault for one request.
func (p *Plug) takeFault() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.fault
	if f.Times > 0 {
		if p.fault.Times--; p.fault.Times == 0 {
			p.fault = Fault{}
		}
	}
	return f
}

// Commands documents the commands of Command.
const Commands = `ok               end the fault
on, off          switch the relay
restart          forget subscriptions
move             restart on another port; the old one accepts and never answers
refuse           close the port
silent [N]       accept and never answer (N requests, or until ok)
reset [N]        reset connections
mute             grant subscriptions and send no events
half [N]         truncate the body
slow DURATION    wait before each answer
fault CODE [N]   answer actions with HTTP 500 and a UPnP error, such as 501
status CODE [N]  answer everything with an HTTP status, such as 500`

// Command executes one line of Commands, so that a person or a script can make the
// plug fail. It errs if the line is malformed.
func (p *Plug) Command(line string) error {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	name, args := words[0], words[1:]
	number := func(i int) (int, error) {
		if i >= len(args) {
			return 0, nil
		}
		n, err := strconv.Atoi(args[i])
		if err != nil {
			return 0, fmt.Errorf("plug command %q: %q: want a whole number", line, args[i])
		}
		return n, nil
	}
	var f Fault
	var err error
	times := 0 // index of the argument N
	switch name {
	case "on", "off":
		p.Switch(name == "on")
		return nil
	case "restart", "move":
		return p.Restart(name == "move")
	case "ok":
	case "refuse":
		f.Refuse = true
	case "silent":
		f.Silent = true
	case "reset":
		f.Reset = true
	case "mute":
		f.Mute = true
	case "half":
		f.Half = true
	case "slow":
		times = 1
		if len(args) == 0 {
			return fmt.Errorf("plug command %q: want a duration, such as slow 2s", line)
		}
		if f.Delay, err = time.ParseDuration(args[0]); err != nil || f.Delay < 0 {
			return fmt.Errorf("plug command %q: %q: want a duration, such as 2s", line, args[0])
		}
	case "fault", "status":
		times = 1
		n, err := number(0)
		if err != nil {
			return err
		}
		if n == 0 || name == "status" && (n < 100 || n > 999) {
			return fmt.Errorf("plug command %q: want a code, such as %s 500", line, name)
		}
		if name == "fault" {
			f.Code = n
		} else {
			f.Status = n
		}
	default:
		return fmt.Errorf("plug command %q: want one of\n%s", line, Commands)
	}
	if f.Times, err = number(times); err != nil {
		return err
	}
	return p.SetFault(f)
}

package wemo_test

import (
	"context"
	"fmt"
	"log"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/simulator"
	"github.com/sirupsen/logrus"
)

// A plug is read wherever it is; here, a simulated one.
func ExamplePlug() {
	sim, err := simulator.Listen(simulator.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go sim.Run(ctx)
	sim.Freeze(simulator.Values{State: 1, Power: 60_120, Threshold: 8000})

	plug := &wemo.Plug{Address: sim.Addr().String(), Log: logrus.New()}
	plug.Log.(*logrus.Logger).SetLevel(logrus.WarnLevel)
	reading, err := plug.Read(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reading.MilliWatts, "mW")
	// Output: 60120 mW
}

// Everything that an Insight says of itself.
func ExampleParseParams() {
	p, err := wemo.ParseParams("8|1611530424|231|300|183183|1209600|8|1190|1164707|99830512.000000|8000")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.State, p.MilliWatts(), "mW, on for", p.OnTotal, "in", p.Period)
	// Output: standby 1190 mW, on for 50h53m3s in 336h0m0s
}

// Readings go out live, means once a minute.
func ExampleBroker_Run() {
	broker := &wemo.Broker{URL: "mqtt://127.0.0.1:1883", Status: wemo.StatusTopic("sensor/live"), Log: logrus.New()}
	poller := &wemo.Poller{
		Source:    &wemo.Plug{Address: "192.168.1.20", Log: logrus.New()},
		Publisher: broker,
		Live:      "sensor/live",
		Average:   "sensor/1m",
		Log:       logrus.New(),
	}
	if err := broker.Run(context.Background(), poller.Run); err != nil {
		log.Fatal(err)
	}
}

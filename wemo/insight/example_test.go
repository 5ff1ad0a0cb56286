package insight_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/simulator"
)

// Read a plug; here, a simulated one.
func ExamplePlug() {
	sim, err := simulator.Listen(simulator.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go sim.Run(ctx)
	sim.Freeze(simulator.Values{State: 1, Power: 60_120, Threshold: 8000})

	plug := &insight.Plug{Address: sim.Addr().String(), Log: logrus.New()}
	plug.Log.(*logrus.Logger).SetLevel(logrus.WarnLevel)
	reading, err := plug.Read(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reading.MilliWatts, "mW")
	// Output: 60120 mW
}

// Parse what an Insight reports.
func ExampleParseParams() {
	p, err := insight.ParseParams("8|1611530424|231|300|183183|1209600|8|1190|1164707|99830512.000000|8000")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.State == insight.Standby, p.MilliWatts(), "mW, on for", p.OnTotal, "in", p.Period)
	// Output: true 1190 mW, on for 50h53m3s in 336h0m0s
}

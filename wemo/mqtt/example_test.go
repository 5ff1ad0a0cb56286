package mqtt_test

import (
	"context"
	"log"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// Publish the readings of a plug, one average a minute, and the status.
func ExamplePublisher_Run() {
	publisher := &mqtt.Publisher{
		Broker: mqtt.Broker{URL: "mqtt://127.0.0.1"},
		Status: wemo.StatusTopic("sensor/live"),
		Log:    logrus.New(),
	}
	poller := &wemo.Poller{
		Source:    &insight.Plug{Address: "192.168.1.20", Log: logrus.New()},
		Publisher: publisher,
		Live:      "sensor/live",
		Average:   "sensor/1m",
		Log:       logrus.New(),
	}
	if err := publisher.Run(context.Background(), poller.Run); err != nil {
		log.Fatal(err)
	}
}

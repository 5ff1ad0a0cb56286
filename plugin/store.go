package main

import (
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl/mongostore"
)

var _ source = (*mongostore.Store)(nil)

// openStore returns the store that the options name. It does not wait for the
// server.
func openStore(c config, log logrus.FieldLogger) (source, error) {
	s, err := mongostore.Open(c.storeURI, c.database)
	if err != nil {
		return nil, fmt.Errorf("open the store that plugin_opt_store_uri and plugin_opt_database name: %w", err)
	}
	s.Log = log
	return s, nil
}

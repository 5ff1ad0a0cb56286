//go:build !injectsignals

package mongostore

import "go.mongodb.org/mongo-driver/v2/mongo/options"

// inject is where a test build ends or halts the process at a write; in this one
// it does nothing.
func inject(*options.ClientOptions) {}

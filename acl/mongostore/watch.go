package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// awaitChange is how long the server holds back its answer while nothing is new.
const awaitChange = time.Second

// Watch calls news when the server begins to tell of additions to the log of
// changes, and then at each. It returns when the server ceases to, or cannot:
// FerretDB 1 has no change streams, and MongoDB has them in replica sets only.
// Its error is never nil.
//
// Watch only says when to ask. What changed is told by [Store.Changes], which is
// to be asked now and then all the same.
func (s *Store) Watch(ctx context.Context, news func()) error {
	inserts := mongo.Pipeline{
		{{Key: "$match", Value: bson.D{{Key: "operationType", Value: "insert"}}}},
		{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}}}}, // which cannot be left out
	}
	stream, err := s.changes.Watch(ctx, inserts, options.ChangeStream().SetMaxAwaitTime(awaitChange))
	if err != nil {
		return fmt.Errorf("watch log of changes: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), selectTimeout)
		defer cancel()
		stream.Close(ctx) // whose error changes nothing
	}()
	for news(); ; {
		switch {
		case stream.TryNext(ctx):
			news()
		case stream.Err() != nil:
			return fmt.Errorf("watch log of changes: %w", stream.Err())
		case stream.ID() == 0:
			return fmt.Errorf("watch log of changes: the server has ended the change stream")
		}
	}
}

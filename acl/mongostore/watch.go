package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// awaitChange is how long the server waits for news before it answers.
const awaitChange = time.Second

// Watch calls news when a change stream of the log of changes begins, and then for
// each addition. It returns when the stream ends or cannot begin: FerretDB 1 has no
// change streams, and MongoDB has them in replica sets only. Its error is never nil.
//
// Watch only says when to call [Store.Changes], which must be called now and then
// all the same.
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
		stream.Close(ctx) // its error is of no use
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

// Accounts makes the accounts of cmd/dist/mongodb-accounts.js in FerretDB, which
// knows no roles, and has no mongosh: with these, each of them may do everything.
package main

import (
	"context"
	"errors"
	"log"
	"net/url"
	"os"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// alreadyExists is MongoDB's code for a user that exists.
const alreadyExists = 51003

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	uri := url.URL{Scheme: "mongodb", User: url.UserPassword("root", secret("root")), Host: "127.0.0.1:27017", Path: "/"}
	client, err := mongo.Connect(options.Client().ApplyURI(uri.String()))
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"iotoll", "iotoll-plugin"} {
		err := client.Database("mosquitto").RunCommand(ctx, bson.D{
			{Key: "createUser", Value: name}, {Key: "pwd", Value: secret(name)}, {Key: "roles", Value: bson.A{}},
		}).Err()
		var refused mongo.CommandError
		if err != nil && !(errors.As(err, &refused) && refused.Code == alreadyExists) {
			log.Fatalf("create user %s: %s", name, err)
		}
	}
}

func secret(name string) string {
	text, err := os.ReadFile("/run/secrets/mongodb/" + name)
	if err != nil {
		log.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// Makes the accounts of docker-compose.yml in a new MongoDB. The image runs this file
// once, before it asks anybody for a password.
const fs = require("fs");
const secret = (name) => fs.readFileSync("/run/secrets/mongodb/" + name, "utf8").trim();
const store = db.getSiblingDB("mosquitto");
// iotoll writes this database and no other; the broker's plugin only reads it.
store.createUser({ user: "iotoll", pwd: secret("iotoll"), roles: [{ role: "readWrite", db: "mosquitto" }] });
store.createUser({ user: "iotoll-plugin", pwd: secret("iotoll-plugin"), roles: [{ role: "read", db: "mosquitto" }] });

/* The interface between the C side and the Go side of the plugin. */
#ifndef IOTOLL_BRIDGE_H
#define IOTOLL_BRIDGE_H

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "table.h"

/* MOSQ_ERR_AUTH_DELAYED of Mosquitto 2.1: the answer to a login comes later. */
#define IOTOLL_AUTH_DELAYED (-5)

/* The number of acl.Reasons; export.go checks it. */
#define IOTOLL_REASONS 15

/* client is what Go is told about a client. A NULL username is anonymous. */
struct iotoll_client {
	const char *id, *username;
	uintptr_t conn; /* tells its connection from others; 0 outside the broker's thread */
	bool clean;     /* it asked for a new session */
	bool v5;        /* it speaks MQTT 5 */
};

/* patience says how the broker waits for the answer to a login. */
enum iotoll_patience { IOTOLL_BLOCKING, IOTOLL_MUST_ANSWER, IOTOLL_ASYNC };

/* instance is one plugin line of mosquitto.conf. */
struct iotoll_instance {
	uintptr_t handle; /* of the Go side, a cgo.Handle */
	int number;       /* 1 for the first instance of the process */

	/* Written by Go's threads, atomically. */
	uint64_t generation; /* of Go's snapshot: an answer of an older one does not count */
	uint32_t pending;    /* Go has work for the broker's thread */

	/* Only the broker's thread uses the rest. */
	mosquitto_plugin_id_t *id; /* set once the callbacks are registered */
	bool reloading;            /* between RELOAD and the next TICK */
	bool serving;              /* inside iotollService */
	struct iotoll_table table;
	uint64_t checks[IOTOLL_REASONS]; /* answers by reason */
};

/* Broker functions for Go. Call them only on the broker's thread. */
void iotoll_log(int level, const char *text);
void iotoll_publish(const char *topic, const char *payload);
void iotoll_complete_login(const char *client_id, int rc);

/* iotoll_kick ends the sessions of a username or, if that is NULL, of a client ID. */
void iotoll_kick(const char *username, const char *client_id);

/* iotoll_unsubscribe removes a subscription of a client ID, in Mosquitto 2.1. Earlier
 * versions do so within iotoll_kick; 2.1 does only after it has handled more messages. */
void iotoll_unsubscribe(const char *client_id, const char *filter);

/* iotoll_wake ends the broker's sleep in epoll_wait. Any thread may call it. */
void iotoll_wake(void);

#endif

/* What the C side and the Go side of the plugin know of each other. */
#ifndef IOTOLL_BRIDGE_H
#define IOTOLL_BRIDGE_H

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* One more than the greatest acl.Reason; export.go checks that it is. */
#define IOTOLL_REASONS 14

/* answer is what Go says to one ACL_CHECK. */
struct iotoll_answer {
	int64_t until_ms; /* the answer holds before this time, in ms since 1970; 0: no limit */
	uint8_t rc;       /* MOSQ_ERR_SUCCESS, MOSQ_ERR_ACL_DENIED or MOSQ_ERR_PLUGIN_DEFER */
	uint8_t reason;   /* acl.Reason, for the counters */
	uint8_t keep;     /* may be remembered for this username, topic and access */
};

struct iotoll_entry;

/* instance is one plugin line of the broker's configuration. */
struct iotoll_instance {
	uintptr_t gate; /* a cgo.Handle */
	int number;     /* 1 for the first instance of the process */

	/* Written by Go's threads, atomically. */
	uint64_t generation; /* of what Go answers from: an older answer counts no more */
	uint32_t pending;    /* Go has something to say on the broker's thread */

	/* Only the broker's thread uses the rest. */
	mosquitto_plugin_id_t *id; /* set once the callbacks are registered */
	bool reloading; /* between RELOAD and the next TICK */
	bool serving;   /* inside iotollService */
	struct iotoll_entry *table;
	struct iotoll_entry *last; /* which one answered last; NULL if none did yet */
	uint64_t seed[2];
	uint64_t checks[IOTOLL_REASONS]; /* answers by reason */
	uint64_t hits, misses, evictions;
};

/* Broker functions for Go. Call them on the broker's thread only. */
void iotoll_log(int level, const char *text);
void iotoll_publish(const char *topic, const char *payload);
void iotoll_complete_login(const char *client_id, int rc);

/* iotoll_wake ends the broker's sleep in epoll_wait. Any thread may call it. */
void iotoll_wake(void);

#endif

/* The decision cache: answers that the broker's thread repeats without entering Go. */
#ifndef IOTOLL_TABLE_H
#define IOTOLL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* answer is a decision by Go on one ACL_CHECK. */
struct iotoll_answer {
	int64_t until_ms; /* the answer holds before this time, in ms since 1970; 0: no limit */
	uint8_t rc;       /* MOSQ_ERR_SUCCESS, MOSQ_ERR_ACL_DENIED or MOSQ_ERR_PLUGIN_DEFER */
	uint8_t reason;   /* acl.Reason, for the counters */
	uint8_t keep;     /* the answer holds for every client of this username */
};

/* key is the question: who wants to do what with which topic. */
struct iotoll_key {
	const char *name, *topic;
	size_t name_len, topic_len;
	int access;
	uint64_t hash; /* set by iotoll_table_find */
};

struct iotoll_entry;

/* table is a bounded cache. Only one thread uses it. */
struct iotoll_table {
	struct iotoll_entry *entries;
	struct iotoll_entry *last; /* the entry that answered last; NULL if none did */
	uint64_t seed[2];
	uint64_t hits, misses, evictions;
};

/* iotoll_table_init makes an empty table. It returns what is missing, NULL on success. */
const char *iotoll_table_init(struct iotoll_table *t);
void iotoll_table_free(struct iotoll_table *t);

/* iotoll_table_find copies the answer to a key into a. It returns false if the table has
 * none of this generation that still holds. */
bool iotoll_table_find(struct iotoll_table *t, struct iotoll_key *k, uint64_t generation, struct iotoll_answer *a);

/* iotoll_table_keep remembers the answer to a key that was not found. generation was read
 * before Go answered: if it has changed meanwhile, the entry is out of date already. */
void iotoll_table_keep(struct iotoll_table *t, const struct iotoll_key *k, uint64_t generation, const struct iotoll_answer *a);

#endif

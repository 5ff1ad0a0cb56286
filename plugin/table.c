/* The decision cache, see table.h. A key has WAYS places in its set; the place of an
 * answer that no longer holds is reused first. A key that is too long is not kept. */
#define _GNU_SOURCE
#include "table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define SETS 8192
#define WAYS 4

struct iotoll_entry {
	struct iotoll_entry *next; /* the entry that answered after this one last time */
	uint64_t hash, generation;
	int64_t until_ms;
	uint16_t name_len, topic_len;
	uint8_t access, rc, reason;
	char key[213]; /* the name, then the topic; the lengths separate them */
};

const char *iotoll_table_init(struct iotoll_table *t)
{
	*t = (struct iotoll_table){.entries = calloc(SETS * WAYS, sizeof *t->entries)};
	if (!t->entries)
		return "out of memory";
	if (getrandom(t->seed, sizeof t->seed, 0) != sizeof t->seed)
		return "no random numbers from the kernel";
	return NULL;
}

void iotoll_table_free(struct iotoll_table *t) { free(t->entries); }

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;
	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t hash_bytes(uint64_t h, const char *s, size_t n)
{
	const uint64_t k = 0x9e3779b97f4a7c15u;
	uint64_t w;
	for (; n >= 8; n -= 8, s += 8) {
		memcpy(&w, s, 8);
		h = mix(h ^ w, k);
	}
	w = n;
	memcpy((char *)&w + 1, s, n);
	return mix(h ^ w, k ^ 0xff51afd7ed558ccdu);
}

static int64_t clock_ms(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The coarse clock is much cheaper than the exact one, and lags by a few milliseconds.
 * Until the last seconds of an answer it is exact enough. */
#define COARSE_MS 10000

static bool holds(const struct iotoll_entry *e, uint64_t generation)
{
	if (e->generation != generation)
		return false;
	return !e->until_ms || clock_ms(CLOCK_REALTIME_COARSE) < e->until_ms - COARSE_MS ||
	       clock_ms(CLOCK_REALTIME) < e->until_ms;
}

static bool fits(const struct iotoll_table *t, const struct iotoll_key *k)
{
	return k->name_len + k->topic_len <= sizeof t->entries->key;
}

static bool is_for(const struct iotoll_entry *e, const struct iotoll_key *k)
{
	return e->name_len == k->name_len && e->topic_len == k->topic_len && e->access == k->access &&
	       !memcmp(e->key, k->name, k->name_len) && !memcmp(e->key + k->name_len, k->topic, k->topic_len);
}

static struct iotoll_entry *set_of(struct iotoll_table *t, const struct iotoll_key *k)
{
	return t->entries + k->hash % SETS * WAYS;
}

/* Answers from an entry. A message goes to its subscribers in the same order each time,
 * so the entry that followed this one last time is probably next. It is fetched into the
 * CPU's cache while the broker delivers. */
static bool answer_from(struct iotoll_table *t, struct iotoll_entry *e, struct iotoll_answer *a)
{
	if (t->last)
		t->last->next = e;
	t->last = e;
	__builtin_prefetch(e->next);
	__builtin_prefetch((char *)e->next + 64);
	t->hits++;
	a->rc = e->rc;
	a->reason = e->reason;
	return true;
}

bool iotoll_table_find(struct iotoll_table *t, struct iotoll_key *k, uint64_t generation, struct iotoll_answer *a)
{
	if (!fits(t, k))
		return false;
	struct iotoll_entry *guess = t->last ? t->last->next : NULL;
	if (guess && is_for(guess, k) && holds(guess, generation))
		return answer_from(t, guess, a);

	k->hash = hash_bytes(t->seed[0] ^ (uint64_t)k->access, k->name, k->name_len);
	k->hash = hash_bytes(k->hash ^ t->seed[1], k->topic, k->topic_len);
	struct iotoll_entry *set = set_of(t, k);
	for (struct iotoll_entry *e = set; e < set + WAYS; e++)
		if (e->hash == k->hash && is_for(e, k) && holds(e, generation))
			return answer_from(t, e, a);
	t->misses++;
	return false;
}

void iotoll_table_keep(struct iotoll_table *t, const struct iotoll_key *k, uint64_t generation, const struct iotoll_answer *a)
{
	if (!fits(t, k))
		return;
	struct iotoll_entry *set = set_of(t, k), *place = NULL;
	for (struct iotoll_entry *e = set; e < set + WAYS; e++)
		if (e->hash == k->hash && is_for(e, k)) {
			place = e; /* its answer no longer holds */
			break;
		}
	for (struct iotoll_entry *e = set; !place && e < set + WAYS; e++)
		if (!holds(e, generation))
			place = e;
	if (!place) {
		/* A random one, by bits of the hash that did not choose the set. */
		place = set + (k->hash >> 48) % WAYS;
		t->evictions++;
	}
	place->generation = generation;
	place->hash = k->hash;
	place->until_ms = a->until_ms;
	place->name_len = (uint16_t)k->name_len;
	place->topic_len = (uint16_t)k->topic_len;
	place->access = (uint8_t)k->access;
	place->rc = a->rc;
	place->reason = a->reason;
	memcpy(place->key, k->name, k->name_len);
	memcpy(place->key + k->name_len, k->topic, k->topic_len);
}

/* The broker's side of the plugin: callbacks of plugin interface version 5, as
 * Mosquitto 2.0.11 to 2.1.2 call them, and the table of decisions that keeps
 * deliveries out of Go. There is no policy here. */
#define _GNU_SOURCE
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "_cgo_export.h"
#include "bridge.h"

#define EXPORT __attribute__((visibility("default")))

/* The broker's functions are there once the broker has loaded us, and not when
 * the Go code is tested. Declared weak, none of them is missing at link time. */
#pragma weak mosquitto_broker_publish_copy
#pragma weak mosquitto_callback_register
#pragma weak mosquitto_callback_unregister
#pragma weak mosquitto_client_address
#pragma weak mosquitto_client_id
#pragma weak mosquitto_client_username
#pragma weak mosquitto_log_printf
/* In Mosquitto 2.1 only: a login may be answered later. */
extern void mosquitto_complete_basic_auth(const char *client_id, int result) __attribute__((weak));

/* ---- Signals ----
 *
 * The broker handles HUP, INT, TERM, USR1 and USR2 without SA_ONSTACK, and keeps
 * them from its own thread while it sleeps: they would be handled on a goroutine's
 * small stack, and corrupt memory. So Go's threads never get to see them: they
 * inherit their mask from the thread that loads this library, where this
 * constructor runs before Go's own. */

static sigset_t mask_before;
static bool masked;

__attribute__((constructor(101))) static void mask_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	masked = pthread_sigmask(SIG_BLOCK, &set, &mask_before) == 0;
}

/* Gives the broker's thread its own mask back, once Go has started. */
static void unmask_signals(void)
{
	if (masked)
		pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
	masked = false;
}

/* ---- Threads ----
 *
 * The broker asks on one thread, which alone uses an instance's table and counters
 * and calls the broker's functions. The exception is the web interface of Mosquitto
 * 2.1 ("protocol http_api"): its thread asks about log-ins and URLs while the
 * broker goes on. It hears what Go says, and nothing is remembered. */

static pthread_t broker_thread;

static bool on_broker_thread(void) { return pthread_equal(pthread_self(), broker_thread); }

/* ---- The table of decisions ----
 *
 * A bounded set of answers by username, topic and access, each with the instant
 * until which it holds and the generation that it came from. A key has WAYS places;
 * one whose answer no longer holds makes room first. A key that does not fit is not
 * remembered. */

#define SETS 8192
#define WAYS 4

struct iotoll_entry {
	struct iotoll_entry *next; /* which one answered after this one did; a guess */
	uint64_t hash, generation;
	int64_t until_ms;
	uint16_t name_len, topic_len;
	uint8_t access, rc, reason;
	char key[213]; /* the name, then the topic: the lengths say where it ends */
};

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

/* The coarse clock takes a fraction of the exact one's time, and is behind it by
 * the milliseconds since the last timer tick: enough, but in the last seconds. */
#define COARSE_MS 10000

static bool holds(const struct iotoll_entry *e, uint64_t generation)
{
	if (e->generation != generation)
		return false;
	return !e->until_ms || clock_ms(CLOCK_REALTIME_COARSE) < e->until_ms - COARSE_MS ||
	       clock_ms(CLOCK_REALTIME) < e->until_ms;
}

/* key is what is asked about: who, what and how. */
struct key {
	const char *name, *topic;
	size_t name_len, topic_len;
	int access;
};

static bool is_for(const struct iotoll_entry *e, const struct key *k)
{
	return e->name_len == k->name_len && e->topic_len == k->topic_len && e->access == k->access &&
	       !memcmp(e->key, k->name, k->name_len) && !memcmp(e->key + k->name_len, k->topic, k->topic_len);
}

/* Answers from an entry. A message goes to its subscribers in the same order each
 * time: the entry that follows this one is probably the next, and is fetched
 * while the broker delivers. */
static int repeat(struct iotoll_instance *i, struct iotoll_entry *e)
{
	if (i->last)
		i->last->next = e;
	i->last = e;
	__builtin_prefetch(e->next);
	__builtin_prefetch((char *)e->next + 64);
	i->hits++;
	i->checks[e->reason]++;
	return e->rc;
}

/* Asks Go, on any thread. */
static int ask(struct iotoll_instance *i, struct mosquitto *client, const char *name, const char *topic, int access,
               struct iotoll_answer *a)
{
	*a = (struct iotoll_answer){.rc = MOSQ_ERR_ACL_DENIED};
	iotollDecide(i->gate, (char *)name, (char *)mosquitto_client_id(client), (char *)topic, access, a);
	return a->rc;
}

static int ask_and_count(struct iotoll_instance *i, struct mosquitto *client, const char *name, const char *topic, int access,
                         struct iotoll_answer *a)
{
	ask(i, client, name, topic, access, a);
	if (a->reason < IOTOLL_REASONS)
		i->checks[a->reason]++;
	return a->rc;
}

static int check(struct iotoll_instance *i, struct mosquitto *client, const char *topic, int access)
{
	struct iotoll_answer a;
	const char *name = mosquitto_client_username(client);
	struct key k = {.name = name ? name : "", .topic = topic, .access = access};
	k.name_len = strlen(k.name);
	k.topic_len = strlen(topic);

	if ((access != MOSQ_ACL_READ && access != MOSQ_ACL_WRITE) || k.name_len + k.topic_len > sizeof i->table->key)
		return ask_and_count(i, client, name, topic, access, &a);

	uint64_t generation = __atomic_load_n(&i->generation, __ATOMIC_ACQUIRE);
	struct iotoll_entry *guess = i->last ? i->last->next : NULL;
	if (guess && is_for(guess, &k) && holds(guess, generation))
		return repeat(i, guess);

	uint64_t h = hash_bytes(i->seed[0] ^ (uint64_t)access, k.name, k.name_len);
	h = hash_bytes(h ^ i->seed[1], topic, k.topic_len);
	struct iotoll_entry *set = i->table + h % SETS * WAYS, *place = NULL;
	for (struct iotoll_entry *e = set; e < set + WAYS; e++) {
		if (e->hash != h || !is_for(e, &k))
			continue;
		if (holds(e, generation))
			return repeat(i, e);
		place = e;
		break;
	}
	i->misses++;
	ask_and_count(i, client, name, topic, access, &a);
	if (!a.keep || a.reason >= IOTOLL_REASONS)
		return a.rc;
	for (struct iotoll_entry *e = set; !place && e < set + WAYS; e++)
		if (!holds(e, generation))
			place = e;
	if (!place) {
		/* Any of them, by bits of the hash that have not chosen the set. */
		place = set + (h >> 48) % WAYS;
		i->evictions++;
	}
	/* The generation was read before Go answered: if another came meanwhile,
	 * this entry is out of date already. */
	place->generation = generation;
	place->hash = h;
	place->until_ms = a.until_ms;
	place->name_len = (uint16_t)k.name_len;
	place->topic_len = (uint16_t)k.topic_len;
	place->access = (uint8_t)access;
	place->rc = a.rc;
	place->reason = a.reason;
	memcpy(place->key, k.name, k.name_len);
	memcpy(place->key + k.name_len, topic, k.topic_len);
	return a.rc;
}

/* ---- Callbacks ---- */

/* Lets Go log, publish and complete logins, at a point where the broker is not in
 * the middle of a delivery: with "log_dest topic" a log line is a delivery. */
static void service(struct iotoll_instance *i)
{
	if (!__atomic_load_n(&i->pending, __ATOMIC_RELAXED) || i->serving)
		return;
	__atomic_store_n(&i->pending, 0, __ATOMIC_SEQ_CST);
	i->serving = true;
	iotollService(i->gate, i);
	i->serving = false;
}

/* Returns 0, 12 or 17 and nothing else: any other code closes a connection, for
 * READ that of the publisher. */
static int on_acl_check(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_acl_check *e = event_data;
	struct iotoll_instance *i = userdata;
	(void)event;
	if (!e || !i || !e->topic)
		return MOSQ_ERR_ACL_DENIED;
	if (!on_broker_thread()) {
		struct iotoll_answer a;
		return ask(i, e->client, mosquitto_client_username(e->client), e->topic, e->access, &a);
	}
	int rc = check(i, e->client, e->topic, e->access);
	if (e->access == MOSQ_ACL_SUBSCRIBE) {
		/* Stands in for TICK, which 2.0.11 lacks with per_listener_settings. */
		if (!mosquitto_complete_basic_auth)
			i->reloading = false;
		service(i);
	}
	return rc;
}

static int on_basic_auth(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_basic_auth *e = event_data;
	struct iotoll_instance *i = userdata;
	(void)event;
	if (!e || !i)
		return MOSQ_ERR_AUTH;
	bool ours = on_broker_thread();
	int rc = iotollLogin(i->gate, e->username, e->password, (char *)mosquitto_client_id(e->client),
	                     (char *)mosquitto_client_address(e->client), ours && mosquitto_complete_basic_auth, !ours || i->reloading);
	if (ours)
		service(i);
	return rc;
}

/* After RELOAD the broker asks BASIC_AUTH about every session, and 2.1 throws out
 * whoever is not answered at once. 0 is the only answer to RELOAD itself that is
 * safe in every version. */
static int on_reload(int event, void *event_data, void *userdata)
{
	struct iotoll_instance *i = userdata;
	(void)event, (void)event_data;
	i->reloading = true;
	iotollReload(i->gate);
	service(i);
	return MOSQ_ERR_SUCCESS;
}

static int on_tick(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_tick *e = event_data;
	struct iotoll_instance *i = userdata;
	(void)event;
	i->reloading = false;
	e->next_ns = 0; /* 2.1, where it is next_ms: call again at the next turn of the loop */
	e->next_s = 0;
	service(i);
	return MOSQ_ERR_SUCCESS;
}

/* ---- For Go ---- */

static int wake_signal;

static void woken(int sig) { (void)sig; }

void iotoll_wake(void)
{
	if (wake_signal)
		pthread_kill(broker_thread, wake_signal);
}

void iotoll_log(int level, const char *text)
{
	mosquitto_log_printf(level, "%s", text);
}

void iotoll_publish(const char *topic, const char *payload)
{
	mosquitto_broker_publish_copy(NULL, topic, (int)strlen(payload), payload, 0, true, NULL);
}

void iotoll_complete_login(const char *client_id, int rc)
{
	if (mosquitto_complete_basic_auth)
		mosquitto_complete_basic_auth(client_id, rc);
}

/* ---- Loading ---- */

EXPORT int mosquitto_plugin_version(int count, const int *versions)
{
	unmask_signals();
	for (int i = 0; i < count; i++)
		if (versions[i] == 5)
			return 5;
	return -1;
}

static void end(struct iotoll_instance *i)
{
	if (i->id) {
		mosquitto_callback_unregister(i->id, MOSQ_EVT_RELOAD, on_reload, NULL);
		mosquitto_callback_unregister(i->id, MOSQ_EVT_ACL_CHECK, on_acl_check, NULL);
		mosquitto_callback_unregister(i->id, MOSQ_EVT_BASIC_AUTH, on_basic_auth, NULL);
		mosquitto_callback_unregister(i->id, MOSQ_EVT_TICK, on_tick, NULL);
	}
	/* Without a gate, Go's goroutines may still be on their way to the end. */
	if (i->gate && iotollStop(i->gate)) {
		free(i->table);
		free(i);
	}
}

static int refuse(struct iotoll_instance *i, const char *why)
{
	mosquitto_log_printf(MOSQ_LOG_ERR, "Error: iotoll: %s", why);
	if (i)
		end(i);
	return MOSQ_ERR_INVAL;
}

EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	static int instances;
	char why[1024] = "";

	if (!mosquitto_log_printf)
		return MOSQ_ERR_INVAL;
	if (!mosquitto_callback_register || !mosquitto_callback_unregister || !mosquitto_client_username || !mosquitto_client_id || !mosquitto_client_address ||
	    !mosquitto_broker_publish_copy)
		return refuse(NULL, "this broker lacks functions of Mosquitto 2.0");

	struct iotoll_instance *i = calloc(1, sizeof *i);
	if (!i || !(i->table = calloc(SETS * WAYS, sizeof *i->table)))
		return refuse(i, "out of memory");
	if (getrandom(i->seed, sizeof i->seed, 0) != sizeof i->seed)
		return refuse(i, "no random numbers");
	i->number = ++instances;
	i->generation = 1; /* the zeroed entries of the table are of another one */

	broker_thread = pthread_self();
	if (mosquitto_complete_basic_auth && !wake_signal) {
		struct sigaction sa = {.sa_handler = woken, .sa_flags = SA_ONSTACK | SA_RESTART};
		if (sigaction(SIGRTMAX - 3, &sa, NULL) == 0)
			wake_signal = SIGRTMAX - 3;
	}

	i->gate = iotollStart(i, (void *)options, count, why, sizeof why);
	if (!i->gate)
		return refuse(i, why[0] ? why : "panic at start, see above");
	if (mosquitto_callback_register(id, MOSQ_EVT_RELOAD, on_reload, NULL, i) ||
	    mosquitto_callback_register(id, MOSQ_EVT_ACL_CHECK, on_acl_check, NULL, i) ||
	    mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, on_basic_auth, NULL, i) ||
	    mosquitto_callback_register(id, MOSQ_EVT_TICK, on_tick, NULL, i))
		return refuse(i, "cannot register with the broker; is the plugin configured twice?");
	i->id = id;
	*userdata = i;
	service(i);
	return MOSQ_ERR_SUCCESS;
}

EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	struct iotoll_instance *i = userdata;
	(void)options, (void)count;
	if (i) {
		service(i);
		end(i);
	}
	return MOSQ_ERR_SUCCESS;
}

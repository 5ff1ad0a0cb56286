/* The broker's side of the plugin: the callbacks of plugin interface version 5, as
 * Mosquitto 2.0.11 to 2.1.2 call them. There is no policy here. */
#define _GNU_SOURCE
#include "_cgo_export.h"
#include "bridge.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The broker provides these functions when it loads the plugin. They are weak, because the
 * tests of the Go code link without a broker. */
#pragma weak mosquitto_broker_publish_copy
#pragma weak mosquitto_callback_register
#pragma weak mosquitto_callback_unregister
#pragma weak mosquitto_client_address
#pragma weak mosquitto_client_clean_session
#pragma weak mosquitto_client_id
#pragma weak mosquitto_client_protocol_version
#pragma weak mosquitto_client_username
#pragma weak mosquitto_kick_client_by_clientid
#pragma weak mosquitto_kick_client_by_username
#pragma weak mosquitto_log_printf
/* Only Mosquitto 2.1 has these. The first one means that it accepts the answer to a login
 * later. */
extern void mosquitto_complete_basic_auth(const char *client_id, int result) __attribute__((weak));
extern int mosquitto_subscription_delete(const char *client_id, const char *topic) __attribute__((weak));

/* MOSQ_EVT_CONNECT of Mosquitto 2.1: a client was accepted. */
#define EVT_CONNECT 11
struct evt_connect {
	void *future;
	struct mosquitto *client;
};

/* ---- Signals ----
 *
 * The broker handles HUP, INT, TERM, USR1 and USR2 without SA_ONSTACK, and blocks them in
 * its own thread while it sleeps. On one of Go's threads their handlers would run on a
 * goroutine's small stack and corrupt memory. Go's threads therefore block these signals:
 * they inherit the mask of the thread that loads this library, where this constructor runs
 * before Go's. */

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

/* Gives the broker's thread its mask back, once Go has started. */
static void unmask_signals(void)
{
	if (masked)
		pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
	masked = false;
}

/* ---- Threads ----
 *
 * One thread of the broker makes the callbacks. Only that thread uses an instance's table
 * and counters and calls the broker's functions. The web interface of Mosquitto 2.1
 * ("protocol http_api") is the exception: its thread asks about logins and URLs. It gets
 * Go's answer, and nothing is remembered. */

static pthread_t broker_thread;

static bool on_broker_thread(void) { return pthread_equal(pthread_self(), broker_thread); }

static struct iotoll_client describe(struct mosquitto *client)
{
	return (struct iotoll_client){
		.id = mosquitto_client_id(client),
		.username = mosquitto_client_username(client),
		.conn = on_broker_thread() ? (uintptr_t)client : 0,
		.clean = mosquitto_client_clean_session(client),
		.v5 = mosquitto_client_protocol_version(client) == 5,
	};
}

/* ---- Callbacks ---- */

/* Lets Go log, publish, complete logins and, if may_kick is true, end sessions. Call it
 * while the broker is not in the middle of a delivery: with "log_dest topic" a log line is
 * a delivery. Without may_kick, work may be left for the next TICK. */
static void service(struct iotoll_instance *i, bool may_kick)
{
	if (!__atomic_load_n(&i->pending, __ATOMIC_RELAXED) || i->serving)
		return;
	if (may_kick)
		__atomic_store_n(&i->pending, 0, __ATOMIC_SEQ_CST);
	i->serving = true;
	iotollService(i->handle, i, may_kick);
	i->serving = false;
}

static struct iotoll_answer ask(struct iotoll_instance *i, struct mosquitto *client, const char *topic, int access)
{
	struct iotoll_answer a = {.rc = MOSQ_ERR_ACL_DENIED};
	struct iotoll_client c = describe(client);
	iotollDecide(i->handle, &c, (char *)topic, access, &a);
	return a;
}

static int check(struct iotoll_instance *i, struct mosquitto *client, const char *topic, int access)
{
	struct iotoll_answer a;
	bool cached = access == MOSQ_ACL_READ || access == MOSQ_ACL_WRITE;
	if (cached) {
		const char *name = mosquitto_client_username(client);
		struct iotoll_key k = {.name = name ? name : "", .topic = topic, .access = access};
		k.name_len = strlen(k.name);
		k.topic_len = strlen(topic);
		uint64_t generation = __atomic_load_n(&i->generation, __ATOMIC_ACQUIRE);
		if (!iotoll_table_find(&i->table, &k, generation, &a)) {
			a = ask(i, client, topic, access);
			if (a.keep && a.reason < IOTOLL_REASONS)
				iotoll_table_keep(&i->table, &k, generation, &a);
		}
	} else {
		a = ask(i, client, topic, access);
	}
	if (a.reason < IOTOLL_REASONS)
		i->checks[a.reason]++;
	return a.rc;
}

/* Returns 0, 12 or 17 only. Any other code closes a connection; for READ it closes that of
 * the publisher. */
static int on_acl_check(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_acl_check *e = event_data;
	struct iotoll_instance *i = userdata;
	(void)event;
	if (!e || !i || !e->topic)
		return MOSQ_ERR_ACL_DENIED;
	if (!on_broker_thread())
		return ask(i, e->client, e->topic, e->access).rc;
	int rc = check(i, e->client, e->topic, e->access);
	if (e->access == MOSQ_ACL_SUBSCRIBE) {
		/* Replaces TICK, which 2.0.11 does not call with per_listener_settings. */
		if (!mosquitto_complete_basic_auth)
			i->reloading = false;
		service(i, false);
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
	struct iotoll_client c = describe(e->client);
	c.username = e->username;
	enum iotoll_patience p = IOTOLL_BLOCKING;
	if (!ours || i->reloading)
		p = IOTOLL_MUST_ANSWER;
	else if (mosquitto_complete_basic_auth && c.id)
		p = IOTOLL_ASYNC;
	int rc = iotollLogin(i->handle, &c, e->password, (char *)mosquitto_client_address(e->client), p);
	if (ours)
		service(i, false);
	return rc;
}

static int on_connect(int event, void *event_data, void *userdata)
{
	struct evt_connect *e = event_data;
	struct iotoll_instance *i = userdata;
	struct iotoll_client c = describe(e->client);
	(void)event;
	iotollConnected(i->handle, &c);
	return MOSQ_ERR_SUCCESS;
}

static int on_disconnect(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_disconnect *e = event_data;
	struct iotoll_instance *i = userdata;
	struct iotoll_client c = describe(e->client);
	(void)event;
	iotollDisconnected(i->handle, &c);
	return MOSQ_ERR_SUCCESS;
}

/* After RELOAD the broker asks BASIC_AUTH about every session, and 2.1 drops every session
 * that is not answered at once. 0 is the only answer to RELOAD that is safe in every
 * version. */
static int on_reload(int event, void *event_data, void *userdata)
{
	struct iotoll_instance *i = userdata;
	(void)event, (void)event_data;
	i->reloading = true;
	iotollReload(i->handle);
	service(i, false);
	return MOSQ_ERR_SUCCESS;
}

static int on_tick(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_tick *e = event_data;
	struct iotoll_instance *i = userdata;
	(void)event;
	i->reloading = false;
	e->next_ns = 0; /* next_ms in 2.1: call again at the next turn of the loop */
	e->next_s = 0;
	/* 2.1 adds these to now_s, of the wall clock, and makes no TICK before that time. While
	 * a clock that was set back has not reached it, no session would end. */
	e->now_s = 0;
	service(i, true);
	return MOSQ_ERR_SUCCESS;
}

/* optional callbacks are missing in some version of the broker. */
static const struct {
	int event;
	int (*callback)(int, void *, void *);
	bool optional;
} callbacks[] = {
	{MOSQ_EVT_RELOAD, on_reload, false},
	{MOSQ_EVT_ACL_CHECK, on_acl_check, false},
	{MOSQ_EVT_BASIC_AUTH, on_basic_auth, false},
	{MOSQ_EVT_TICK, on_tick, false},
	{MOSQ_EVT_DISCONNECT, on_disconnect, false},
	{EVT_CONNECT, on_connect, true},
};
#define CALLBACKS (sizeof callbacks / sizeof *callbacks)

/* ---- For Go ---- */

static int wake_signal;

static void woken(int sig) { (void)sig; }

void iotoll_wake(void)
{
	if (wake_signal)
		pthread_kill(broker_thread, wake_signal);
}

void iotoll_log(int level, const char *text) { mosquitto_log_printf(level, "%s", text); }

void iotoll_publish(const char *topic, const char *payload)
{
	mosquitto_broker_publish_copy(NULL, topic, (int)strlen(payload), payload, 0, true, NULL);
}

void iotoll_complete_login(const char *client_id, int rc)
{
	if (mosquitto_complete_basic_auth)
		mosquitto_complete_basic_auth(client_id, rc);
}

/* The will is sent, as MQTT asks of a server that closes a connection. It also makes a kick
 * of a session without a connection harmless: the broker only drops the subscriptions that
 * are no longer permitted. */
void iotoll_kick(const char *username, const char *client_id)
{
	if (username)
		mosquitto_kick_client_by_username(username, true);
	else
		mosquitto_kick_client_by_clientid(client_id, true);
}

void iotoll_unsubscribe(const char *client_id, const char *filter)
{
	if (mosquitto_subscription_delete)
		mosquitto_subscription_delete(client_id, filter);
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
	for (size_t n = 0; i->id && n < CALLBACKS; n++)
		mosquitto_callback_unregister(i->id, callbacks[n].event, callbacks[n].callback, NULL);
	/* Without a handle, Go's goroutines may not have ended yet. */
	if (i->handle && iotollStop(i->handle)) {
		iotoll_table_free(&i->table);
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
	if (!mosquitto_callback_register || !mosquitto_callback_unregister || !mosquitto_client_username || !mosquitto_client_id ||
	    !mosquitto_client_address || !mosquitto_client_clean_session || !mosquitto_client_protocol_version ||
	    !mosquitto_kick_client_by_clientid || !mosquitto_kick_client_by_username || !mosquitto_broker_publish_copy)
		return refuse(NULL, "this broker lacks functions of Mosquitto 2.0");

	struct iotoll_instance *i = calloc(1, sizeof *i);
	if (!i)
		return refuse(NULL, "out of memory");
	const char *missing = iotoll_table_init(&i->table);
	if (missing)
		return refuse(i, missing);
	i->number = ++instances;
	i->generation = 1; /* the empty entries of the table have generation 0 */

	broker_thread = pthread_self();
	if (!wake_signal) {
		struct sigaction sa = {.sa_handler = woken, .sa_flags = SA_ONSTACK | SA_RESTART};
		if (sigaction(SIGRTMAX - 3, &sa, NULL) == 0)
			wake_signal = SIGRTMAX - 3;
	}

	i->handle = iotollStart(i, (void *)options, count, why, sizeof why);
	if (!i->handle)
		return refuse(i, why[0] ? why : "panic at start, see above");
	for (size_t n = 0; n < CALLBACKS; n++)
		if (mosquitto_callback_register(id, callbacks[n].event, callbacks[n].callback, NULL, i) && !callbacks[n].optional)
			return refuse(i, "cannot register with the broker; is the plugin configured twice?");
	i->id = id;
	*userdata = i;
	service(i, false);
	return MOSQ_ERR_SUCCESS;
}

EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	struct iotoll_instance *i = userdata;
	(void)options, (void)count;
	if (i) {
		service(i, false);
		end(i);
	}
	return MOSQ_ERR_SUCCESS;
}

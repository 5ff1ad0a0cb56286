/* allow.c: the baseline plugin. It permits every login and every access, so
 * what another plugin costs beyond it is that plugin's own cost.
 *
 * With THREAD it also starts a thread that sleeps, as every plugin written in Go
 * has: in a process with threads the kernel counts references to descriptors in
 * each system call, and malloc takes locks. */
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

static int allow(int event, void *data, void *userdata)
{
	return MOSQ_ERR_SUCCESS;
}

#ifdef THREAD
static void *idle(void *unused)
{
	for (;;)
		pause();
}
#endif

int mosquitto_plugin_version(int n, const int *supported)
{
	return 5;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
#ifdef THREAD
	pthread_t thread;
	if (pthread_create(&thread, NULL, idle, NULL))
		return MOSQ_ERR_NOMEM;
#endif
	int rc = mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, allow, NULL, NULL);
	return rc ? rc : mosquitto_callback_register(id, MOSQ_EVT_ACL_CHECK, allow, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	return MOSQ_ERR_SUCCESS;
}

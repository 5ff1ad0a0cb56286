/* allow.c: the least that a Mosquitto plugin can do: it permits every log-in
 * and every access. What a plugin costs beyond this is its own doing. */
#include <stddef.h>
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

static int allow(int event, void *data, void *userdata)
{
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_version(int n, const int *supported)
{
	return 5;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	int rc = mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, allow, NULL, NULL);
	return rc ? rc : mosquitto_callback_register(id, MOSQ_EVT_ACL_CHECK, allow, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	return MOSQ_ERR_SUCCESS;
}

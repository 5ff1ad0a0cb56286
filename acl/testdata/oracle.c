/* Answers from libmosquitto what Filter.Matches answers: reads pairs of filter
 * and topic, each behind its length in two bytes, and writes one byte for each
 * pair: '1' matches, '0' does not, 'x' for what the library calls invalid. */
#include <mosquitto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static char *text(void)
{
	int hi = getchar(), lo = getchar();
	if (hi == EOF || lo == EOF)
		exit(0);
	size_t n = (size_t)hi << 8 | (size_t)lo;
	char *s = malloc(n + 1);
	if (!s || fread(s, 1, n, stdin) != n)
		exit(1);
	s[n] = 0;
	return s;
}

int main(void)
{
	for (;;) {
		char *filter = text(), *topic = text();
		bool match = false;
		/* The matcher alone takes a/#b for a filter. */
		int rc = mosquitto_sub_topic_check(filter);
		if (rc == MOSQ_ERR_SUCCESS)
			rc = mosquitto_pub_topic_check(topic);
		if (rc == MOSQ_ERR_SUCCESS)
			rc = mosquitto_topic_matches_sub(filter, topic, &match);
		putchar(rc != MOSQ_ERR_SUCCESS ? 'x' : match ? '1' : '0');
		free(filter);
		free(topic);
	}
}

/* job.c: a job made, watched and fetched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

#define LOOK_NS 200000000L

static long progress_of(const json_t *job, const char *name)
{
    return (long)json_integer_value(json_object_get(json_object_get(job, "progress"), name));
}

static bool ended(const json_t *job)
{
    const char *status = json_string_value(json_object_get(job, "status"));

    return !status || !strcmp(status, "succeeded") || !strcmp(status, "failed") || !strcmp(status, "cancelled");
}

static int failed(const json_t *job)
{
    const char *text = json_string_value(json_object_get(json_object_get(job, "error"), "text"));
    const char *id = json_string_value(json_object_get(job, "id"));

    fprintf(stderr, "onelip: the job %s ended without a result: %s\n", id ? id : "?", text ? text : "it was cancelled");
    return EXIT_SERVER;
}

int run_job(const struct options *o, struct server *s, json_t *request, json_t **job, json_t **result)
{
    char *text = request ? json_dumps(request, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL, path[256];
    long told = 0, step;
    int rc = text ? server_call(s, "POST", "/v2/jobs", &(struct body){text, strlen(text), 0}, job) : no_memory(0);

    json_decref(request);
    free(text);
    while (rc == EXIT_OK && !ended(*job)) {
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
        snprintf(path, sizeof path, "/v2/jobs/%s", json_string_value(json_object_get(*job, "id")));
        json_decref(*job);
        *job = NULL;
        if ((rc = server_call(s, "GET", path, NULL, job)) == EXIT_OK && (step = progress_of(*job, "step")) > told) {
            progress_line(o, step, progress_of(*job, "total_steps"), true, "");
            told = step;
        }
    }
    if (rc == EXIT_OK && !json_is_string(json_object_get(*job, "result")))
        rc = failed(*job);
    return rc == EXIT_OK ? server_call(s, "GET", json_string_value(json_object_get(*job, "result")), NULL, result) : rc;
}

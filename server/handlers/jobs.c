/* jobs.c: jobs and events over HTTP. */
#include "jobs.h"

#include "common.h"
#include "handlers.h"

static struct job *find(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct job *job = job_get(ctx->jobs, rq->param[0]);

    if (!job)
        reply_error(rp, 404, "unknown_job", NULL, "there is no job '%.60s'", rq->param[0]);
    return job;
}

/* POST /v2/jobs {"type", "model", …}  ->  202, the job */
void handle_job_create(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    jobs_create(ctx, rq, rp);
}

/* GET /v2/jobs?status=&model=&type=&limit=&after= */
void handle_jobs_list(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"status", "model", "type", "limit", "after", NULL};

    if (codec_queries(rq, rp, names))
        reply_list(rq, rp,
                   jobs_list(ctx->jobs, request_query(rq, "status"), request_query(rq, "model"), request_query(rq, "type")), "id");
}

/* GET /v2/jobs/{id} */
void handle_job_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct job *job;

    if (!codec_queries(rq, rp, none) || !(job = find(ctx, rq, rp)))
        return;
    reply_json_tagged(rq, rp, job_json(job));
    job_put(job);
}

/* DELETE /v2/jobs/{id}  ->  204: forgets a finished one */
void handle_job_delete(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct failure f = {0};
    struct job *job;

    if (!codec_queries(rq, rp, none) || !(job = find(ctx, rq, rp)))
        return;
    if (job_forget(job, &f))
        reply_bytes(rp, 204, NULL, NULL, 0);
    else
        reply_failure(rp, &f);
    job_put(job);
}

static void control(struct ctx *ctx, const struct request *rq, struct reply *rp, enum job_control what)
{
    static const char *const none[] = {NULL};
    struct failure f = {0};
    struct job *job;
    json_t *body;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    if (codec_members(rp, body, "", none) && (job = find(ctx, rq, rp))) {
        if (job_control(job, what, &f))
            reply_json(rp, 200, job_json(job));
        else
            reply_failure(rp, &f);
        job_put(job);
    }
    json_decref(body);
}

/* POST /v2/jobs/{id}/cancel, /pause, /resume  ->  200, the job as it is now */
void handle_job_cancel(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    control(ctx, rq, rp, JOB_CANCEL);
}

void handle_job_pause(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    control(ctx, rq, rp, JOB_PAUSE);
}

void handle_job_resume(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    control(ctx, rq, rp, JOB_RESUME);
}

/* GET /v2/jobs/{id}/result  ->  what the plain request would have got */
void handle_job_result(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct job *job;

    if (!codec_queries(rq, rp, none) || !(job = find(ctx, rq, rp)))
        return;
    job_answer(job, rp);
    job_put(job);
}

/* GET /v2/jobs/{id}/events  ->  a page, or server-sent events */
void handle_job_events(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct job *job = find(ctx, rq, rp);

    if (!job)
        return;
    feed_answer(job->feed, false, rq, rp);
    job_put(job);
}

/* GET /v2/events?model=&types=  ->  the same of the whole server */
void handle_events(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    feed_answer(events_all(ctx->events), true, rq, rp);
}

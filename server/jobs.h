/* jobs.h: long work: training over a dataset, and requests that were asked to be answered later.
 *
 * A job is queued, run by one of a few threads, oldest first; of those that change a model's head one at a time. What a job is
 * asked (pause, cancel, stop because the daemon stops) it sees between two steps. Its history is in jobs.sqlite, the position
 * of a training job in its model's state.json, written together with the weights that it belongs to: after a crash it goes on
 * exactly there.
 *
 * Threads: safe, unless said otherwise.
 */
#ifndef SERVER_JOBS_H
#define SERVER_JOBS_H

#include <jansson.h>
#include <stdatomic.h>

#include "datasets.h"
#include "events.h"
#include "history.h"
#include "http.h"

#define JOB_ID_MAX 31 /* "job_" and a ULID */

struct ctx;
struct jobs;

enum job_status { JOB_QUEUED, JOB_RUNNING, JOB_PAUSING, JOB_PAUSED, JOB_CANCELLING, JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED };

struct job {
    atomic_uint refs;
    struct jobs *jobs;
    const struct job_type *type;
    char id[JOB_ID_MAX];
    char kind[32];                  /* "train", "evaluate", "lipschitz": the member type */
    char model[MODEL_NAME_MAX + 1]; /* "" : none */
    json_t *request;                /* the body that made it, defaults written out; immutable */
    struct captured *captured;      /* the request to run; NULL: made from `request` */
    struct feed *feed;
    atomic_bool asked;              /* look at the status, or at whether the daemon stops */

    /* under the lock of jobs */
    enum job_status status;
    bool stopped;                   /* its runner left it in the middle, for the next start */
    char created_at[TIME_MAX], started_at[TIME_MAX], finished_at[TIME_MAX];
    uint64_t step, total_steps, epoch, epochs, weights_revision;
    json_t *metrics;
    struct failure error;
    char *result;                   /* kept_text of the answer; NULL: none */
    json_t *internal;               /* what else is kept of it: ids of its datasets */

    /* of its runner */
    void *aside;                    /* what a run that was set aside left for the next one; NULL: it begins anew */
    void (*aside_free)(void *aside);
};

/* How a run ended. */
enum job_end { JOB_DONE, JOB_ERROR, JOB_STOPPED, JOB_SET_ASIDE, JOB_DROPPED };

/* A kind of job is one line of this table, in jobs.c. */
struct job_type {
    const char *name;
    bool writes;   /* changes the model's head */
    bool pauses;   /* can be set aside while it runs */
    bool restarts; /* can go on, or begin again, after a restart of the daemon */
    const char *template; /* of the route whose handler does it, or NULL */
    /* check: everything that can be wrong is said now; the defaults go into job->request, total steps into job. */
    bool (*check)(struct ctx *ctx, struct job *job, json_t *request, struct reply *rp);
    /* run: JOB_DONE with rp as its answer, JOB_ERROR with f or rp, or what it was asked to do: JOB_SET_ASIDE (pause),
     * JOB_DROPPED (cancel), JOB_STOPPED (the daemon stops). */
    enum job_end (*run)(struct ctx *ctx, struct job *job, struct reply *rp, struct failure *f);
    /* settled: the job's end is in the history; what it left for a restart can go. May be NULL. */
    void (*settled)(struct ctx *ctx, struct job *job);
};

extern const struct job_type job_train; /* train_job.c */

/* jobs_open: with the history; state_dir NULL: nothing is kept, and no results. Nothing runs yet. NULL with one sentence in why. */
struct jobs *jobs_open(struct ctx *ctx, const char *state_dir, char *why, size_t size);
/* jobs_start: every model is loaded: run what is queued and what was interrupted. false: no threads. */
bool jobs_start(struct jobs *jobs);
/* jobs_stop: no new runs; those under way stop at their next step and keep their position. true: none runs any more. */
bool jobs_stop(struct jobs *jobs);
void jobs_close(struct jobs *jobs); /* after jobs_stop said true */

struct once *jobs_once(struct jobs *jobs); /* of Idempotency-Key, in the same history */

/* jobs_create: POST /v2/jobs. jobs_respond_async: this request later, as a job. Both fill the reply. */
void jobs_create(struct ctx *ctx, const struct request *rq, struct reply *rp);
void jobs_respond_async(struct ctx *ctx, const struct request *rq, struct reply *rp);

struct job *job_get(struct jobs *jobs, const char *id); /* counted; NULL: there is none */
void job_put(struct job *job);
bool job_is_finished(struct job *job);
json_t *job_json(struct job *job); /* api.md 3.11; NULL: out of memory */
/* jobs_list: newest first, as JSON; NULLs select all. */
json_t *jobs_list(struct jobs *jobs, const char *status, const char *model, const char *type);

enum job_control { JOB_CANCEL, JOB_PAUSE, JOB_RESUME };
bool job_control(struct job *job, enum job_control what, struct failure *f);
bool job_forget(struct job *job, struct failure *f); /* a finished one; else 409 */

/* job_answer: what its result is, into an empty reply; 404 while there is none. */
void job_answer(struct job *job, struct reply *rp);

/* jobs_use_dataset: whether a job that is not finished reads it. jobs_work_on: whether one works on the model. jobs_cancel_on:
 * cancel all that do, and wait until none runs. */
bool jobs_use_dataset(struct jobs *jobs, const char *dataset);
bool jobs_work_on(struct jobs *jobs, const char *model);
void jobs_cancel_on(struct jobs *jobs, const char *model);

/* ---- for runs ---------------------------------------------------------------------------------------------- */

/* job_asked: JOB_DONE for nothing, else what a run is to end with at once. */
enum job_end job_asked(struct job *job);

/* job_progress: what the job's document says. metrics: taken over; NULL leaves them. */
void job_progress(struct job *job, uint64_t step, uint64_t epoch, uint64_t weights_revision, json_t *metrics);

json_t *job_metrics(struct job *job); /* a copy; NULL: out of memory */

/* job_set_aside: what a run that ends with JOB_SET_ASIDE leaves for the next one, in memory; taken over. job_take_aside: the
 * caller's again; NULL: there is none. */
void job_set_aside(struct job *job, void *aside, void (*aside_free)(void *aside));
void *job_take_aside(struct job *job);

/* job_tell: an event of the job, also in the server's feed. data: taken over. latest: only the latest of its type counts. */
void job_tell(struct job *job, json_t *data, bool latest);

/* train_job_forget: what training jobs left in a model that was loaded just now, of those jobs that are finished or not known any
 * more: its training resource is again what it was before them. */
void train_job_forget(struct ctx *ctx, struct model *model);

#endif

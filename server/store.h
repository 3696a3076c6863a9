/* store.h: the models, in memory and on disk.
 *
 * A model is a name, a published snapshot that readers use, and a head that writers change. Three locks, always taken in
 * this order: `changing` of the store (create, replace, delete), `writing` of a model (its head), `lock` of either (a few
 * instructions; no work, no disk). Readers take `lock` only, so nothing ever waits for a training step.
 *
 * On disk: models/NAME/head/state.json names the generation of every other file and its checksum and is written last,
 * so a crash between two files leaves the generation before. What was acknowledged is there after a crash, training
 * steps excepted: they follow within checkpoint_seconds, and head/ahead.json says that some were given out.
 */
#ifndef SERVER_STORE_H
#define SERVER_STORE_H

#include <jansson.h>
#include <onelip/onelip.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "batch.h"
#include "knobs.h"
#include "stats.h"

#define MODEL_NAME_MAX 128
#define VERSION_MAX 24 /* a version's number as text */
#define TIME_MAX 32    /* "2026-01-01T10:00:00Z" */

struct metrics;
struct store;

/* What went wrong in the store. status 0: nothing. */
struct failure {
    int status;       /* HTTP's */
    const char *code; /* of api.md 3.3 */
    char text[512];
};

/* ---- the parts of a model ---------------------------------------------------------------------------- */

/* An answer that is worth keeping as long as its snapshot: a Lipschitz report, by its options. */
struct report {
    struct report *next;
    char *key, *text; /* malloc'd */
};

enum { NORMS = LIP_LINF + 1 };

/* What readers see. Immutable but for what is kept beside it, counted. */
struct published {
    atomic_uint refs;
    lip_snapshot *snapshot;
    char epoch[9], version[VERSION_MAX];
    uint64_t weights_revision;
    struct stats *stats;  /* of its version; counted */
    pthread_mutex_t lock; /* of what follows */
    struct report *reports;
    lip_certifier *certifier[NORMS]; /* NULL: not asked for yet */
};

/* The training resource. Immutable, counted. */
struct recipe {
    atomic_uint refs;
    json_t *config; /* every member of api.md 3.6 but "state" */
    bool publish_step, publish_epoch, publish_job, lagging, skip_nonfinite, sync;
    uint64_t telemetry_every; /* 0: never */
    lip_trainer *judge; /* loss and metrics, for evaluate; never steps */
    lip_model *model;   /* what it was made for; a reference */
};

/* What the model document says beyond the definition; under the model's lock. */
struct facts {
    char epoch[9];
    char version[VERSION_MAX]; /* of the head, or of the frozen version that this is: "1", "2", … */
    uint64_t state_revision, weights_revision, checkpointed_revision;
    char created_at[TIME_MAX];
    char opened_at[TIME_MAX]; /* when this version became the head */
    char frozen_at[TIME_MAX]; /* "": it is the head */
    char *description; /* malloc'd; of a frozen version, its own */
    json_t *tags;
    char lost_epoch[9];  /* "", or the epoch whose states after lost_after a crash has taken back */
    uint64_t lost_after;
    char *damage; /* NULL, or why it is UNAVAILABLE: what is wrong with its files, or that it is unloaded */
};

/* One file of the newest generation on disk. */
struct part {
    char file[64]; /* below models/NAME/; "" when there is none */
    char sha256[65];
    size_t bytes;
};
enum { PART_DEFINITION, PART_WEIGHTS, PART_SERVED, PART_OPTIMIZER, PART_TRAINING, PARTS };

enum model_stage { MODEL_LOADING, MODEL_READY, MODEL_UNAVAILABLE, MODEL_UNLOADED };

/* The head of a name or, with frozen, one of its immutable versions: then nothing but stats ever changes.
 *
 * What a name means is exchanged as a whole when it is loaded, loaded again or unloaded: whoever has the struct of before goes on
 * with it, unchanged but for `gone`. Of an unloaded model there are facts, labels and versions' numbers only. */
struct model {
    atomic_uint refs;
    bool frozen;
    bool served_only; /* from files that are not the store's: never written */
    bool kept;        /* the state directory has a model of this name */
    struct store *store;
    char name[MODEL_NAME_MAX + 1];
    struct batcher batcher; /* has its own lock */

    pthread_mutex_t writing; /* the head: state, trainer, served, optimizer_kept, unpublished, gone */
    lip_state *state;
    lip_trainer *trainer; /* NULL before the first PUT of training */
    lip_state *served;    /* what was published, while unpublished steps have changed `state`; else NULL */
    bool optimizer_kept;
    uint64_t unpublished;
    const char *job;      /* the training job that changes the head now; nobody else does meanwhile. NULL: none */
    json_t *positions;    /* of training jobs that are not finished, by their ids; NULL: none */
    atomic_uint wanting;  /* how many wait for `writing`: a job lets them go first */
    atomic_bool gone; /* deleted or exchanged while somebody waited */

    pthread_mutex_t lock; /* what follows, up to `saving` */
    struct published *now;
    struct stats *stats; /* counted; those of now are the same */
    struct recipe *recipe;
    struct knobs *knobs; /* counted, never NULL; versions have their head's */
    struct facts facts;
    enum model_stage stage;
    struct model **version; /* of a head: its frozen versions, the oldest first, a reference to each */
    size_t n_versions;
    json_t *labels; /* of a head: {"stable":"1"}, NULL when there are none; immutable, only replaced */
    uint64_t dirty_ns; /* when the first unsaved step was made; 0: none */

    pthread_mutex_t marking; /* ahead.json */
    bool marked;             /* it is there */
    uint64_t promised;       /* the newest revision that may have been given out */

    pthread_mutex_t saving; /* the files */
    uint64_t serial, saved_serial; /* of images; serial is under `writing` */
    uint64_t generation;
    struct part part[PARTS];
};

/* ---- the store ------------------------------------------------------------------------------------------ */

/* store_open: take the state directory (made if need be, one daemon at a time) and start the thread that checkpoints.
 * read_only: nothing is ever written; several may share the directory, which may be missing, or NULL. Nothing is loaded yet. On
 * failure NULL and one sentence in why. */
struct store *store_open(const char *state_dir, bool read_only, double checkpoint_seconds, struct metrics *metrics, char *why,
                         size_t size);

/* store_listen: who is told what becomes of models, from now on: on any thread, perhaps under a model's locks, so it neither
 * waits nor calls back. Of facts only the version and the revisions may be read. To be called before anything is loaded. */
enum model_news { NEWS_CREATED, NEWS_REPLACED, NEWS_LOADED, NEWS_UNLOADED, NEWS_DELETED, NEWS_PUBLISHED };
typedef void store_listener(void *ctx, enum model_news what, const char *name, const struct facts *facts);
void store_listen(struct store *store, store_listener *told, void *ctx);

/* store_load: every model of the directory that is wanted; the others are there as unloaded. A damaged one is UNAVAILABLE. */
void store_load(struct store *store, bool (*wanted)(const void *ctx, const char *name), const void *ctx);

/* store_pace: from now on another checkpoint_seconds. */
void store_pace(struct store *store, double checkpoint_seconds);

/* store_save: write every unsaved step now; waits for a model whose head is being changed. */
void store_save(struct store *store);

/* store_close: write every unsaved step, then free. No request may be under way. false: something could not be saved. */
bool store_close(struct store *store);

int store_folder(const struct store *store); /* the state directory, open; -1: there is none, which only read_only allows */
bool store_read_only(const struct store *store);

/* store_get: a model by name, NULL if there is none. Give it back with store_put. */
struct model *store_get(struct store *store, const char *name);
void store_put(struct model *model);

/* store_list: all models, sorted by name, each with a reference; *n of them. Memory: free() after store_put of each.
 * NULL when out of memory. */
struct model **store_list(struct store *store, size_t *n);

bool store_name_ok(const char *name);
bool failure_set(struct failure *f, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5))); /* always false */
bool failure_lip(struct failure *f, const lip_error *err);
bool failure_errno(struct failure *f, int error, const char *what); /* of a write: a full disk is 507 */

/* A model that is to be created or to replace another. What is taken by store_put_model is set to NULL. */
struct draft {
    lip_state *state;
    lip_snapshot *snapshot;
    lip_trainer *trainer;
    struct recipe *recipe;
    char *description;
    json_t *tags;
    struct knobs *knobs; /* NULL: what it has, or the defaults */
};
void draft_clear(struct draft *draft);

/* store_create: a new model, or with `replace` a new definition, weights and training state for one that may be there.
 * On disk when it returns. check (may be NULL) is called with the present model, NULL if none, once nothing else can change it;
 * false refuses (it has filled its own reply). *created says whether the name was new.
 * Returns the model with a reference, NULL with f filled (f->status 0: check refused). */
struct model *store_create(struct store *store, const char *name, struct draft *draft, bool replace,
                           bool (*check)(void *ctx, struct model *present), void *ctx, bool *created, struct failure *f);

/* store_delete: from memory and disk. check as above. false: f, or check refused. */
bool store_delete(struct store *store, struct model *model, bool (*check)(void *ctx, struct model *present), void *ctx,
                  struct failure *f);

/* ---- loading: loading.c --------------------------------------------------------------------------------------- */

/* One version of a model of files; version: its number. */
struct serving {
    char version[VERSION_MAX];
    struct draft draft;
};

/* store_unload   unsaved steps are written, the memory is free once nobody uses it any more. An unloaded one stays so.
 *                404 unknown_model
 * store_reload   from the state directory, whether it is loaded or not; what was served before stays when that fails. knobs (may
 *                be NULL): in the place of config.json until it is loaded again. 404 unknown_model: the directory has none
 * store_serve    these versions, in the order of their numbers, the last as head: all of their drafts are taken on success.
 *                403 read_only: the name is in the state directory, and not `anyway`
 * store_fail     the same name, whose files cannot be used: UNAVAILABLE, unless it serves something already
 * store_name     the name alone, unloaded, unless there is one already
 * store_withdraw a model of files is no more */
bool store_unload(struct store *store, const char *name, struct failure *f);
bool store_reload(struct store *store, const char *name, struct knobs *knobs, struct failure *f);
bool store_serve(struct store *store, const char *name, struct serving *versions, size_t n, struct knobs *knobs, bool anyway,
                 struct failure *f);
void store_fail(struct store *store, const char *name, const char *why);
void store_name(struct store *store, const char *name);
void store_withdraw(struct store *store, const char *name);

/* ---- reading one model ---------------------------------------------------------------------------------- */

/* model_stage: whether it can be used. why (may be NULL): the damage of an unavailable one. */
enum model_stage model_stage(struct model *model, char *why, size_t size);

/* model_now: what is published, counted; NULL unless the model is ready. */
struct published *model_now(struct model *model);
void published_put(struct published *now);
size_t published_live(void); /* snapshots that somebody holds, of all models */
struct knobs *model_knobs(struct model *model);   /* counted */
struct stats *model_stats(struct model *model);   /* counted */
uint64_t model_published(struct batcher *b); /* the weights_revision of the batcher's model; 0: nothing is published */
struct recipe *model_recipe(struct model *model); /* counted; NULL: training is not configured */
void recipe_put(struct recipe *recipe);
/* model_lost: whether this ETag of the model names a state that a crash has taken back. */
bool model_lost(struct model *model, const char *etag);
/* model_facts: a copy; clear it. false: out of memory. */
bool model_facts(struct model *model, struct facts *copy);
void facts_clear(struct facts *facts);

/* model_lock: take `writing`, before a training job takes its next step. model_checkpoint: write unsaved steps now. */
void model_lock(struct model *model);
bool model_checkpoint(struct model *model, struct failure *f);

/* Where a training job stands: an object of its own making, saved with every state of the model. Under `writing`.
 * position_put takes it over; NULL takes the job's away. false: out of memory. position_get is borrowed; NULL: none. */
bool position_put(struct model *model, const char *job, json_t *position);
json_t *position_get(const struct model *model, const char *job);

/* ---- changing one model: the caller holds `writing` ------------------------------------------------------ */

/* model_replace_state: the changed copy becomes the head, on disk and published, one revision on; taken on success. */
bool model_replace_state(struct model *model, lip_state *changed, struct failure *f);

/* model_train: another training resource and its trainer, on disk; both taken on success. */
bool model_train(struct model *model, struct recipe *recipe, lip_trainer *trainer, bool optimizer_kept, struct failure *f);

/* model_redefine: the same for another definition with the same variables; recipe and trainer (NULL: not configured) are
 * made for it and taken too. */
bool model_redefine(struct model *model, lip_state *changed, struct recipe *recipe, lip_trainer *trainer,
                    bool optimizer_kept, struct failure *f);

/* model_describe: another description and tags, on disk; both taken on success. No revision: the head is the same. */
bool model_describe(struct model *model, char *description, json_t *tags, struct failure *f);

/* model_tune: another configuration, on disk, in force at once for every version; taken on success. */
bool model_tune(struct model *model, struct knobs *knobs, struct failure *f);

/* A step: model_before_step, then lip_train_step on model->state and model->trainer, then model_stepped; or
 * model_unstep when the step failed and changed nothing.
 *
 * model_before_step  makes sure that a crash will be known to have lost the step (not with sync), and keeps a copy of what
 *                    is served when it will not be published
 * model_stepped      one revision on, published if `publish`; with sync on disk when it returns true, else the caller
 *                    takes the step back and calls model_unstep */
bool model_before_step(struct model *model, bool publish, bool sync, struct failure *f);
bool model_stepped(struct model *model, bool publish, bool sync, struct failure *f);
void model_unstep(struct model *model);

/* ---- versions and labels: version.c ------------------------------------------------------------------------------ */

/* model_version: the frozen version of that number, or the head itself when it is its number; counted. NULL: none.
 * model_versions: all frozen ones, the oldest first, counted; *n of them. Memory: free() after store_put of each. NULL: out of
 * memory. model_labels: a copy. None of them needs `writing`. */
struct model *model_version(struct model *head, const char *number);
struct model **model_versions(struct model *head, size_t *n);
json_t *model_labels(struct model *head);

/* The caller holds the head's `writing`.
 *
 * version_freeze  the head, as it is, becomes an immutable version, and the head takes the next number with the same weights.
 *                 labels (may be NULL): a list of names for it. On disk when it returns the version, counted; NULL: f
 * version_remove  a frozen one without labels; else 409 in_use, 404 unknown_version
 * label_set       number NULL: take the label away. 404 not_found, unknown_version */
struct model *version_freeze(struct model *head, const char *description, const json_t *labels, struct failure *f);
bool version_remove(struct model *head, const char *number, struct failure *f);
bool label_set(struct model *head, const char *label, const char *number, struct failure *f);

/* ---- checkpoints: checkpoint.c ----------------------------------------------------------------------------------- */

/* A checkpoint is a copy of the head on disk: definition, weights, optimizer, training resource. Its document is what
 * M/checkpoints/{c} shows: {"name", "step", "state_revision", "bytes", "job", "created_at"}. The caller holds `writing`.
 *
 * checkpoint_make     name NULL: "r<state_revision>"; job NULL: none. On disk when it returns its document; NULL: f (409
 *                     already_exists). Memory: json_decref
 * checkpoint_restore  back to it: a new revision, on disk and published. A definition with other variables is 422
 *                     bad_weights. A checkpoint without training keeps the present training resource, with a new
 *                     optimizer; one with training brings its own. *document: its document
 * checkpoint_remove   404 unknown_checkpoint
 *
 * checkpoint_document one, or NULL; checkpoint_list: all, the newest first. No lock is needed for these two. */
json_t *checkpoint_make(struct model *model, const char *name, const char *job, struct failure *f);
bool checkpoint_restore(struct model *model, const char *name, json_t **document, struct failure *f);
bool checkpoint_remove(struct model *model, const char *name, struct failure *f);
json_t *checkpoint_document(struct model *model, const char *name);
json_t *checkpoint_list(struct model *model);

/* time_text: now, in UTC. */
void time_text(char text[TIME_MAX]);

/* ---- the training resource: recipe.c --------------------------------------------------------------------- */

/* recipe_make: from a checked, complete object (api.md 3.6 less "state"): the recipe with its canonical form, and the
 * trainer. Errors as lip_trainer_new. */
lip_err recipe_make(const lip_model *model, const json_t *config, struct recipe **recipe, lip_trainer **trainer,
                    lip_error *err);

/* recipe_twin: the same once more, with the numbers that the trainer's losses have now and keep from now on. */
lip_err recipe_twin(const struct recipe *recipe, const lip_trainer *trainer, struct recipe **twin, lip_error *err);

#endif

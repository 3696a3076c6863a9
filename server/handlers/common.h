/* common.h: what handlers share: models by the path, preconditions, revisions in headers, the model document. */
#ifndef SERVER_HANDLERS_COMMON_H
#define SERVER_HANDLERS_COMMON_H

#include <jansson.h>

#include "codec.h"
#include "ctx.h"
#include "http.h"
#include "page.h"
#include "store.h"

#define ETAG_MAX 96

void reply_failure(struct reply *rp, const struct failure *f);

/* find_head: the model of the path, also an unavailable one; else 404. find_model: the frozen version of it that the path
 * names by {v} or {label}, else the head. Give it back with store_put. */
struct model *find_head(struct ctx *ctx, const struct request *rq, struct reply *rp);
struct model *find_model(struct ctx *ctx, const struct request *rq, struct reply *rp);
/* find_unfrozen: the same for what changes something: 409 version_frozen for a frozen version. */
struct model *find_unfrozen(struct ctx *ctx, const struct request *rq, struct reply *rp);

/* path_param: the segment of the path that the route calls `name` ("{l}"), wherever it stands; NULL: the route has none. */
const char *path_param(const struct request *rq, const char *name);

/* layer_of_path: the layer that the path names, "{l}" or "{l}/{inner}". */
enum { LAYER_NAME_MAX = 2048 }; /* with the name of a variable behind it */
const char *layer_of_path(const struct request *rq, char name[LAYER_NAME_MAX]);

/* find_layer: where that layer stands in the model; false: 404 unknown_layer is said. */
bool find_layer(const struct request *rq, const char *model, const lip_model *m, size_t *layer, struct reply *rp);

/* find_now: what it serves; 503 while it cannot. */
struct published *find_now(struct model *model, struct reply *rp);

/* model_casts: whether its inputs may have the datatypes that cast_inputs lets in. */
bool model_casts(struct model *model);

/* is_ours: whether the model is one that can be written; else 403 read_only. */
bool is_ours(const struct model *model, struct reply *rp);

/* write_begin: the model of the path with `writing` held, ready, and If-Match satisfied; 409 version_frozen below a frozen
 * version. head_begin: its head, whatever else the path names. write_end: unlock, give it back. */
struct model *write_begin(struct ctx *ctx, const struct request *rq, struct reply *rp);
struct model *head_begin(struct ctx *ctx, const struct request *rq, struct reply *rp);
void write_end(struct model *model);
/* write_begin_as, head_begin_as: the same for a resource with a tag of its own, which If-Match may name instead.
 * own_tag: under `writing`, of a model that is ready; leaves "" while there is none. */
typedef void own_tag(struct model *model, const struct request *rq, char etag[ETAG_MAX]);
struct model *write_begin_as(struct ctx *ctx, const struct request *rq, own_tag *tag, struct reply *rp);
struct model *head_begin_as(struct ctx *ctx, const struct request *rq, own_tag *tag, struct reply *rp);

/* not_a_jobs: that no training job changes the head now; else 409 job_running. Under `writing`; write_begin asks it. */
bool not_a_jobs(struct model *model, struct reply *rp);

/* redefine_head: a state of another definition with the same variables becomes the head, on disk and published; the training
 * resource and the optimizer go along. moved is taken over. Under `writing`; false: the reply says why, nothing changed. */
bool redefine_head(struct model *model, lip_state *moved, struct reply *rp);

/* precondition: If-Match against the head's state, or against `own`, unless that is NULL or ""; 412 with current_revision.
 * present NULL: there is no such model. */
bool precondition(const struct request *rq, struct model *present, const char *own, struct reply *rp);

/* etag_of: "<epoch>-<version>-<revision>", or with -<hash of options> behind it. */
void etag_of(char etag[ETAG_MAX], const char *epoch, const char *version, uint64_t revision, const char *options);

/* reply_state: ETag and Onelip-Weights-Revision of the head as it is now. */
void reply_state(struct reply *rp, struct model *model);
void reply_weights_revision(struct reply *rp, uint64_t revision);

/* labels_of: model and version as the labels of a metric. */
#define LABELS_MAX (MODEL_NAME_MAX + VERSION_MAX + 32)
void labels_of(char labels[LABELS_MAX], const char *model, const char *version);

/* forget_metrics: all series of one version. */
void forget_metrics(struct ctx *ctx, const char *model, const char *version);

/* stage_word: as documents say it. */
const char *stage_word(enum model_stage stage);

/* model_document: api.md 2.3, of a head or of one of its versions. etag (may be NULL): its tag, "" while it has none. NULL: out
 * of memory. */
json_t *model_document(struct model *head, struct model *model, char *etag);

/* tensors_json: the model's inputs or outputs as its document lists them. */
json_t *tensors_json(const lip_model *m, bool inputs);

/* layer_document: one layer with its config, as GET and PATCH of layers/{l} give it. name: of a layer of the model. */
json_t *layer_document(struct published *now, const char *name);

/* config_make: a ModelConfig of a request, at pointer of its body. NULL: the reply says why. */
struct knobs *config_make(const json_t *object, const char *pointer, struct reply *rp);

/* json_merge: RFC 7396, as a new value. NULL: out of memory. */
json_t *json_merge(const json_t *target, const json_t *patch);

/* thread_workspace: this thread's scratch for forward passes; freed when the thread ends. NULL: out of memory. */
lip_workspace *thread_workspace(void);

/* native_parameters: that "parameters" has no member but `names` (NULL-terminated, may be NULL) and what every native path
 * takes, and those right. deadline: when the answer is due, on now_ns()'s clock; a job's unless it asks for one, never. */
bool native_parameters(struct ctx *ctx, const struct request *rq, const struct codec_body *body, const char *const *names,
                       uint64_t *deadline, struct reply *rp);
/* go_on: whether the deadline is still ahead, else 504, and somebody waits for the answer, else 499. Long work asks now and then. */
bool go_on(const struct request *rq, uint64_t deadline, struct reply *rp);
/* heed_client: what this thread does with max_seconds from here on ends early when the client leaves; NULL: no more. What came
 * out then is nobody's: go_on says 499. */
void heed_client(const struct request *rq);

/* find_certifier: of the snapshot, kept with it; borrowed from now. NULL: the reply says why. */
const lip_certifier *find_certifier(struct published *now, lip_norm norm, struct reply *rp);

/* telemetry_json: api.md 3.6's "telemetry" of a snapshot and the batch that was trained on. NULL: err. */
json_t *telemetry_json(const lip_snapshot *snapshot, const lip_batch *batch, lip_error *err);

/* changes_json: the "layers" of condense and refresh; distance is the member's name. */
json_t *changes_json(const lip_change *changes, size_t n, const char *distance, bool sigma);

char *base64(const unsigned char *bytes, size_t n); /* malloc'd; NULL: out of memory */
void *unbase64(const char *text, size_t *size);    /* the way back; NULL: it is none, or out of memory */

/* coefficient_of: "deel_lip" or "sound"; false: another word, or NULL. coefficient_word: the way back. */
bool coefficient_of(const char *word, lip_coefficient *coefficient);
const char *coefficient_word(const lip_model *model);

#endif

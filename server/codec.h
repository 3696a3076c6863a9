/* codec.h: bodies to and from tensors, documents and errors.
 *
 * Whatever is wrong with a body is said in the reply, with api.md's status, code and pointer, and false or NULL is
 * returned; sizes are checked before memory is taken.
 */
#ifndef SERVER_CODEC_H
#define SERVER_CODEC_H

#include <jansson.h>
#include <onelip/onelip.h>
#include <stdbool.h>
#include <stddef.h>

#include "http.h"

#define CODEC_MAX_INPUTS 64

enum codec_type {
    CODEC_FP32, /* 0: what a tensor is unless it says otherwise */
    CODEC_BOOL, CODEC_UINT8, CODEC_UINT16, CODEC_UINT32, CODEC_UINT64, CODEC_INT8, CODEC_INT16, CODEC_INT32, CODEC_INT64,
    CODEC_FP16, CODEC_BF16, CODEC_FP64, CODEC_BYTES, CODEC_TYPES
};

const char *codec_type_name(enum codec_type type);
size_t codec_type_size(enum codec_type type); /* 0 for BYTES */

/* ---- errors -------------------------------------------------------------------------------------------- */

/* What a lip_err is about: the same shape error is a bad definition in one place and a bad tensor in another. */
enum codec_about { ABOUT_DEFINITION, ABOUT_TENSORS, ABOUT_WEIGHTS };

/* reply_lip_error: the one table from lip_err to status and code. prefix: the JSON pointer, from the top of the request's
 * body, of the document that err->pointer points into; NULL: the error has no place in the body. */
void reply_lip_error(struct reply *rp, const lip_error *err, enum codec_about about, const char *prefix);

void reply_no_memory(struct reply *rp);

/* reply_at: one failure at one place of the body. */
void reply_at(struct reply *rp, int status, const char *code, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* ---- JSON documents --------------------------------------------------------------------------------------- */

/* codec_document: the body as a JSON object; an empty body is {}. Native paths refuse other media types (415).
 * Memory: json_decref. NULL: the reply says why. */
json_t *codec_document(const struct request *rq, struct reply *rp);

/* codec_members: that an object has no member but these (NULL-terminated); else 400 unknown_member. pointer: where it
 * stands, "" at the top. */
bool codec_members(struct reply *rp, const json_t *object, const char *pointer, const char *const *members);

/* codec_queries: that a native path got no query parameter but these; else 400 bad_parameter. */
bool codec_queries(const struct request *rq, struct reply *rp, const char *const *names);

/* Query values. An absent one leaves *value as it is. */
bool codec_query_bool(const struct request *rq, struct reply *rp, const char *name, bool *value);
bool codec_query_positive(const struct request *rq, struct reply *rp, const char *name, double *value);

/* codec_real: a JSON number, or the string "NaN", "Infinity", "-Infinity". codec_real_or_null: null for NaN. */
json_t *codec_real(double x);
json_t *codec_real_or_null(double x);

/* codec_shape: [null, 784] with `batch` (-1 or null) in front; batch NULL: none. Takes batch over. */
json_t *codec_shape(const lip_shape *shape, json_t *batch);

/* codec_hash_of: the tag of these bytes. */
#define HASH_ETAG_MAX 40
void codec_hash_of(char etag[HASH_ETAG_MAX], const void *bytes, size_t size);

/* codec_hash_etag: sets ETag to a hash of these bytes; true when If-None-Match has it: the reply is then 304. */
bool codec_hash_etag(const struct request *rq, struct reply *rp, const void *bytes, size_t size);

/* codec_accept: which of n media types, the usual one first, the request's Accept wants most; without that header the first, n when
 * it wants none. Says Vary: Accept. */
size_t codec_accept(const struct request *rq, struct reply *rp, const char *const *types, size_t n);

/* codec_not_modified: sets ETag; true when If-None-Match has it: the reply is then 304. */
bool codec_not_modified(const struct request *rq, struct reply *rp, const char *etag);

/* codec_tag_coded: the tag of the same document in a content coding: "…-gzip" (RFC 9110, 8.8.3.3). */
#define CODED_ETAG_MAX 112
void codec_tag_coded(char coded[CODED_ETAG_MAX], const char *etag, const char *coding);

/* codec_tag_listed: whether a list of entity tags has this one, quotes included, plain or of a coding: the state that it names
 * is the same; "*" has all. weak: W/"…" counts too (If-None-Match; If-Match compares strongly). */
bool codec_tag_listed(const char *list, const char *etag, bool weak);

/* codec_conditions_hold: whether If-Match and If-None-Match let a request change what has this tag; NULL: there is nothing.
 * other: a second tag that stands for the same, or NULL.
 * codec_precondition: the same; else 412. codec_precondition_json: of a document whose tag is a hash of it (below). */
bool codec_conditions_hold(const struct request *rq, const char *etag, const char *other);
bool codec_precondition(const struct request *rq, struct reply *rp, const char *etag);
bool codec_precondition_json(const struct request *rq, struct reply *rp, const json_t *present);

/* reply_json_tagged: 200 with body (taken over; NULL: out of memory) and a hash of it as its ETag; to a GET also 304. */
void reply_json_tagged(const struct request *rq, struct reply *rp, json_t *body);

/* ---- tensor bodies: infer, train_step, evaluate -------------------------------------------------------------- */

struct codec_tensor {
    const char *name;
    size_t index; /* in "inputs" */
    enum codec_type type;
    lip_shape shape;
    size_t count;
    const unsigned char *data; /* binary: its bytes; else the JSON array, "[" to "]" */
    size_t bytes;
    bool binary;
};

struct codec_body {
    json_t *json;             /* the document; strings below point into it */
    const char *id;           /* NULL: none */
    const json_t *parameters; /* NULL: none */
    bool raw;                 /* Inference-Header-Content-Length: 0; then input[0] has no name, type or shape */
    int binary_output;        /* parameters.binary_data_output: 0, 1, -1 when not given */
    size_t n_inputs;
    struct codec_tensor input[CODEC_MAX_INPUTS];
    bool outputs_given;
    size_t n_outputs;
    struct {
        const char *name;
        int binary; /* its own binary_data: 0, 1, -1 when not given */
    } output[CODEC_MAX_INPUTS];
};

/* codec_read_body: framing and structure. model: its name, for texts. members: those allowed at the top on a native
 * path; NULL: unknown ones are ignored. With "dataset" among them a body that names one may be without inputs. Memory:
 * codec_clear_body, also after a failure. */
bool codec_read_body(const struct request *rq, const char *model, const char *const *members, struct codec_body *body,
                     struct reply *rp);
void codec_clear_body(struct codec_body *body);

struct codec_tensor *codec_find(struct codec_body *body, const char *name); /* NULL: none */

/* codec_inputs: all inputs of the model, checked against their shapes and each other: *n samples at x[i]. owned[i]: what to
 * free(). Both have room for all inputs. others: further names that are allowed here (NULL-terminated). cast: UINT8, FP16,
 * BF16 and FP64 become FP32 (the nearest one); else they are refused, as all other datatypes are. */
bool codec_inputs(struct codec_body *body, const char *model, const lip_model *definition, const char *const *others, bool cast,
                  size_t *n, const float **x, float **owned, struct reply *rp);

/* codec_samples: a tensor of samples of this shape, of any numeric datatype: *n of them at *x. owned: what to free(). */
bool codec_samples(const struct codec_tensor *tensor, const char *model, const lip_shape *shape, size_t *n, const float **x,
                   float **owned, struct reply *rp);

/* codec_floats: any numeric tensor as float32, the nearest one, in malloc'd memory; NULL: the reply says why. A finite number
 * beyond FP32 is an error. */
float *codec_floats(const struct codec_tensor *tensor, struct reply *rp);

/* ---- tensor answers -------------------------------------------------------------------------------------------- */

struct codec_result {
    const char *name;
    lip_shape shape;
    const void *data; /* as type says: float, double, int64_t, or for BYTES const char *; no other type */
    bool binary;
    enum codec_type type;
};

/* codec_choose: which of an answer's n results the request wants, and whether as bytes: its "outputs", all when it names
 * none. The others are taken out; *n is what is left. An unknown name is 400 unknown_output. */
bool codec_choose(const struct codec_body *body, const char *model, struct codec_result *results, size_t *n,
                  struct reply *rp);

/* codec_answer: infer's answer. parameters and more (further members, an object) are borrowed and may be NULL. */
void codec_answer(struct reply *rp, const char *model, const char *version, const char *id, const json_t *parameters,
                  const json_t *more, const struct codec_result *results, size_t n);

#endif

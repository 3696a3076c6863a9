/* knobs.h: what of Triton's ModelConfig a model was told, checked, and what onelipd acts on. Immutable, counted. */
#ifndef SERVER_KNOBS_H
#define SERVER_KNOBS_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "batch.h"

#define KNOBS_MAX_BATCH 65536

struct knobs {
    atomic_uint refs;
    json_t *told; /* the members that were set, integers as integers */
    long max_batch_size;
    struct batch_config batch;
    bool cast_inputs;      /* parameters: UINT8, FP16, BF16 and FP64 inputs are converted */
    bool require_if_match; /* parameters: changes without If-Match are 428 */
};

/* What is wrong with a configuration. */
struct knobs_fault {
    int status;       /* 400, 501 unsupported, 503 out of memory */
    const char *code;
    char pointer[200]; /* from the configuration's top */
    char text[300];
};

/* knobs_make: from a ModelConfig. Members that the model itself decides (name, platform, backend, input, output) may be there and
 * are not kept; int64 may be strings. NULL object: nothing was told. NULL: fault. */
struct knobs *knobs_make(const json_t *object, struct knobs_fault *fault);
struct knobs *knobs_get(struct knobs *knobs);
void knobs_put(struct knobs *knobs);

/* knobs_warnings: for each thing that is kept but not acted on {"code","text"}, appended to list. */
void knobs_warnings(const struct knobs *knobs, json_t *list);

#endif

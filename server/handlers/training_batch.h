/* training_batch.h: bodies of training, evaluation and gradients: infer's body with labels. */
#ifndef SERVER_HANDLERS_TRAINING_BATCH_H
#define SERVER_HANDLERS_TRAINING_BATCH_H

#include "common.h"

struct batch {
    struct codec_body body;
    lip_batch batch; /* y of one output, labels of several; neither where they are missing and may be */
    const float **x;
    float **owned, **y, *weight, *cotangent; /* what to free */
    lip_label_set *labels;
    lip_certifier *certifier;
    size_t inputs, outputs;
};

enum { BATCH_FINITE = 1,   /* NaN and Inf are 422 */
       BATCH_LABELS = 2,   /* y_true is needed for every output that `losses` names */
       BATCH_COTANGENT = 4, /* an input "cotangent" may come */
       BATCH_CAST = 8       /* the model casts its inputs */ };

/* batch_read: the body as a batch. members: as codec_read_body's. losses: the training resource's "loss", or NULL. The first
 * failure is in the reply. Memory: batch_clear, on failure too. */
bool batch_read(const struct request *rq, const char *model, const lip_model *m, const char *const *members, unsigned what,
                const json_t *losses, struct batch *batch, struct reply *rp);
void batch_clear(struct batch *batch);

/* batch_labelled: whether every output that `losses` names has its y_true; else 400 missing_input. For whoever learns only from
 * the body whether labels are needed. */
bool batch_labelled(struct batch *batch, const char *model, const lip_model *m, const json_t *losses, struct reply *rp);

/* find_judged: what a model serves, and the training resource of the same definition (NULL: none) in *recipe; both counted.
 * NULL: the reply says why. */
struct published *find_judged(struct model *model, struct recipe **recipe, struct reply *rp);

/* batch_bound: the proven constants of the snapshot's weights, where the trainer's metrics ask for them. false: the reply says
 * why there are none. Memory: batch_clear. */
bool batch_bound(struct batch *batch, const lip_trainer *trainer, const lip_snapshot *snapshot, struct reply *rp);

#endif

/* batches.h: samples of a dataset as batches of one model: inputs by name, y_true, sample_weight. */
#ifndef SERVER_BATCHES_H
#define SERVER_BATCHES_H

#include "datasets.h"

enum { BATCH_INPUTS = 16 };

struct batch_column {
    const struct dataset_tensor *tensor;
    float *x;
};

struct batches {
    struct dataset *dataset; /* a reference */
    size_t largest, n_inputs, n_outputs;
    struct batch_column input[BATCH_INPUTS], label[BATCH_INPUTS], weight;
    const float *inputs[BATCH_INPUTS];
    lip_label_set labels[BATCH_INPUTS];
    void *raw;
};

/* batches_open: what the model needs of the dataset, checked: an input's row has as many elements as the model's (of one input the
 * name does not matter), labels are `y_true` or `y_true:<output>`, sample_weight has one number per sample.
 *
 * labelled  labels are needed
 * largest   samples of a batch
 *
 * false: f; nothing is held then. Memory: batches_close, which may be repeated. Takes a reference to the dataset. */
bool batches_open(struct batches *b, struct dataset *dataset, const lip_model *model, bool labelled, size_t largest,
                  struct failure *f);
void batches_close(struct batches *b);

/* batches_classes: that labels can be classes of the model's outputs, by what the dataset says of itself: no batch need be read. */
bool batches_classes(const struct batches *b, const lip_model *model, struct failure *f);

/* batches_read: samples rows[0..n-1], n at most `largest`; what batch points to is valid until the next one. Rests before
 * (courtesy.h). */
bool batches_read(struct batches *b, const size_t *rows, size_t n, lip_batch *batch, struct failure *f);

#endif

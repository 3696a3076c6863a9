/* family.h: what the losses of lib/losses share: config fields, label checks, and the two halves of HKR. */
#ifndef LIP_LOSS_FAMILY_H
#define LIP_LOSS_FAMILY_H

#include <math.h>

#include "losses/loss.h"

/* The config keys in Keras's order: reduction, name, then the loss's own. */
#define LIP__LOSS_FIELDS(class_name)                                                                                 \
    {.name = "reduction",                                                                                            \
     .type = LIP__CHOICE,                                                                                            \
     .offset = LIP__FIELD(lip__loss, reduction),                                                                     \
     .choices = "auto|sum_over_batch_size|sum|none"},                                                                     \
        {.name = "name", .type = LIP__STRING, .offset = LIP__FIELD(lip__loss, name), .choices = class_name}
#define LIP__LOSS_ALPHA(def_)                                                                                        \
    {.name = "alpha", .type = LIP__FLOAT, .offset = LIP__FIELD(lip__loss, alpha), .def = def_, .max = INFINITY}
#define LIP__LOSS_MARGIN(def_)                                                                                       \
    {.name = "min_margin", .type = LIP__FLOAT, .offset = LIP__FIELD(lip__loss, min_margin), .def = def_, .max = 1e30}
#define LIP__LOSS_TAU                                                                                                \
    {.name = "tau",                                                                                                  \
     .type = LIP__FLOAT,                                                                                             \
     .offset = LIP__FIELD(lip__loss, tau),                                                                           \
     .def = NAN,                                                                                                     \
     .max = 1e30,                                                                                                    \
     .flags = LIP__OPEN_MIN}
#define LIP__LOSS_MULTI_GPU                                                                                          \
    {.name = "multi_gpu", .type = LIP__BOOL, .offset = LIP__FIELD(lip__loss, multi_gpu)}
#define LIP__LOSS_END {.name = NULL}

#define LIP__LOSS_NUMBER(key, member, def_, max_)                                                                    \
    {.name = key, .type = LIP__FLOAT, .offset = LIP__FIELD(lip__loss, member), .def = def_, .max = max_}
#define LIP__LOSS_POSITIVE(key, member, def_)                                                                        \
    {.name = key,                                                                                                    \
     .type = LIP__FLOAT,                                                                                             \
     .offset = LIP__FIELD(lip__loss, member),                                                                        \
     .def = def_,                                                                                                    \
     .max = 1e30,                                                                                                    \
     .flags = LIP__OPEN_MIN}

#define LIP__LOSS_CLASS(class_name, fields_)                                                                         \
    {.name = class_name,                                                                                             \
     .module = "deel.lip.losses",                                                                                    \
     .package = "deel-lip",                                                                                          \
     .size = sizeof(struct lip__loss),                                                                               \
     .fields = fields_}

/* Label checks, losses/labels.c. Each names the first bad row, what it holds and what is wanted. With multi_gpu
 * binary and one-hot labels are any finite numbers: they are weights by then. */
lip_err lip__labels_binary(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err);
lip_err lip__labels_one_hot(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err);
lip_err lip__labels_distribution(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err);
lip_err lip__labels_share(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err);
lip_err lip__labels_index(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err);

/* lip__kr_weights: the two factors of KR per class, as float32 gives them in TensorFlow: positive (c), negative (c).
 * y == 1 is positive; the side of an absent class gets 0. */
void lip__kr_weights(size_t n, size_t c, const float *y, double *positive, double *negative);

/* lip__kr_row: one sample's KR, the mean over the classes; slope (c), where not NULL, becomes its gradient.
 * multi_gpu: y is the weight itself and positive, negative are not read. */
double lip__kr_row(bool multi_gpu, size_t c, const float *y, const float *p, const double *positive,
                   const double *negative, double *slope);

/* lip__hinge_row: one sample's hinge mean_c w_c relu(margin/2 - s p), w_c = weight where y > 0, else 1; slope as
 * above. */
double lip__hinge_row(size_t c, double margin, double weight, const float *y, const float *p, double *slope);

#endif

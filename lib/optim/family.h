/* family.h: the config keys that every optimizer of Keras 2.15 writes before its own, and how updates are compiled. */
#ifndef LIP_OPTIM_FAMILY_H
#define LIP_OPTIM_FAMILY_H

#include <math.h>

#include "optim/optimizer.h"

/* Weight decay, clipping and moving averages are not built: their default is all they take. jit_compile and the
 * figures of a moving average that is switched off change nothing and are kept as they come. */
struct lip__optimizer_common {
    struct lip__optimizer base;
    double ema_momentum;
    long ema_overwrite_frequency;
    bool jit_compile;
};

#define LIP__OPTIMIZER_FIELDS(class_name, learning_rate_)                                                            \
    {.name = "name", .type = LIP__STRING, .offset = LIP__FIELD(lip__optimizer, name), .choices = class_name},        \
        {.name = "weight_decay", .type = LIP__NULL}, {.name = "clipnorm", .type = LIP__NULL},                        \
        {.name = "global_clipnorm", .type = LIP__NULL}, {.name = "clipvalue", .type = LIP__NULL},                    \
        {.name = "use_ema", .type = LIP__FIXED, .choices = "false"},                                                 \
        {.name = "ema_momentum",                                                                                     \
         .type = LIP__FLOAT,                                                                                         \
         .offset = LIP__FIELD(lip__optimizer_common, ema_momentum),                                                  \
         .def = 0.99,                                                                                                \
         .max = 1},                                                                                                  \
        {.name = "ema_overwrite_frequency",                                                                          \
         .type = LIP__INT,                                                                                           \
         .offset = LIP__FIELD(lip__optimizer_common, ema_overwrite_frequency),                                       \
         .min = 1,                                                                                                   \
         .max = 1e9,                                                                                                 \
         .flags = LIP__NONE_OK},                                                                                     \
        {.name = "jit_compile", .type = LIP__BOOL, .offset = LIP__FIELD(lip__optimizer_common, jit_compile)},        \
        {.name = "is_legacy_optimizer", .type = LIP__FIXED, .choices = "false"},                                     \
        {.name = "learning_rate",                                                                                    \
         .type = LIP__FLOAT,                                                                                         \
         .offset = LIP__FIELD(lip__optimizer, learning_rate),                                                        \
         .def = learning_rate_,                                                                                      \
         .max = 1e30}

#define LIP__OPTIMIZER_CLASS(class_name, struct_, fields_)                                                           \
    {.name = class_name, .module = "keras.optimizers", .size = sizeof(struct struct_), .fields = fields_}

/* An element-wise loop that gcc vectorises for the processor it runs on; TSan is not ready when the choice is made. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#pragma GCC optimize("O3")
#define LIP__VECTOR __attribute__((target_clones("avx2", "default")))
#else
#define LIP__VECTOR
#endif

#endif

/* family.h: the config keys that every optimizer of Keras 2.15 writes before its own, and how updates are compiled. */
#ifndef LIP_OPTIM_FAMILY_H
#define LIP_OPTIM_FAMILY_H

#include <math.h>

#include "optim/optimizer.h"

#define LIP__CLIP(member)                                                                                            \
    {.name = #member,                                                                                                \
     .type = LIP__FLOAT,                                                                                             \
     .offset = LIP__FIELD(lip__optimizer, member),                                                                   \
     .def = NAN,                                                                                                     \
     .max = 1e30,                                                                                                    \
     .flags = LIP__NONE_OK}

#define LIP__OPTIMIZER_FIELDS(class_name, learning_rate_, weight_decay_, weight_decay_flags)                         \
    {.name = "name", .type = LIP__STRING, .offset = LIP__FIELD(lip__optimizer, name), .choices = class_name},        \
        {.name = "weight_decay",                                                                                     \
         .type = LIP__FLOAT,                                                                                         \
         .offset = LIP__FIELD(lip__optimizer, weight_decay),                                                         \
         .def = weight_decay_,                                                                                       \
         .max = 1e30,                                                                                                \
         .flags = weight_decay_flags},                                                                               \
        LIP__CLIP(clipnorm), LIP__CLIP(global_clipnorm), LIP__CLIP(clipvalue),                                       \
        {.name = "use_ema", .type = LIP__BOOL, .offset = LIP__FIELD(lip__optimizer, use_ema)},                       \
        {.name = "ema_momentum",                                                                                     \
         .type = LIP__FLOAT,                                                                                         \
         .offset = LIP__FIELD(lip__optimizer, ema_momentum),                                                         \
         .def = 0.99,                                                                                                \
         .max = 1},                                                                                                  \
        {.name = "ema_overwrite_frequency",                                                                          \
         .type = LIP__INT,                                                                                           \
         .offset = LIP__FIELD(lip__optimizer, ema_overwrite_frequency),                                              \
         .min = 1,                                                                                                   \
         .max = 1e9,                                                                                                 \
         .flags = LIP__NONE_OK},                                                                                     \
        {.name = "jit_compile", .type = LIP__BOOL, .offset = LIP__FIELD(lip__optimizer, jit_compile)},               \
        {.name = "is_legacy_optimizer", .type = LIP__FIXED, .choices = "false"},                                     \
        {.name = "learning_rate",                                                                                    \
         .type = LIP__OBJECT,                                                                                        \
         .offset = LIP__FIELD(lip__optimizer, schedule),                                                             \
         .of = lip__schedules,                                                                                       \
         .def = learning_rate_,                                                                                      \
         .flags = LIP__BARE}

#define LIP__OPTIMIZER_CLASS(class_name, struct_, fields_)                                                           \
    {.name = class_name, .module = "keras.optimizers", .size = sizeof(struct struct_), .fields = fields_}

/* A weight after its decay. */
static inline float lip__decayed(float w, float decay)
{
    return w - w * decay;
}

/* An element-wise loop that gcc vectorises for the processor it runs on; TSan is not ready when the choice is made. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#pragma GCC optimize("O3")
#define LIP__VECTOR __attribute__((target_clones("avx2", "default")))
#else
#define LIP__VECTOR
#endif

#endif

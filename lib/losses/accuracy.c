/* accuracy.c: how many samples are right, and by how much.
 *
 *     accuracy  as Keras picks it for the loss and the output's width:
 *         one output        (p > t) == (y > 0), t the loss's threshold
 *         class indices     argmax p == y
 *         one-hot           argmax p == argmax y; the first of equal ones
 *     binary_accuracy              mean_c (p > threshold) == (y > 0)
 *     categorical_accuracy, sparse_categorical_accuracy    the second and the third
 *     mean_margin                  the true score less the best other; of one output s p, s = +1 where y > 0, else -1
 */
#include <math.h>

#include "losses/metric.h"

struct metric {
    struct lip__object base;
    char *name;
    double threshold;
};

static double class_accuracy(const struct lip__object *self, const struct lip__judged *j)
{
    size_t right = 0;

    (void)self;
    for (size_t i = 0; i < j->n; i++)
        right += lip__argmax(j->p + i * j->c, j->c) == lip__target(j, i);
    return j->n ? (double)right / (double)j->n : 0;
}

static double share_above(const struct lip__judged *j, double threshold)
{
    size_t right = 0;

    for (size_t i = 0; i < j->n * j->c; i++)
        right += (j->p[i] > (float)threshold) == (j->y[i] > 0);
    return j->n ? (double)right / (double)(j->n * j->c) : 0;
}

static double accuracy(const struct lip__object *self, const struct lip__judged *j)
{
    if (j->c == 1 && !j->indices)
        return share_above(j, lip__loss_threshold(j->loss));
    return class_accuracy(self, j);
}

static double binary_accuracy(const struct lip__object *self, const struct lip__judged *j)
{
    return share_above(j, ((const struct metric *)self)->threshold);
}

static double mean_margin(const struct lip__object *self, const struct lip__judged *j)
{
    double sum = 0;

    (void)self;
    for (size_t i = 0; i < j->n; i++)
        sum += j->c == 1 ? (j->y[i] > 0 ? j->p[i] : -j->p[i]) : lip__margin(j, i);
    return j->n ? sum / (double)j->n : 0;
}

#define NAME(name_) {.name = "name", .type = LIP__STRING, .offset = offsetof(struct metric, name), .choices = name_}
#define DTYPE {.name = "dtype", .type = LIP__FIXED, .choices = "\"float32\""}

static const struct lip__field accuracy_fields[] = {NAME("accuracy"), DTYPE, {.name = NULL}};
static const struct lip__field categorical_fields[] = {NAME("categorical_accuracy"), DTYPE, {.name = NULL}};
static const struct lip__field sparse_fields[] = {NAME("sparse_categorical_accuracy"), DTYPE, {.name = NULL}};
static const struct lip__field margin_fields[] = {NAME("mean_margin"), DTYPE, {.name = NULL}};
static const struct lip__field binary_fields[] = {NAME("binary_accuracy"),
                                                  DTYPE,
                                                  {.name = "threshold",
                                                   .type = LIP__FLOAT,
                                                   .offset = offsetof(struct metric, threshold),
                                                   .def = 0.5,
                                                   .min = -1e30,
                                                   .max = 1e30},
                                                  {.name = NULL}};

#define CLASS(name_, aliases_, fields_)                                                                              \
    {.name = name_, .aliases = aliases_, .module = "keras.metrics", .size = sizeof(struct metric), .fields = fields_}

extern const struct lip__metric_class lip__accuracy, lip__binary_accuracy, lip__categorical_accuracy,
    lip__sparse_categorical_accuracy, lip__mean_margin;

const struct lip__metric_class lip__accuracy = {.cls = CLASS("accuracy", "acc|Accuracy", accuracy_fields),
                                                .value = accuracy};

const struct lip__metric_class lip__binary_accuracy = {
    .cls = CLASS("BinaryAccuracy", "binary_accuracy", binary_fields), .labels = LIP__ROWS, .value = binary_accuracy};

const struct lip__metric_class lip__categorical_accuracy = {
    .cls = CLASS("CategoricalAccuracy", "categorical_accuracy", categorical_fields),
    .several = true,
    .value = class_accuracy};

const struct lip__metric_class lip__sparse_categorical_accuracy = {
    .cls = CLASS("SparseCategoricalAccuracy", "sparse_categorical_accuracy", sparse_fields),
    .several = true,
    .value = class_accuracy};

const struct lip__metric_class lip__mean_margin = {.cls = CLASS("mean_margin", NULL, margin_fields),
                                                   .value = mean_margin};

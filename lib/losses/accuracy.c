/* accuracy.c: the share of samples whose class is right, as Keras picks it for the loss and the output's width.
 *
 *     one output        (p > t) == (y > 0), t the loss's threshold
 *     class indices     argmax p == y
 *     one-hot           argmax p == argmax y; the first of equal ones
 */
#include "losses/metric.h"

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static double value(const struct lip__object *self, const struct lip__loss_class *loss, size_t n, size_t c, const float *y,
                    const float *p)
{
    size_t right = 0;

    (void)self;
    for (size_t i = 0; i < n; i++) {
        if (loss->indices)
            right += argmax(p + i * c, c) == (size_t)y[i];
        else if (c == 1)
            right += (p[i] > (float)loss->threshold) == (y[i] > 0);
        else
            right += argmax(p + i * c, c) == argmax(y + i * c, c);
    }
    return n ? (double)right / (double)n : 0;
}

struct metric {
    struct lip__object base;
    char *name;
};

static const struct lip__field fields[] = {
    {.name = "name", .type = LIP__STRING, .offset = offsetof(struct metric, name), .choices = "accuracy"},
    {.name = "dtype", .type = LIP__FIXED, .choices = "\"float32\""},
    {.name = NULL},
};

static const struct lip__metric_class accuracy = {
    .cls = {.name = "accuracy", .aliases = "acc|Accuracy", .module = "keras.metrics", .size = sizeof(struct metric), .fields = fields},
    .value = value,
};

const struct lip__class *const lip__metrics[] = {&accuracy.cls, NULL};

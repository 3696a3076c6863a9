/* metric.c: the list of metrics. Every loss is one too, as in Keras: its mean over the batch, without sample weights.
 */
#include "losses/metric.h"

#include <math.h>

extern const struct lip__metric_class lip__accuracy, lip__binary_accuracy, lip__categorical_accuracy,
    lip__sparse_categorical_accuracy, lip__mean_margin, lip__categorical_robust_accuracy, lip__binary_robust_accuracy,
    lip__categorical_robustness, lip__binary_robustness;

#define LOSS(name) extern const struct lip__loss_class lip__##name;
#include "losses/losses.def"
#undef LOSS

const struct lip__class *const lip__metrics[] = {&lip__accuracy.cls,
                                                 &lip__binary_accuracy.cls,
                                                 &lip__categorical_accuracy.cls,
                                                 &lip__sparse_categorical_accuracy.cls,
                                                 &lip__mean_margin.cls,
                                                 &lip__categorical_robust_accuracy.cls,
                                                 &lip__binary_robust_accuracy.cls,
                                                 &lip__categorical_robustness.cls,
                                                 &lip__binary_robustness.cls,
#define LOSS(name) &lip__##name.cls,
#include "losses/losses.def"
#undef LOSS
                                                 NULL};

static const struct lip__loss_class *as_loss(const struct lip__object *metric)
{
    for (size_t i = 0; lip__losses[i]; i++)
        if (lip__losses[i] == metric->cls)
            return (const struct lip__loss_class *)metric->cls;
    return NULL;
}

void lip__metric_begin(struct lip__object *metric)
{
    if (as_loss(metric))
        lip__loss_begin(metric);
}

enum lip__labels_wanted lip__metric_labels(const struct lip__object *metric)
{
    const struct lip__loss_class *loss = as_loss(metric);

    if (loss)
        return loss->indices ? LIP__INDICES : LIP__ROWS;
    return ((const struct lip__metric_class *)metric->cls)->labels;
}

bool lip__metric_needs_pairs(const struct lip__object *metric)
{
    const struct lip__metric_class *cls = (const struct lip__metric_class *)metric->cls;

    return !as_loss(metric) && cls->needs_pairs && cls->needs_pairs(metric);
}

lip_err lip__metric_check(const struct lip__object *metric, size_t c, bool pairs, lip_error *err)
{
    const char *name = metric->cls->name;
    enum lip__labels_wanted labels = lip__metric_labels(metric);
    bool several = !as_loss(metric) && ((const struct lip__metric_class *)metric->cls)->several;

    if (c < 2 && (several || labels == LIP__INDICES))
        return lip__fail(err, LIP_EOPTION, "metric %.60s needs an output of several numbers, the model's has one",
                         name);
    if (lip__metric_needs_pairs(metric) && (!pairs || (c > 1 && !several)))
        return lip__fail(err, LIP_EOPTION, "metric %.60s needs its lip_const here: what is proved covers %s", name,
                         pairs ? "differences of outputs" : "models of one input and one output");
    return LIP_OK;
}

double lip__metric(const struct lip__object *metric, const struct lip__judged *j)
{
    if (as_loss(metric))
        return lip__loss(metric,
                         &(struct lip__scored){.n = j->n, .c = j->c, .y = j->y, .p = j->p, .scratch = j->scratch});
    return ((const struct lip__metric_class *)metric->cls)->value(metric, j);
}

size_t lip__argmax(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

size_t lip__target(const struct lip__judged *j, size_t i)
{
    return j->indices ? (size_t)j->y[i] : lip__argmax(j->y + i * j->c, j->c);
}

double lip__margin(const struct lip__judged *j, size_t i)
{
    const float *p = j->p + i * j->c;
    size_t target = lip__target(j, i);
    double best = -INFINITY;

    for (size_t k = 0; k < j->c; k++)
        if (k != target)
            best = fmax(best, p[k]);
    return p[target] - best;
}

/* robustness.c: deel-lip's metrics of provable robustness, from margins and a Lipschitz constant.
 *
 *     categorical  margin d = true score - best other,  q = 2 L with disjoint neurons, sqrt(2) L otherwise
 *     binary       d = sign(y - 0.001) p, elementwise,  q = L
 *     RobustAccuracy = share of d/q > epsilon;   AvgRobustness = mean of d/q, negative d counting 0 unless
 *     negative_robustness
 *
 * deel-lip believes a lip_const that it is told, 1 by default. Here lip_const null, the default, stands for what is
 * proved of the weights: d/q becomes the least (p_t - p_j) / L_tj over the others j. Rounding of the outputs is not
 * counted in: lip_certify does that. Source: deel-lip's metrics.py; semantics.md 14.
 */
#include <math.h>

#include "losses/metric.h"

struct robustness {
    struct lip__object base;
    const char *reduction;
    char *name;
    double epsilon, lip_const;
    bool disjoint_neurons, negative_robustness;
};

#define R(self) ((const struct robustness *)(self))

static bool needs_pairs(const struct lip__object *self)
{
    return isnan(R(self)->lip_const);
}

static double categorical(const struct lip__object *self, const struct lip__judged *j, size_t i)
{
    const struct robustness *r = R(self);
    const float *p = j->p + i * j->c;
    size_t target = lip__target(j, i);
    double least = INFINITY;

    if (!isnan(r->lip_const))
        return lip__margin(j, i) / (r->lip_const * (r->disjoint_neurons ? 2 : M_SQRT2));
    for (size_t k = 0; k < j->c; k++) {
        double apart = k == target ? INFINITY : ((double)p[target] - p[k]) / j->pairs[target * j->c + k];
        least = apart < least ? apart : least;
    }
    return least;
}

static double binary(const struct lip__object *self, const struct lip__judged *j, size_t i)
{
    double l = isnan(R(self)->lip_const) ? j->pairs[0] : R(self)->lip_const, d = (double)j->y[i] - 0.001f;

    return (d > 0 ? j->p[i] : d < 0 ? -j->p[i] : 0) / l;
}

static double share(const struct lip__object *self, const struct lip__judged *j, size_t n,
                    double (*radius)(const struct lip__object *, const struct lip__judged *, size_t))
{
    size_t right = 0;

    for (size_t i = 0; i < n; i++)
        right += radius(self, j, i) > R(self)->epsilon;
    return n ? (double)right / (double)n : 0;
}

static double mean(const struct lip__object *self, const struct lip__judged *j, size_t n,
                   double (*radius)(const struct lip__object *, const struct lip__judged *, size_t))
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double r = radius(self, j, i);
        sum += R(self)->negative_robustness ? r : fmax(r, 0);
    }
    return n ? sum / (double)n : 0;
}

static double categorical_accuracy(const struct lip__object *self, const struct lip__judged *j)
{
    return share(self, j, j->n, categorical);
}

static double binary_accuracy(const struct lip__object *self, const struct lip__judged *j)
{
    return share(self, j, j->n * j->c, binary);
}

static double categorical_mean(const struct lip__object *self, const struct lip__judged *j)
{
    return mean(self, j, j->n, categorical);
}

static double binary_mean(const struct lip__object *self, const struct lip__judged *j)
{
    return mean(self, j, j->n * j->c, binary);
}

#define FIELD(member) LIP__FIELD(robustness, member)
#define EPSILON {.name = "epsilon", .type = LIP__FLOAT, .offset = FIELD(epsilon), .def = 36.0 / 255, .max = 1e30}
#define CONSTANT                                                                                                     \
    {.name = "lip_const",                                                                                            \
     .type = LIP__FLOAT,                                                                                             \
     .offset = FIELD(lip_const),                                                                                     \
     .def = NAN,                                                                                                     \
     .max = 1e30,                                                                                                    \
     .flags = LIP__NONE_OK | LIP__OPEN_MIN}
#define DISJOINT {.name = "disjoint_neurons", .type = LIP__BOOL, .offset = FIELD(disjoint_neurons), .def = 1}
#define NEGATIVE {.name = "negative_robustness", .type = LIP__BOOL, .offset = FIELD(negative_robustness)}
#define COMMON(name_)                                                                                                \
    {.name = "reduction",                                                                                            \
     .type = LIP__CHOICE,                                                                                            \
     .offset = FIELD(reduction),                                                                                     \
     .choices = "auto|sum_over_batch_size"},                                                                         \
        {.name = "name", .type = LIP__STRING, .offset = FIELD(name), .choices = name_}
#define END {.name = NULL}

static const struct lip__field categorical_accuracy_fields[] = {COMMON("CategoricalProvableRobustAccuracy"), EPSILON,
                                                                CONSTANT, DISJOINT, END};
static const struct lip__field binary_accuracy_fields[] = {COMMON("BinaryProvableRobustAccuracy"), EPSILON, CONSTANT,
                                                           END};
static const struct lip__field categorical_mean_fields[] = {COMMON("CategoricalProvableAvgRobustness"), CONSTANT,
                                                            DISJOINT, NEGATIVE, END};
static const struct lip__field binary_mean_fields[] = {COMMON("BinaryProvableAvgRobustness"), CONSTANT, NEGATIVE, END};

#define METRIC(variable, class_name, fields_, labels_, value_)                                                       \
    extern const struct lip__metric_class variable;                                                                  \
    const struct lip__metric_class variable = {.cls = {.name = class_name,                                           \
                                                       .module = "deel.lip.metrics",                                 \
                                                       .package = "deel-lip",                                        \
                                                       .size = sizeof(struct robustness),                            \
                                                       .fields = fields_},                                           \
                                               .labels = labels_,                                                    \
                                               .several = labels_ == LIP__EITHER,                                    \
                                               .value = value_,                                                      \
                                               .needs_pairs = needs_pairs}

METRIC(lip__categorical_robust_accuracy, "CategoricalProvableRobustAccuracy", categorical_accuracy_fields, LIP__EITHER,
       categorical_accuracy);
METRIC(lip__binary_robust_accuracy, "BinaryProvableRobustAccuracy", binary_accuracy_fields, LIP__ROWS, binary_accuracy);
METRIC(lip__categorical_robustness, "CategoricalProvableAvgRobustness", categorical_mean_fields, LIP__EITHER,
       categorical_mean);
METRIC(lip__binary_robustness, "BinaryProvableAvgRobustness", binary_mean_fields, LIP__ROWS, binary_mean);

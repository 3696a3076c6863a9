/* activation.c: functions of one number: ReLU, the functions that an activation slot names, and the layer Activation.
 *
 * A named function is a kind without options that is in no list of layer classes: only a slot can hold it. Activation is
 * the identity with a slot.
 */
#include <string.h>

#include "layers/family.h"

static size_t count(const lip_layer *l, const struct lip__pass *p)
{
    return p->n * lip_shape_count(&l->in);
}

/* ---- the function relu ------------------------------------------------------------------------------- */

/* x < 0 and not x > 0, so that a NaN stays one; the gradient at 0 is 0, as TensorFlow's. */
LIP__CLONES static void relu(size_t n, const float *restrict x, float *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] < 0 ? 0 : x[i];
}

LIP__CLONES static void relu_back(size_t n, const float *restrict x, const float *restrict dy, float *restrict dx)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = x[i] > 0 ? dy[i] : 0;
}

static void relu_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    relu(count(l, p), x, y);
}

static void relu_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                          float *dx)
{
    (void)y;
    relu_back(count(l, p), x, dy, dx);
}

static double one(const lip_layer *l)
{
    (void)l;
    return 1;
}

static const struct lip__field no_fields[] = {{.name = NULL}};

static const struct lip__kind functions[] = {
    {
        .cls = {.name = "relu", .module = "keras.activations", .size = sizeof(lip_layer), .fields = no_fields},
        .flags = LIP__ACTIVATES,
        .forward = relu_forward,
        .backward = relu_backward,
        .constant = one,
        .claimed = one,
    },
};

enum { N_FUNCTIONS = sizeof functions / sizeof *functions };

const struct lip__kind *lip__activation_find(const char *identifier, bool *known)
{
    *known = true;
    for (size_t i = 0; i < N_FUNCTIONS; i++)
        if (!strcmp(functions[i].cls.name, identifier))
            return &functions[i];
    *known = !strcmp(identifier, "linear");
    return NULL;
}

lip_layer *lip__activation_new(const char *identifier)
{
    bool known;
    const struct lip__kind *kind = lip__activation_find(identifier, &known);

    return kind ? lip__layer_new(kind) : NULL;
}

const char *lip__activation_identifier(const lip_layer *activation)
{
    if (!activation)
        return "linear";
    return activation->kind >= functions && activation->kind < functions + N_FUNCTIONS ? activation->kind->cls.name : NULL;
}

const char *lip__activation_identifiers(void)
{
    return "linear, relu";
}

/* ---- the layer ReLU ---------------------------------------------------------------------------------- */

struct relu {
    lip_layer base;
    double max_value; /* NAN: none */
    double slope, threshold;
};

/* Keras: 0 up to the threshold and x above it, cut at max_value, less slope times what the input is below the threshold. */
static void layer_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    const struct relu *r = (const struct relu *)l;
    float top = (float)r->max_value, slope = (float)r->slope, threshold = (float)r->threshold;
    size_t n = count(l, p);

    if (isnan(top) && slope == 0 && threshold == 0) {
        relu(n, x, y);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float low = x[i] < threshold ? slope * (x[i] - threshold) : 0, high = x[i] <= threshold ? 0 : x[i];
        y[i] = (high > top ? top : high) + low;
    }
}

/* At the threshold the gradient is that of the lower side, at max_value 1, but 0 for relu6. */
static void layer_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                           float *dx)
{
    const struct relu *r = (const struct relu *)l;
    float top = (float)r->max_value, slope = (float)r->slope, threshold = (float)r->threshold;
    bool relu6 = threshold == 0 && top == 6;
    size_t n = count(l, p);

    (void)y;
    if (isnan(top) && slope == 0 && threshold == 0) {
        relu_back(n, x, dy, dx);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (x[i] > threshold)
            dx[i] = x[i] > top || (relu6 && x[i] == top) ? 0 : dy[i];
        else if (x[i] == threshold)
            dx[i] = isnan(top) && threshold == 0 ? slope * dy[i] : 0;
        else
            dx[i] = slope * dy[i];
}

/* A threshold other than 0 makes the function jump. */
static double layer_constant(const lip_layer *l)
{
    const struct relu *r = (const struct relu *)l;

    return r->threshold == 0 ? fmax(1, r->slope) : NAN;
}

static double layer_claims(const lip_layer *l)
{
    const struct relu *r = (const struct relu *)l;

    return r->threshold == 0 && r->slope <= 1 ? 1 : NAN;
}

static const struct lip__field relu_fields[] = {
    {"max_value", LIP__FLOAT, LIP__FIELD(relu, max_value), .def = NAN, .min = 0, .max = INFINITY, .flags = LIP__NONE_OK},
    {"negative_slope", LIP__FLOAT, LIP__FIELD(relu, slope), .def = 0, .min = 0, .max = INFINITY},
    {"threshold", LIP__FLOAT, LIP__FIELD(relu, threshold), .def = 0, .min = 0, .max = INFINITY},
    {.name = NULL},
};

const struct lip__kind lip__relu = {
    .cls = {.name = "ReLU", .module = "keras.layers", .size = sizeof(struct relu), .fields = relu_fields},
    .flags = LIP__ACTIVATES,
    .forward = layer_forward,
    .backward = layer_backward,
    .constant = layer_constant,
    .claimed = layer_claims,
};

/* ---- the layer Activation ----------------------------------------------------------------------------- */

static void copy_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    memcpy(y, x, count(l, p) * sizeof *y);
}

static void copy_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                          float *dx)
{
    (void)x, (void)y;
    memcpy(dx, dy, count(l, p) * sizeof *dx);
}

/* deel-lip trusts four functions, by name. */
static double activation_claims(const lip_layer *l)
{
    static const char *const trusted[] = {"linear", "relu", "sigmoid", "tanh"};
    const char *name = lip__activation_identifier(l->activation);

    for (size_t i = 0; name && i < sizeof trusted / sizeof *trusted; i++)
        if (!strcmp(name, trusted[i]))
            return 1;
    return NAN;
}

static const struct lip__field activation_fields[] = {LIP__SLOT_FIELD, {.name = NULL}};

const struct lip__kind lip__activation = {
    .cls = {.name = "Activation", .module = "keras.layers", .size = sizeof(lip_layer), .fields = activation_fields},
    .forward = copy_forward,
    .backward = copy_backward,
    .constant = one,
    .claimed = activation_claims,
};

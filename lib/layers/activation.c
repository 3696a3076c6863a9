/* activation.c: the functions that an activation slot names, and the layers ReLU and Activation.
 *
 * A named function is a kind without options that is in no list of layer classes: only a slot can hold it. Activation is
 * the identity with a slot.
 *
 * Source: Keras 2.15 (semantics.md 18.4); at corners the slope is TensorFlow's.
 */
#include <string.h>

#include "layers/family.h"
#include "layers/softmax.h"

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

/* ---- the other functions of Keras, and their slopes ---------------------------------------------------- */

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static float sigmoid_slope(float x)
{
    return sigmoid(x) * (1 - sigmoid(x));
}

static float tanh_slope(float x)
{
    return 1 - tanhf(x) * tanhf(x);
}

static float relu6(float x)
{
    return x < 0 ? 0 : x > 6 ? 6 : x;
}

static float relu6_slope(float x)
{
    return x > 0 && x < 6;
}

static float leaky(float x)
{
    return x > 0 ? x : 0.2f * x;
}

static float leaky_slope(float x)
{
    return x > 0 ? 1 : 0.2f;
}

static float elu(float x)
{
    return x > 0 ? x : expm1f(x);
}

static float elu_slope(float x)
{
    return x > 0 ? 1 : expf(x);
}

#define SELU_SCALE 1.05070098735548f
#define SELU_ALPHA 1.67326324235438f

static float selu(float x)
{
    return SELU_SCALE * (x > 0 ? x : SELU_ALPHA * expm1f(x));
}

static float selu_slope(float x)
{
    return SELU_SCALE * (x < 0 ? SELU_ALPHA * expf(x) : 1);
}

static float hard_sigmoid(float x)
{
    float y = 0.2f * x + 0.5f;

    return y < 0 ? 0 : y > 1 ? 1 : y;
}

static float hard_sigmoid_slope(float x)
{
    float y = 0.2f * x + 0.5f;

    return y < 0 || y > 1 ? 0 : 0.2f;
}

static float softplus(float x)
{
    return fmaxf(x, 0) + log1pf(expf(-fabsf(x)));
}

static float softsign(float x)
{
    return x / (1 + fabsf(x));
}

static float softsign_slope(float x)
{
    return 1 / ((1 + fabsf(x)) * (1 + fabsf(x)));
}

static float swish(float x)
{
    return x * sigmoid(x);
}

static float swish_slope(float x)
{
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
}

/* The normal distribution's, not the approximation by tanh. */
static float gelu(float x)
{
    return 0.5f * x * (1 + erff(x * 0.70710678f));
}

static float gelu_slope(float x)
{
    return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

static float mish(float x)
{
    return x * tanhf(softplus(x));
}

static float mish_slope(float x)
{
    float t = tanhf(softplus(x));

    return t + x * (1 - t * t) * sigmoid(x);
}

/* constant: the largest slope, rounded up; NAN: there is none. */
#define FUNCTIONS(F)                                              \
    F(relu6, relu6, relu6_slope, 1)                               \
    F(leaky_relu, leaky, leaky_slope, 1)                          \
    F(elu, elu, elu_slope, 1)                                     \
    F(selu, selu, selu_slope, 1.75810)                            \
    F(sigmoid, sigmoid, sigmoid_slope, 0.25)                      \
    F(hard_sigmoid, hard_sigmoid, hard_sigmoid_slope, 0.20000001) \
    F(tanh, tanhf, tanh_slope, 1)                                 \
    F(softplus, softplus, sigmoid, 1)                             \
    F(softsign, softsign, softsign_slope, 1)                      \
    F(swish, swish, swish_slope, 1.09984)                         \
    F(silu, swish, swish_slope, 1.09984)                          \
    F(gelu, gelu, gelu_slope, 1.12891)                            \
    F(mish, mish, mish_slope, 1.08850)                            \
    F(exponential, expf, expf, NAN)

static const struct {
    float (*value)(float), (*slope)(float);
    double constant;
} scalar[] = {
#define SCALAR(name, value, slope, constant) {value, slope, constant},
    FUNCTIONS(SCALAR)
#undef SCALAR
};

static size_t scalar_of(const lip_layer *l);

static void scalar_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    float (*value)(float) = scalar[scalar_of(l)].value;

    for (size_t i = 0; i < count(l, p); i++)
        y[i] = value(x[i]);
}

static void scalar_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                            float *dx)
{
    float (*slope)(float) = scalar[scalar_of(l)].slope;

    (void)y;
    for (size_t i = 0; i < count(l, p); i++)
        dx[i] = dy[i] * slope(x[i]);
}

static double scalar_constant(const lip_layer *l)
{
    return scalar[scalar_of(l)].constant;
}

static double scalar_flops(const lip_layer *l)
{
    return 20.0 * (double)lip_shape_count(&l->in);
}

/* ---- the functions' kinds: those of one number first, then relu and the ones of a whole row ------------- */

static const struct lip__field no_fields[] = {{.name = NULL}};

#define CLASS(identifier) {.name = identifier, .module = "keras.activations", .size = sizeof(lip_layer), .fields = no_fields}

static const struct lip__kind functions[] = {
#define FUNCTION(identifier, value, slope, bound)                                                               \
    {.cls = CLASS(#identifier), .flags = LIP__ACTIVATES | LIP__POINTWISE, .forward = scalar_forward, .backward = scalar_backward, \
     .constant = scalar_constant, .flops = scalar_flops},
    FUNCTIONS(FUNCTION)
#undef FUNCTION
    {.cls = CLASS("relu"), .flags = LIP__ACTIVATES | LIP__POINTWISE, .forward = relu_forward, .backward = relu_backward, .constant = lip__one},
    {.cls = CLASS("softmax"), .flags = LIP__ACTIVATES, .forward = lip__softmax_forward, .backward = lip__softmax_backward,
     .constant = lip__softmax_constant, .flops = scalar_flops},
    {.cls = CLASS("log_softmax"), .flags = LIP__ACTIVATES, .forward = lip__log_softmax_forward,
     .backward = lip__log_softmax_backward, .constant = lip__log_softmax_constant, .flops = scalar_flops},
};

enum { N_FUNCTIONS = sizeof functions / sizeof *functions };

static size_t scalar_of(const lip_layer *l)
{
    return (size_t)(l->kind - functions);
}

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
#define NAME(name, value, slope, constant) #name ", "
    return "linear, relu, " FUNCTIONS(NAME) "softmax, log_softmax";
#undef NAME
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
    .flags = LIP__ACTIVATES | LIP__POINTWISE,
    .forward = layer_forward,
    .backward = layer_backward,
    .constant = layer_constant,
    .claimed = layer_claims,
};

/* ---- the layer Activation ----------------------------------------------------------------------------- */

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
    .flags = LIP__POINTWISE,
    .forward = lip__copy_forward,
    .backward = lip__copy_backward,
    .constant = lip__one,
    .claimed = activation_claims,
};

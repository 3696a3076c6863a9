/* check_slots.c: regularizers and constraints give deel-lip's and Keras's numbers, and training obeys them.
 *
 * References: deel-lip 1.5.0, tensorflow-cpu 2.15.1, float32, on the two variables below. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <onelip/onelip.h>

#include "check_main.h"
#include "io/keras_json.h"
#include "layers/slots.h"

static const float W[12] = {1.78900003f, 0.437000006f, 0.0960000008f, -1.86300004f, -0.27700001f, -0.354999989f, -0.0829999968f, -0.626999974f, -0.0439999998f, -0.476999998f, -1.31400001f, 0.88499999f};
static const float K[54] =
    {0.349999994f, 0.680000007f, 0.0199999996f, -0.159999996f, -0.219999999f, -0.620000005f, 0.389999986f,
     -0.439999998f, -0.469999999f, -0.0799999982f, 0.589999974f, 0.0900000036f, -0.409999996f, -0.289999992f,
     0.25f, -0.0599999987f, -0.310000002f, -0.0900000036f, 0.300000012f, 0.790000021f, -0.5f, -0.25f,
     -0.319999993f, -0.970000029f, -0.370000005f, -0.409999996f, 0.449999988f, -0.0500000007f, -0.649999976f,
     0.25999999f, -0.140000001f, -0.699999988f, -0.239999995f, -0.239999995f, -0.349999994f, 0.00999999978f,
     -0.899999976f, -0.109999999f, 0.409999996f, 0.340000004f, 0.439999998f, 0.449999988f, 0.600000024f,
     -0.449999988f, 0.340000004f, -0.74000001f, -0.239999995f, -0.769999981f, 0.419999987f, 0.529999971f,
     -0.0799999982f, 0.709999979f, -0.270000011f, 0.0599999987f};

enum which { IS_W, IS_T, IS_K };

/* The variable and its shape; T is W transposed. */
static const float *variable(enum which which, lip_shape *shape)
{
    static float t[12];

    for (size_t i = 0; i < 12; i++)
        t[i % 4 * 3 + i / 4] = W[i];
    *shape = which == IS_W ? LIP__SHAPE(3, 4) : which == IS_T ? LIP__SHAPE(4, 3) : LIP__SHAPE(3, 3, 2, 3);
    return which == IS_W ? W : which == IS_T ? t : K;
}

struct reference {
    const char *name, *config;
    enum which which;
    double value;
    float numbers[54];
};

static const struct reference regularizers[] = {
    {"L1", "{}", IS_W, 0.0824699923,
    {0.00999999978f, 0.00999999978f, 0.00999999978f, -0.00999999978f, -0.00999999978f, -0.00999999978f,
     -0.00999999978f, -0.00999999978f, -0.00999999978f, -0.00999999978f, -0.00999999978f, 0.00999999978f}},
    {"L2", "{}", IS_W, 0.10213533,
    {0.0357800014f, 0.0087399995f, 0.00191999995f, -0.0372599997f, -0.00554000027f, -0.00709999958f,
     -0.00165999995f, -0.0125399996f, -0.000879999949f, -0.00954f, -0.0262799989f, 0.0176999997f}},
    {"l1_l2", "{}", IS_W, 0.18460533,
    {0.0457800031f, 0.0187399983f, 0.0119199995f, -0.0472600013f, -0.0155400001f, -0.0170999989f,
     -0.0116599994f, -0.0225399993f, -0.01088f, -0.0195400007f, -0.0362799987f, 0.0276999995f}},
    {"OrthogonalRegularizer", "{\"factor\":0.5}", IS_W, 0.155217052,
    {-0.0524797365f, -0.018438926f, 0.0419911183f, -0.0525565818f, 0.187140003f, 0.142417222f, 0.18875815f,
     -0.188297957f, -0.0309740249f, 0.0490209945f, 0.0615206137f, 0.116224021f}},
    {"OrthogonalRegularizer", "{\"factor\":0.5,\"mode\":\"columns\"}", IS_W, 0.283870131,
    {-0.00233919919f, 0.0817247927f, 0.148446217f, -9.53823328e-05f, -0.000389649533f, 0.118668452f,
     -0.0166018531f, 0.0484126806f, -0.092657052f, -0.0134456456f, 0.0118940547f, 0.0340983272f}},
    {"OrthDenseRegularizer", "{\"lambda_orth\":0.7}", IS_W, 32.7740898,
    {29.2703133f, 9.43204117f, 9.0466032f, -36.6321411f, 2.89256501f, 1.37121403f, 1.20170379f, -2.61505532f,
     -10.3385715f, -4.5834074f, -6.89203787f, 15.5305233f}},
    {"OrthDenseRegularizer", "{\"lambda_orth\":0.7}", IS_T, 32.7740898,
    {29.2703133f, 2.89256501f, -10.3385715f, 9.43204117f, 1.37121403f, -4.5834074f, 9.0466032f, 1.20170379f,
     -6.89203787f, -36.6321411f, -2.61505532f, 15.5305233f}},
    {"LorthRegularizer", "{\"kernel_shape\":[3,3,2,3],\"lambda_lorth\":0.3}", IS_K, 21.9050827,
    {3.32792521f, 7.32068634f, -0.157255173f, -0.588384151f, -3.21820927f, -4.13962078f, 2.29936671f,
     -2.15624285f, -5.8646245f, 0.95402503f, 6.73962498f, 2.3210907f, -4.88431549f, -3.87891912f, 3.36804461f,
     -1.57306933f, -4.750494f, -1.66892076f, 3.25571036f, 6.60139227f, -2.90244937f, -2.52241945f, -1.36118281f,
     -7.17122459f, -5.44481373f, -3.38755417f, 5.30717945f, -0.0914746672f, -3.7237277f, 2.21825981f,
     -0.902067602f, -6.72615337f, -2.91954708f, -2.38988757f, -1.8174479f, 1.30306816f, -9.66373444f,
     -1.98517179f, 2.56501532f, 4.09286213f, 4.11038971f, 4.67149162f, 4.9761281f, -4.83489799f, 3.39097095f,
     -7.15491199f, -4.03661919f, -5.83349609f, 3.73448133f, 6.60880184f, -2.11430407f, 6.59602451f, -1.7322073f,
     2.15785074f}},
    {"LorthRegularizer", "{\"kernel_shape\":null,\"stride\":2,\"lambda_lorth\":0.3}", IS_K, 11.370718,
    {2.97195005f, 5.19496298f, -0.111956261f, -0.951300085f, -1.93687677f, -3.15777016f, 0.520859897f,
     -2.51641703f, -1.89272285f, 0.681183577f, 4.00931025f, 1.31108046f, -2.49229097f, -3.62388945f,
     0.671404719f, -1.18504322f, -3.16707325f, -1.1310097f, 2.29140711f, 3.70242167f, -2.05237198f,
     -1.11356783f, -1.3934989f, -3.49393463f, -1.39294696f, -1.82109976f, 0.984287977f, -0.867346704f,
     -2.32166052f, 0.525506377f, -2.00031137f, -4.30479527f, -0.924004912f, -1.99222088f, -2.1769104f,
     -0.399608493f, -4.98801136f, -2.26682162f, 1.73367238f, 2.59248376f, 2.47137737f, 2.43438244f, 2.34023666f,
     -0.917461157f, 1.71069598f, -3.96144986f, -2.08188128f, -2.85545301f, 3.20948982f, 4.54854012f,
     -0.196298346f, 3.01823282f, -0.41088146f, 0.775918841f}},
    {"LorthRegularizer", "{\"conv_transpose\":true,\"lambda_lorth\":0.3}", IS_K, 22.2050819,
    {3.32792521f, 7.32068634f, -0.157255173f, -0.588384151f, -3.21820927f, -4.13962078f, 2.29936671f,
     -2.15624285f, -5.8646245f, 0.95402503f, 6.73962498f, 2.3210907f, -4.88431549f, -3.87891912f, 3.36804461f,
     -1.57306933f, -4.750494f, -1.66892076f, 3.25571036f, 6.60139227f, -2.90244937f, -2.52241945f, -1.36118281f,
     -7.17122459f, -5.44481373f, -3.38755417f, 5.30717945f, -0.0914746672f, -3.7237277f, 2.21825981f,
     -0.902067602f, -6.72615337f, -2.91954708f, -2.38988757f, -1.8174479f, 1.30306816f, -9.66373444f,
     -1.98517179f, 2.56501532f, 4.09286213f, 4.11038971f, 4.67149162f, 4.9761281f, -4.83489799f, 3.39097095f,
     -7.15491199f, -4.03661919f, -5.83349609f, 3.73448133f, 6.60880184f, -2.11430407f, 6.59602451f, -1.7322073f,
     2.15785074f}},
};

static const struct reference constraints[] = {
    {"MaxNorm", "{\"max_value\":1.0}", IS_W, 0,
    {0.987932444f, 0.436999917f, 0.0727209821f, -0.86421299f, -0.152966619f, -0.35499993f, -0.0628733486f,
     -0.290854275f, -0.0242979471f, -0.476999909f, -0.995368481f, 0.410535961f}},
    {"max_norm", "{\"max_value\":1.0,\"axis\":1}", IS_W, 0,
    {0.682472825f, 0.166708007f, 0.0366223529f, -0.710702538f, -0.27699995f, -0.35499993f, -0.0829999819f,
     -0.626999855f, -0.0265848339f, -0.288203776f, -0.793919861f, 0.534717679f}},
    {"UnitNorm", "{}", IS_W, 0,
    {0.987932503f, 0.592206597f, 0.0727209821f, -0.86421299f, -0.152966633f, -0.481083155f, -0.0628733486f,
     -0.290854275f, -0.0242979471f, -0.646413147f, -0.995368481f, 0.410535961f}},
    {"MinMaxNorm", "{\"min_value\":0.5,\"max_value\":1.0,\"rate\":0.7}", IS_W, 0,
    {1.22825277f, 0.436999917f, 0.079704687f, -1.16384912f, -0.190176636f, -0.35499993f, -0.0689113364f,
     -0.391698003f, -0.0302085634f, -0.476999909f, -1.09095788f, 0.552875161f}},
    {"NonNeg", "{}", IS_W, 0,
    {1.78900003f, 0.437000006f, 0.0960000008f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, 0.88499999f}},
    {"WeightClipConstraint", "{\"c\":0.5}", IS_W, 0,
    {0.5f, 0.437000006f, 0.0960000008f, -0.5f, -0.27700001f, -0.354999989f, -0.0829999968f, -0.5f,
     -0.0439999998f, -0.476999998f, -0.5f, 0.5f}},
    {"AutoWeightClipConstraint", "{\"scale\":2.0}", IS_W, 0,
    {0.144337565f, 0.144337565f, 0.0960000008f, -0.144337565f, -0.144337565f, -0.144337565f, -0.0829999968f,
     -0.144337565f, -0.0439999998f, -0.144337565f, -0.144337565f, 0.144337565f}},
    {"FrobeniusConstraint", "{}", IS_W, 0,
    {0.559786439f, 0.136739329f, 0.0300388467f, -0.582941353f, -0.0866745859f, -0.111081146f, -0.0259710848f,
     -0.196191207f, -0.013767804f, -0.149255514f, -0.411156714f, 0.276920617f}},
    {"UnitNorm", "{\"axis\":[0,1,2]}", IS_K, 0,
    {0.190909401f, 0.340771854f, 0.0110226721f, -0.0872728676f, -0.110249721f, -0.341702849f, 0.212727606f,
     -0.220499441f, -0.259032786f, -0.0436364338f, 0.295669675f, 0.049602028f, -0.223636717f, -0.145329177f,
     0.137783408f, -0.0327273235f, -0.155351877f, -0.049602028f, 0.16363664f, 0.395896733f, -0.275566816f,
     -0.136363849f, -0.160363227f, -0.534599602f, -0.201818511f, -0.205465391f, 0.248010114f, -0.027272772f,
     -0.325737804f, 0.143294737f, -0.0763637573f, -0.350794554f, -0.132272065f, -0.130909294f, -0.175397277f,
     0.00551133603f, -0.490909874f, -0.0551248603f, 0.225964785f, 0.185454845f, 0.220499441f, 0.248010114f,
     0.327273279f, -0.225510791f, 0.187385425f, -0.403637022f, -0.12027242f, -0.424372882f, 0.229091272f,
     0.265601575f, -0.0440906882f, 0.387273341f, -0.135306478f, 0.0330680162f}},
    {"SpectralConstraint", "{\"k_coef_lip\":2.0,\"eps_spectral\":1e-6,\"eps_bjorck\":1e-6,\"u\":null}", IS_W, 0,
    {1.51581037f, 0.28789264f, -0.244065613f, -1.24894738f, -0.970380604f, -1.05145264f, -0.367053658f,
     -1.34836197f, 0.367953777f, -0.570174217f, -1.76199126f, 0.659467816f}},
        {"SpectralConstraint",
     "{\"k_coef_lip\":2.0,\"eps_spectral\":0.05,\"eps_bjorck\":null,\"u\":{\"class_name\":\"__numpy__\","
     "\"config\":{\"value\":[[1.0,2.0,-1.0,0.5]],\"dtype\":\"float32\"}}}", IS_W, 0,
        {1.26101303f, 0.30802834f, 0.0676675513f, -1.31317341f, -0.195249081f, -0.250228941f, -0.058504235f,
     -0.441953659f, -0.0310142934f, -0.336223125f, -0.926199615f, 0.623810232f}},
    {"radial_constraint", "{}", IS_K, 0,
        {-0.370000005f, -0.409999996f, 0.449999988f, -0.0500000007f, -0.649999976f, 0.25999999f, -0.370000005f,
     -0.409999996f, 0.449999988f, -0.0500000007f, -0.649999976f, 0.25999999f, -0.370000005f, -0.409999996f,
     0.449999988f, -0.0500000007f, -0.649999976f, 0.25999999f, -0.370000005f, -0.409999996f, 0.449999988f,
     -0.0500000007f, -0.649999976f, 0.25999999f, 0.349999994f, 0.680000007f, 0.0199999996f, -0.159999996f,
     -0.219999999f, -0.620000005f, -0.370000005f, -0.409999996f, 0.449999988f, -0.0500000007f, -0.649999976f,
     0.25999999f, -0.370000005f, -0.409999996f, 0.449999988f, -0.0500000007f, -0.649999976f, 0.25999999f,
     -0.370000005f, -0.409999996f, 0.449999988f, -0.0500000007f, -0.649999976f, 0.25999999f, -0.370000005f,
     -0.409999996f, 0.449999988f, -0.0500000007f, -0.649999976f, 0.25999999f}},
};

static struct lip__object *make(const struct reference *r, const struct lip__class *const *of)
{
    struct lip__object *o = NULL;
    lip_error err = {0};
    json_t *json = json_pack("{s:s, s:o}", "class_name", r->name, "config", json_loads(r->config, 0, NULL));

    ck_assert_msg(lip__object_read(json, of, "slot", false, "", &o, &err) == LIP_OK, "%s", err.text);
    json_decref(json);
    return o;
}

static double worst(const float *a, const float *b, size_t n)
{
    double off = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        off = fmax(off, fabs((double)a[i] - b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return off / size;
}

START_TEST(penalties_are_those_of_the_reference)
{
    const struct reference *r = &regularizers[_i];
    struct lip__object *o = make(r, lip__regularizers);
    const struct lip__regularizer_class *cls = (const struct lip__regularizer_class *)o->cls;
    lip_shape shape;
    const float *x = variable(r->which, &shape);
    float gradient[54] = {0}, *scratch = malloc((cls->scratch ? cls->scratch(o, &shape) : 0) * sizeof *scratch + 64);

    ck_assert(!cls->check || cls->check(o, &shape, NULL) == LIP_OK);
    ck_assert_double_eq_tol(cls->value(o, &shape, x, 1, gradient, scratch), r->value, 3e-6 * fabs(r->value));
    /* Products of a few dozen terms in another order. */
    ck_assert_double_le(worst(gradient, r->numbers, lip_shape_count(&shape)), 3e-6);
    float half[54] = {0};
    cls->value(o, &shape, x, 0.5, half, scratch);
    for (size_t i = 0; i < lip_shape_count(&shape); i++)
        ck_assert_float_eq_tol(2 * half[i], gradient[i], 1e-5f);
    free(scratch);
    lip__object_free(o);
}
END_TEST

START_TEST(constraints_are_those_of_the_reference)
{
    const struct reference *r = &constraints[_i];
    struct lip__object *o = make(r, lip__constraints);
    const struct lip__constraint_class *cls = (const struct lip__constraint_class *)o->cls;
    lip_shape shape;
    const float *x = variable(r->which, &shape);
    float w[54], *scratch = NULL;
    size_t n = lip_shape_count(&shape);

    ck_assert_int_eq(posix_memalign((void **)&scratch, 64, (cls->scratch ? cls->scratch(o, &shape) : 0) * sizeof *scratch + 64), 0);
    memcpy(w, x, n * sizeof *w);
    ck_assert_int_eq(cls->apply(o, &shape, w, scratch, NULL), LIP_OK);
    ck_assert_double_le(worst(w, r->numbers, n), 2e-6);
    free(scratch);
    lip__object_free(o);
}
END_TEST

/* semantics.md 9, 11 and 12: PReLUlip's constraint on sixteen ones, clips of a 4x4 matrix, Lorth of two orthogonal filters. */
START_TEST(worked_examples)
{
    static const struct reference one[] = {
        {"MinMaxNorm", "{\"min_value\":-1.0,\"max_value\":1.0,\"rate\":1.0,\"axis\":0}", IS_W, 0.25, {0}},
        {"AutoWeightClipConstraint", "{\"scale\":1.0}", IS_W, 0.25, {0}},
        {"AutoWeightClipConstraint", "{\"scale\":5.0}", IS_W, 0.05, {0}},
    };
    const lip_shape shape[] = {LIP__SHAPE(16), LIP__SHAPE(4, 4), LIP__SHAPE(4, 4)};
    float w[16], scratch[64], kernel[18] = {0};

    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        struct lip__object *o = make(&one[i], lip__constraints);
        for (size_t j = 0; j < 16; j++)
            w[j] = 1;
        ck_assert_int_eq(((const struct lip__constraint_class *)o->cls)->apply(o, &shape[i], w, scratch, NULL), LIP_OK);
        for (size_t j = 0; j < 16; j++)
            ck_assert_double_eq_tol(w[j], one[i].value, 1e-6);
        lip__object_free(o);
    }
    struct lip__object *o = make(&(struct reference){"LorthRegularizer", "{}", IS_K, 0, {0}}, lip__regularizers);
    kernel[8] = 0.6f, kernel[9] = 0.8f; /* (3, 3, 1, 2): delta is 1, and so is the distance */
    ck_assert_double_eq_tol(((const struct lip__regularizer_class *)o->cls)->value(o, &LIP__SHAPE(3, 3, 1, 2), kernel, 1, NULL, scratch),
                            0, 1e-6);
    lip__object_free(o);
}
END_TEST

#define MODEL(slots)                                                                                                     \
    "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"," \
    "\"batch_input_shape\":[null,4]," slots "}}]}}"

static lip_model *read_model(const char *json, lip_err code, lip_error *err)
{
    lip_model *m = NULL;

    ck_assert_msg(lip_model_read(json, strlen(json), false, &m, err) == code, "%s at %s", err->text, err->pointer);
    return m;
}

/* A regularised step is the plain step and the penalty's gradient; activity penalties count once a sample. */
START_TEST(training_obeys_regularizers)
{
    static const char run[] = "{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":1}},\"loss\":"
                              "{\"class_name\":\"TauCategoricalCrossentropy\",\"config\":{\"tau\":1}}}";
    const char *json[2] = {MODEL("\"use_bias\":true"),
                           MODEL("\"kernel_regularizer\":{\"class_name\":\"L2\",\"config\":{\"l2\":0.25}},"
                                 "\"bias_regularizer\":\"l1\",\"activity_regularizer\":{\"class_name\":\"L2\",\"config\":{\"l2\":0.5}}")};
    float x[8] = {1, -2, 0.5f, 3, 0, 1, 1, -1}, y[2] = {0, 2}, kernel[2][12], before[12], out[6];
    lip_batch batch = {.n = 2, .x = x, .y_shape = {1, {2}}, .y = y};
    double loss[2], square = 0, activity = 0, evaluated[2];

    for (int i = 0; i < 2; i++) {
        lip_error err = {0};
        lip_model *m = read_model(json[i], LIP_OK, &err);
        lip_state *s = NULL;
        lip_trainer *t = NULL;
        lip_snapshot *p = NULL;
        lip_workspace *ws = lip_workspace_new();
        lip_step_report report;
        lip_metric metrics[LIP_MAX_METRICS];
        size_t n;
        ck_assert_int_eq(lip_state_new(m, 3, &s, NULL), LIP_OK);
        ck_assert_msg(lip_trainer_new(m, run, sizeof run - 1, &t, &err) == LIP_OK, "%s", err.text);
        memcpy(before, lip_state_data(s, 0), sizeof before);
        ck_assert_int_eq(lip_state_publish(s, &p, NULL), LIP_OK);
        ck_assert_int_eq(lip_predict(p, ws, 2, x, out, NULL), LIP_OK);
        ck_assert_int_eq(lip_evaluate(t, p, ws, &batch, metrics, &n, NULL), LIP_OK);
        ck_assert_int_eq(lip_train_step(t, s, &batch, NULL, &report, NULL), LIP_OK);
        memcpy(kernel[i], lip_state_data(s, 0), sizeof kernel[i]);
        loss[i] = report.loss;
        evaluated[i] = metrics[0].value;
        lip_workspace_free(ws);
        lip_snapshot_put(p);
        lip_trainer_free(t);
        lip_state_free(s);
        lip_model_put(m);
    }
    for (int i = 0; i < 12; i++)
        square += (double)before[i] * before[i];
    for (int i = 0; i < 6; i++)
        activity += (double)out[i] * out[i];
    ck_assert_double_eq_tol(loss[1] - loss[0], 0.25 * square + 0.5 * activity / 2, 1e-5);
    ck_assert_double_eq_tol(evaluated[1], loss[1], 1e-5);
    for (size_t j = 0; j < 12; j++) {
        /* d/dW of 0.25 |W|^2 and of 0.5 |x W|^2 / 2 (the bias begins as 0) */
        double gradient = 0.5 * before[j];
        for (size_t b = 0; b < 2; b++)
            gradient += 0.5 * x[b * 4 + j / 3] * out[b * 3 + j % 3];
        ck_assert_double_eq_tol((double)kernel[0][j] - kernel[1][j], gradient, 1e-5);
    }
}
END_TEST

START_TEST(training_obeys_constraints)
{
    static const char run[] = "{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":5}},\"loss\":"
                              "{\"class_name\":\"TauCategoricalCrossentropy\",\"config\":{\"tau\":1}}}";
    float x[8] = {1, -2, 0.5f, 3, 0, 1, 1, -1}, y[2] = {0, 2};
    lip_batch batch = {.n = 2, .x = x, .y_shape = {1, {2}}, .y = y};
    lip_error err = {0};
    lip_model *m = read_model(MODEL("\"kernel_constraint\":{\"class_name\":\"WeightClipConstraint\",\"config\":{\"c\":0.125}},"
                                    "\"bias_constraint\":\"non_neg\""), LIP_OK, &err);
    lip_state *s = NULL;
    lip_trainer *t = NULL;
    lip_step_report report;
    float most = 0;

    ck_assert_int_eq(lip_state_new(m, 3, &s, NULL), LIP_OK);
    ck_assert_int_eq(lip_trainer_new(m, run, sizeof run - 1, &t, NULL), LIP_OK);
    ck_assert_int_eq(lip_train_step(t, s, &batch, NULL, &report, NULL), LIP_OK);
    for (int i = 0; i < 12; i++)
        most = fmaxf(most, fabsf(lip_state_data(s, 0)[i]));
    ck_assert_float_eq(most, 0.125f);
    for (int i = 0; i < 3; i++)
        ck_assert(lip_state_data(s, 1)[i] >= 0);
    lip_trainer_free(t);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(slots_are_written_and_read_back)
{
    lip_error err = {0};
    lip_model *m = read_model(MODEL("\"kernel_regularizer\":\"l1_l2\",\"kernel_constraint\":{\"class_name\":\"MaxNorm\","
                                    "\"config\":{\"max_value\":3.0,\"axis\":[0]}},\"bias_regularizer\":\"L1L2\""), LIP_OK, &err);
    char *first = lip_model_definition(m, false);
    lip_model *again = read_model(first, LIP_OK, &err);
    char *second = lip_model_definition(again, false);

    ck_assert_str_eq(first, second);
    ck_assert_ptr_nonnull(strstr(first, "\"class_name\":\"L1L2\",\"config\":{\"l1\":0.00999"));
    ck_assert_ptr_nonnull(strstr(first, "\"class_name\":\"L1L2\",\"config\":{\"l1\":0.0,\"l2\":0.0}"));
    ck_assert_ptr_nonnull(strstr(first, "\"axis\":[0]"));
    lip_free(second);
    lip_free(first);
    lip_model_put(again);
    lip_model_put(m);
}
END_TEST

static const struct {
    const char *json;
    lip_err code;
    const char *text;
} bad[] = {
    {MODEL("\"kernel_regularizer\":\"l3\""), LIP_EOPTION, "OrthDenseRegularizer"},
    {MODEL("\"kernel_regularizer\":\"LorthRegularizer\""), LIP_EDEFINITION, "y/kernel"},
    {MODEL("\"kernel_regularizer\":{\"class_name\":\"LorthRegularizer\",\"config\":{\"kernel_shape\":[3,3,4,2]}}"), LIP_EDEFINITION,
     "y/kernel: LorthRegularizer: kernel_shape is [3,3,4,2], needs the kernel's, [4,3]"},
    {MODEL("\"bias_regularizer\":\"OrthDenseRegularizer\""), LIP_EDEFINITION, "y/bias"},
    {MODEL("\"kernel_constraint\":{\"class_name\":\"MaxNorm\",\"config\":{\"axis\":2}}"), LIP_EDEFINITION, "axis 2"},
    {MODEL("\"kernel_constraint\":{\"class_name\":\"MaxNorm\",\"config\":{\"least\":2}}"), LIP_EOPTION, "max_value, axis"},
    {MODEL("\"kernel_constraint\":{\"class_name\":\"WeightClipConstraint\",\"config\":{\"c\":-1}}"), LIP_EDEFINITION, "> 0"},
};

START_TEST(bad_slots_are_errors)
{
    lip_error err = {0};

    ck_assert_ptr_null(read_model(bad[_i].json, bad[_i].code, &err));
    ck_assert_msg(strstr(err.text, bad[_i].text) != NULL, "%s", err.text);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("slots");
    TCase *t = tcase_create("slots");

    tcase_add_loop_test(t, penalties_are_those_of_the_reference, 0, sizeof regularizers / sizeof *regularizers);
    tcase_add_loop_test(t, constraints_are_those_of_the_reference, 0, sizeof constraints / sizeof *constraints);
    tcase_add_test(t, worked_examples);
    tcase_add_test(t, training_obeys_regularizers);
    tcase_add_test(t, training_obeys_constraints);
    tcase_add_test(t, slots_are_written_and_read_back);
    tcase_add_loop_test(t, bad_slots_are_errors, 0, sizeof bad / sizeof *bad);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)

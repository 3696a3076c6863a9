/* check_safetensors.c: what is written reads back; what is damaged is refused. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/io.h>

#include "check_main.h"

/* A file from a header and n bytes of data; *size is its length. */
static unsigned char *forge(const char *header, const void *data, size_t n, size_t *size)
{
    size_t length = strlen(header);
    unsigned char *file = calloc(8 + length + n, 1);

    for (size_t i = 0; i < 8; i++)
        file[i] = (unsigned char)(length >> 8 * i);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, n);
    *size = 8 + length + n;
    return file;
}

START_TEST(what_is_written_reads_back)
{
    float a[6] = {1, -2, 3.5f, NAN, INFINITY, -0.0f}, b[1] = {7};
    lip_named tensors[] = {{"a/kernel", {2, {2, 3}}, a}, {"b", {0, {0}}, b}, {"none", {1, {0}}, NULL}};
    const char *metadata[] = {"tool", "onelip", "text", "\"quoted\" \xc3\xa9"};
    lip_safetensors *f = NULL;
    size_t size;
    void *bytes = lip_safetensors_write(tensors, 3, metadata, 2, &size);

    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(lip_safetensors_read(bytes, size, &f, NULL), LIP_OK);
    ck_assert_uint_eq(lip_safetensors_count(f), 3);
    for (size_t i = 0; i < 3; i++) {
        const lip_named *t = lip_safetensors_find(f, tensors[i].name);
        ck_assert_ptr_nonnull(t);
        ck_assert(lip_shape_equal(&t->shape, &tensors[i].shape));
        if (i < 2)
            ck_assert_mem_eq(t->data, tensors[i].data, lip_shape_count(&t->shape) * sizeof(float));
    }
    ck_assert_str_eq(lip_safetensors_metadata(f, "text"), metadata[3]);
    ck_assert_ptr_null(lip_safetensors_metadata(f, "absent"));
    lip_safetensors_free(f);
    lip_free(bytes);
}
END_TEST

/* Every finite number of a 16-bit format by its bits, as the reader sees it. */
static float sixteen(const char *type, unsigned bits)
{
    const unsigned char data[] = {(unsigned char)bits, (unsigned char)(bits >> 8)};
    char header[80];
    lip_safetensors *f = NULL;
    size_t size;
    float x;

    snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,2]}}", type);
    unsigned char *file = forge(header, data, 2, &size);
    ck_assert_int_eq(lip_safetensors_read(file, size, &f, NULL), LIP_OK);
    x = *lip_safetensors_find(f, "x")->data;
    lip_safetensors_free(f);
    free(file);
    return x;
}

/* The numbers of a format stay as they are; those between two of them go to the nearer, ties to the even one. */
START_TEST(sixteen_bits_round_to_the_nearest)
{
    const char *type = _i ? "BF16" : "F16";
    unsigned last = _i ? 0x7f7f : 0x7bff; /* the largest finite one */
    size_t n = 8 * (size_t)last + 4, size;
    float *in = calloc(n, sizeof *in), *out = calloc(n, sizeof *out);
    char definition[400];
    lip_model *model = NULL;
    lip_state *state = NULL;
    lip_safetensors *f = NULL;
    const char *more[] = {"transfer", "yes"};

    for (unsigned b = 0; b <= last; b++) {
        float low = sixteen(type, b), high = b < last ? sixteen(type, b + 1) : INFINITY;
        float middle = low / 2 + high / 2, even = b % 2 ? high : low;

        for (int sign = 0; sign < 2; sign++) {
            size_t at = 8 * (size_t)b + 4 * (size_t)sign;
            const float x[] = {low, middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)}, y[] = {low, even, low, high};

            for (size_t i = 0; i < (b < last ? 4 : 1); i++) {
                in[at - (b == last && sign ? 3 : 0) + i] = sign ? -x[i] : x[i];
                out[at - (b == last && sign ? 3 : 0) + i] = sign ? -y[i] : y[i];
            }
        }
    }
    snprintf(definition, sizeof definition,
             "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
             "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,%zu],\"name\":\"x\"}},"
             "{\"class_name\":\"Dense\",\"config\":{\"units\":1,\"use_bias\":false,\"name\":\"y\"}}]}}", n);
    ck_assert_int_eq(lip_model_read(definition, strlen(definition), false, &model, NULL), LIP_OK);
    ck_assert_int_eq(lip_state_new(model, 1, &state, NULL), LIP_OK);
    ck_assert_int_eq(lip_state_load(state, &(lip_named){"y/kernel", {2, {n, 1}}, in}, 1, false, NULL, NULL, NULL), LIP_OK);
    void *bytes = lip_state_save_as(state, _i ? LIP_DTYPE_BF16 : LIP_DTYPE_F16, more, 1, &size);
    ck_assert_uint_lt(size, 2 * n + 4096);
    ck_assert_int_eq(lip_safetensors_read(bytes, size, &f, NULL), LIP_OK);
    ck_assert_mem_eq(lip_safetensors_find(f, "y/kernel")->data, out, n * sizeof *out);
    ck_assert_str_eq(lip_safetensors_metadata(f, "transfer"), "yes");
    ck_assert_ptr_nonnull(strstr(lip_safetensors_metadata(f, "definition"), "Dense"));
    lip_safetensors_free(f);
    lip_free(bytes);
    in[0] = 70000; /* beyond one format, not the other */
    ck_assert_int_eq(lip_state_load(state, &(lip_named){"y/kernel", {2, {n, 1}}, in}, 1, false, NULL, NULL, NULL), LIP_OK);
    bytes = lip_state_save_as(state, _i ? LIP_DTYPE_BF16 : LIP_DTYPE_F16, NULL, 0, &size);
    ck_assert_int_eq(lip_safetensors_read(bytes, size, &f, NULL), LIP_OK);
    ck_assert_float_eq(lip_safetensors_find(f, "y/kernel")->data[0], _i ? 70144 : INFINITY);
    lip_safetensors_free(f);
    lip_free(bytes);
    lip_state_free(state);
    lip_model_put(model);
    free(out);
    free(in);
}
END_TEST

START_TEST(halves_and_doubles_are_converted)
{
    const unsigned char data[] = {0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c, /* F16 1, -2, 2^-24, inf */
                                  0x80, 0x3f, 0x20, 0xc1,                         /* BF16 1, -10 */
                                  0, 0, 0, 0, 0, 0, 0xf8, 0x3f};                  /* F64 1.5 */
    size_t size;
    unsigned char *file = forge("{\"h\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,8]},"
                                "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]},"
                                "\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[12,20]}}", data, sizeof data, &size);
    lip_safetensors *f = NULL;

    ck_assert_int_eq(lip_safetensors_read(file, size, &f, NULL), LIP_OK);
    const float *h = lip_safetensors_find(f, "h")->data, *b = lip_safetensors_find(f, "b")->data;
    ck_assert(h[0] == 1 && h[1] == -2 && h[2] == 0x1p-24f && isinf(h[3]));
    ck_assert(b[0] == 1 && b[1] == -10 && lip_safetensors_find(f, "d")->data[0] == 1.5f);
    lip_safetensors_free(f);
    free(file);
}
END_TEST

#define ONE(dtype, shape, offsets) \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
    const char *header;
    lip_err code;
} bad[] = {
    {"{", LIP_EFILE},
    {"[]", LIP_EFILE},
    {"{\"a\":{}}", LIP_EFILE},
    {"{\"a\":3}", LIP_EFILE},
    {ONE("I64", "[1]", "[0,8]"), LIP_EUNSUPPORTED},
    {ONE("F32", "[3]", "[0,8]"), LIP_EFILE},
    {ONE("F32", "[2]", "[0,12]"), LIP_EFILE},
    {ONE("F32", "[2]", "[8,16]"), LIP_EFILE},
    {ONE("F32", "[2]", "[8,0]"), LIP_EFILE},
    {ONE("F32", "[-1]", "[0,8]"), LIP_EFILE},
    {ONE("F32", "[1]", "[0,4]"), LIP_EFILE}, /* bytes left over */
    {ONE("F32", "[4611686018427387904,4]", "[0,0]"), LIP_EFILE},
    {ONE("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), LIP_EFILE},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
     "\"data_offsets\":[0,8]}}", LIP_EFILE},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],"
     "\"data_offsets\":[4,8]}}", LIP_EFILE},
    {"{\"__metadata__\":{\"n\":3},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", LIP_EFILE},
};

START_TEST(damaged_files_are_refused)
{
    const float data[2] = {1, 2};
    size_t size;
    unsigned char *file = forge(bad[_i].header, data, sizeof data, &size);
    lip_safetensors *f = NULL;
    lip_error err = {0};

    ck_assert_int_eq(lip_safetensors_read(file, size, &f, &err), bad[_i].code);
    ck_assert_uint_gt(strlen(err.text), 0);
    ck_assert_ptr_null(f);
    free(file);
}
END_TEST

START_TEST(every_cut_is_refused)
{
    float a[4] = {1, 2, 3, 4};
    lip_named tensor = {"a", {1, {4}}, a};
    size_t size;
    unsigned char *bytes = lip_safetensors_write(&tensor, 1, NULL, 0, &size);

    for (size_t n = 0; n < size; n++) {
        unsigned char *cut = malloc(n + 1); /* of its own size, so that a sanitizer sees a read too far */
        lip_safetensors *f = NULL;
        memcpy(cut, bytes, n);
        ck_assert_int_eq(lip_safetensors_read(cut, n, &f, NULL), LIP_EFILE);
        free(cut);
    }
    lip_free(bytes);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");

    tcase_add_test(t, what_is_written_reads_back);
    tcase_add_loop_test(t, sixteen_bits_round_to_the_nearest, 0, 2);
    tcase_add_test(t, halves_and_doubles_are_converted);
    tcase_add_loop_test(t, damaged_files_are_refused, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, every_cut_is_refused);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)

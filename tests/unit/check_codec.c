/* check_codec: numbers, tensors and documents of the daemon's bodies. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_main.h"
#include "json_scan.h"
#include "npy.h"
#include "number.h"
#include "sha256.h"
#include "text.h"
#include "values.h"

/* xorshift64: the same numbers in every run. */
static uint64_t draw_state = 88172645463325252u;

static uint64_t draw(void)
{
    draw_state ^= draw_state << 13;
    draw_state ^= draw_state >> 7;
    draw_state ^= draw_state << 17;
    return draw_state;
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* A float of any magnitude: subnormal, a power of two, anything finite. */
static float any_float(int kind)
{
    uint32_t bits = (uint32_t)draw();
    float x;

    bits &= kind % 8 == 0 ? 0x807fffff : kind % 8 == 1 ? 0xff800000 : 0xffffffff;
    memcpy(&x, &bits, sizeof x);
    return isfinite(x) ? x : 1.5f;
}

/* The same number three times, and what cannot be read so, behind each kind of comma: as number_read has it, bit by bit. */
static void reads_more_as_one(const char *digits)
{
    static const char *const forms[] = {",%s,%s,%s]                        ", ", %s, %s, %s                        ]", ",%s,%s,%s"};

    for (size_t i = 0; i < 3; i++) {
        char text[1300];
        const char *at = text;
        float x[4] = {-1, -1, -1, -1}, y = -1;
        size_t n, want;

        snprintf(text, sizeof text, forms[i], digits, digits, digits);
        strcat(text, "]");
        want = number_read(text + 1 + (i == 1), text + strlen(text), &y) && isfinite(y) ? 3 : 0;
        n = number_read_more(&at, text + strlen(text), x, 4);
        ck_assert_msg(n == want, "%s: %zu numbers", text, n);
        ck_assert_msg(!n || (same(x[0], y) && same(x[1], y) && same(x[2], y) && x[3] == -1), "%s: %a %a %a", text, (double)x[0],
                      (double)x[1], (double)x[2]);
        ck_assert_msg(at == text + n * (strlen(digits) + 1 + (i == 1)), "%s: stops at %s", text, at);
    }
}

/* number_read of text, which must take all of it, against strtof. */
static void reads_as_strtof(const char *digits)
{
    char text[400];
    float x = -1, y = strtof(digits, NULL);
    const char *end;

    snprintf(text, sizeof text, "%s]", digits);
    end = number_read(text, text + strlen(text), &x);
    ck_assert_msg(end == text + strlen(digits) && same(x, y), "%s: %a, strtof %a", digits, (double)x, (double)y);
    reads_more_as_one(digits);
}

START_TEST(commas_of_another_kind_end_a_row)
{
    static const struct {
        const char *text;
        size_t n, bytes;
    } cases[] = {{",1.5, 2.5,3.5]                    ", 1, 4},  {", 1.5,12.5, 3.5]                   ", 1, 5}, {", 1.5,  2.5]                    ", 1, 5},
                 {",1.5 ,2.5]                       ", 1, 4}, {"1.5,2.5]                         ", 0, 0}, {",", 0, 0},
                 {",1e39,2.5]                       ", 0, 0}, {",0.25,1.123456789012345678,0.5]  ", 3, 30}, {",0.125e1,-0.0,2]  ", 3, 15}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *at = cases[i].text;
        float x[8];

        ck_assert_msg(number_read_more(&at, at + strlen(at), x, 8) == cases[i].n && at == cases[i].text + cases[i].bytes, "%s", cases[i].text);
    }
}
END_TEST

START_TEST(a_written_number_reads_back)
{
    for (int i = 0; i < 150000; i++) {
        float x = any_float(i), y;
        char text[NUMBER_MAX + 2];
        size_t n = number_write(x, text);
        ck_assert_uint_le(n, NUMBER_MAX);
        text[n] = ',';
        text[n + 1] = 0;
        ck_assert(number_read(text, text + n + 1, &y) == text + n && same(x, y) && same(strtof(text, NULL), x));
    }
}
END_TEST

/* Significant digits of a decimal. */
static int digits_of(const char *text, size_t n)
{
    int digits = 0, zeros = 0;

    for (size_t i = 0; i < n && text[i] != 'e'; i++) {
        if (text[i] < '0' || text[i] > '9' || (text[i] == '0' && digits == 0))
            continue;
        digits++;
        zeros = text[i] == '0' ? zeros + 1 : 0;
    }
    return digits - zeros;
}

START_TEST(a_written_number_is_shortest)
{
    for (int i = 0; i < 20000; i++) {
        float x = any_float(i);
        char text[NUMBER_MAX + 1], plain[40];
        size_t n = number_write(x, text);
        int p = 1;
        text[n] = 0;
        do
            snprintf(plain, sizeof plain, "%.*e", p - 1, (double)x);
        while (strtof(plain, NULL) != x && p++ < 9);
        if (x == 0)
            continue;
        ck_assert_msg(digits_of(text, n) <= p, "%s is longer than %s", text, plain);
        if (digits_of(text, n) == p)
            ck_assert_double_le(fabs(strtod(text, NULL) - (double)x), fabs(strtod(plain, NULL) - (double)x) * (1 + 1e-12));
    }
}
END_TEST

START_TEST(numbers_look_as_people_write_them)
{
    static const struct {
        float x;
        const char *text;
    } cases[] = {{0, "0"},         {-0.0f, "-0.0"}, {1, "1"},           {-2.5f, "-2.5"},   {0.1f, "0.1"},
                 {14, "14"},       {1e9f, "1e9"},   {123456784, "123456780"}, {1e-7f, "1e-7"}, {0.0001f, "0.0001"},
                 {3.4028235e38f, "3.4028235e38"}, {1e-45f, "1e-45"}, {1.1754944e-38f, "1.1754944e-38"}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[NUMBER_MAX + 1];
        text[number_write(cases[i].x, text)] = 0;
        ck_assert_str_eq(text, cases[i].text);
    }
}
END_TEST

/* Decimals of up to 25 digits with and without point and exponent. */
START_TEST(any_decimal_is_rounded_once)
{
    for (int i = 0; i < 120000; i++) {
        char text[80], *out = text;
        int digits = 1 + (int)(draw() % (i % 3 ? 18 : 25)), point = (int)(draw() % (uint64_t)digits);
        if (draw() & 1)
            *out++ = '-';
        *out++ = (char)('1' + draw() % 9);
        for (int k = 1; k < digits; k++) {
            if (k == point)
                *out++ = '.';
            *out++ = (char)('0' + draw() % 10);
        }
        if (draw() & 1)
            out += sprintf(out, "%c%d", draw() & 1 ? 'e' : 'E', (int)(draw() % 110) - 65);
        *out = 0;
        reads_as_strtof(text);
    }
}
END_TEST

/* Exactly between two floats, and one digit in the 60th place to either side: the hardest there are. */
START_TEST(midpoints_go_to_even)
{
    for (int i = 0; i < 30000; i++) {
        float x = fabsf(any_float(i));
        double middle;
        char text[400];
        if (x > 1e38f)
            continue;
        middle = ((double)x + (double)nextafterf(x, INFINITY)) / 2;
        snprintf(text, sizeof text, "%.150f", middle);
        if (strlen(text) < 380 && middle > 1e-20)
            reads_as_strtof(text);
        snprintf(text, sizeof text, "%.*e", i % 2 ? 16 : 60, middle);
        reads_as_strtof(text);
        text[strcspn(text, "e") - 1] ^= 1; /* another last digit */
        reads_as_strtof(text);
    }
}
END_TEST

START_TEST(edges_of_the_range)
{
    static const char *const cases[] = {"0", "-0", "0.0", "0e999999999999", "1e-400", "1e400", "-1e400", "3.4028235e38",
                                        "3.40282356e38", "3.4028236e38", "7e-46", "7.1e-46", "1e-46", "1.17549429e-38",
                                        "0.00000000000000000000000000000000000000000000000001e50", "16777217", "16777219",
                                        "9007199254740993", "18446744073709551615", "18446744073709551616e-10"};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        reads_as_strtof(cases[i]);
}
END_TEST

START_TEST(what_is_no_number)
{
    static const char *const cases[] = {"", "-", "+1", ".5", "1.", "01", "-01", "1e", "1e+", "--1", "e5", "x", "NaN", "Infinity"};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[40];
        float x;
        const char *end;
        snprintf(text, sizeof text, "%s]", cases[i]);
        end = number_read(text, text + strlen(text), &x);
        ck_assert_msg(!end || *end != ']', "took \"%s\"", cases[i]);
    }
}
END_TEST

/* ---- tensors -------------------------------------------------------------------------------------------- */

#define SHAPE(...) (lip_shape){sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), {__VA_ARGS__}}

static const char *from_json(enum codec_type type, lip_shape shape, const char *text, float *x)
{
    char why[256];
    /* A copy without a NUL behind it, so that a sanitizer sees a step too far. */
    size_t n = strlen(text);
    char *copy = malloc(n);
    memcpy(copy, text, n);
    const char *code = values_from_json(type, &shape, lip_shape_count(&shape), copy, copy + n, x, why, sizeof why);
    free(copy);
    return code;
}

START_TEST(arrays_are_flat_or_nested_to_the_shape)
{
    float x[8];

    ck_assert_ptr_null(from_json(CODEC_FP32, SHAPE(2, 3), "[1,2,3 , 4,\n5,6]", x));
    ck_assert_float_eq(x[5], 6);
    ck_assert_ptr_null(from_json(CODEC_FP32, SHAPE(2, 3), "[ [1,2,3],[4,5,7] ]", x));
    ck_assert_float_eq(x[5], 7);
    ck_assert_ptr_null(from_json(CODEC_FP32, SHAPE(2, 1, 2), "[[[1,2]],[[3,4]]]", x));
    ck_assert_ptr_null(from_json(CODEC_FP32, SHAPE(0, 4), "[]", x));
    ck_assert_ptr_null(from_json(CODEC_FP32, SHAPE(2, 0), "[[],[]]", x));
    ck_assert_ptr_null(from_json(CODEC_FP32, SHAPE(1), "[5]", x));
}
END_TEST

START_TEST(arrays_of_another_shape_are_refused)
{
    static const char *const cases[] = {"[]", "[1,2,3,4,5]", "[1,2,3,4,5,6,7]", "[[1,2],[3,4],[5,6]]", "[[1,2,3],[4,5]]",
                                        "[[1,2,3],4,5,6]", "[1,2,3,[4,5,6]]", "[[[1,2,3],[4,5,6]]]", "[[1,2,3,4,5,6]]",
                                        "[[[[[[[[[1]]]]]]]]]"};
    float x[8];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *code = from_json(CODEC_FP32, SHAPE(2, 3), cases[i], x);
        ck_assert_msg(code && !strcmp(code, "size_mismatch"), "%s: %s", cases[i], code ? code : "taken");
    }
}
END_TEST

START_TEST(arrays_that_are_no_json_are_refused)
{
    static const char *const cases[] = {"[1,]", "[,1]", "[1 2]", "[1,,2]", "[1;2]", "[1]]", "[+1,2]", "[01,2]", "[1.,2]",
                                        "[NaNa,1]", "[nan,1]", "[\"x\",1]", "[1,\"NaN]", "[true,1]", "[null,1]", "[{},1]", "[1e39,1]"};
    float x[8];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(from_json(CODEC_FP32, SHAPE(2), cases[i], x) != NULL, "took %s", cases[i]);
}
END_TEST

START_TEST(non_finite_numbers_are_words)
{
    float x[6];

    ck_assert_ptr_null(from_json(CODEC_FP32, SHAPE(6), "[NaN,\"NaN\",Infinity,\"Infinity\",-Infinity,\"-Infinity\"]", x));
    ck_assert(isnan(x[0]) && isnan(x[1]) && x[2] == INFINITY && x[3] == INFINITY && x[4] == -INFINITY && x[5] == -INFINITY);
}
END_TEST

START_TEST(integers_stay_in_their_range)
{
    static const struct {
        enum codec_type type;
        const char *good, *bad;
    } cases[] = {
        {CODEC_UINT8, "[255]", "[256]"},
        {CODEC_INT8, "[-128]", "[-129]"},
        {CODEC_INT8, "[127]", "[128]"},
        {CODEC_UINT16, "[65535]", "[65536]"},
        {CODEC_INT16, "[-32768]", "[-32769]"},
        {CODEC_UINT32, "[4294967295]", "[-1]"},
        {CODEC_INT32, "[-2147483648]", "[2147483648]"},
        {CODEC_UINT64, "[18446744073709551615]", "[18446744073709551616]"},
        {CODEC_INT64, "[-9223372036854775808]", "[9223372036854775808]"},
        {CODEC_INT64, "[0]", "[1.0]"},
        {CODEC_INT64, "[-0]", "[1e3]"},
        {CODEC_BOOL, "[true]", "[1]"},
        {CODEC_BOOL, "[false]", "[\"true\"]"},
    };
    float x[1];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *code;
        ck_assert_msg(!from_json(cases[i].type, SHAPE(1), cases[i].good, x), "%s", cases[i].good);
        code = from_json(cases[i].type, SHAPE(1), cases[i].bad, x);
        ck_assert_msg(code && !strcmp(code, "datatype_mismatch"), "%s: %s", cases[i].bad, code ? code : "taken");
    }
}
END_TEST

START_TEST(bytes_of_every_datatype)
{
    static const unsigned char half[] = {0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c, 0x01, 0x7e, 0xff, 0x7b};
    static const unsigned char brain[] = {0x80, 0x3f, 0x00, 0xc0};
    const int64_t wide[] = {-5, INT64_MAX};
    const double doubles[] = {0.1, -1e300};
    const uint8_t small[] = {7, 0};
    float x[6];

    values_from_bytes(CODEC_FP16, half, 6, x);
    ck_assert(x[0] == 1 && x[1] == -2 && x[2] == 0x1p-24f && x[3] == INFINITY && isnan(x[4]) && x[5] == 65504);
    values_from_bytes(CODEC_BF16, brain, 2, x);
    ck_assert(x[0] == 1 && x[1] == -2);
    values_from_bytes(CODEC_INT64, (const unsigned char *)wide, 2, x);
    ck_assert(x[0] == -5 && x[1] == 0x1p63f);
    values_from_bytes(CODEC_FP64, (const unsigned char *)doubles, 2, x);
    ck_assert(x[0] == 0.1f && x[1] == -INFINITY);
    values_from_bytes(CODEC_BOOL, small, 2, x);
    ck_assert(x[0] == 1 && x[1] == 0);
    values_from_bytes(CODEC_UINT8, small, 2, x);
    ck_assert(x[0] == 7);
}
END_TEST

/* ---- npy -------------------------------------------------------------------------------------------------- */

/* A file of version 1 with this dictionary and data. */
static unsigned char *npy_file(const char *header, const void *data, size_t bytes, size_t *size)
{
    size_t n = strlen(header);
    unsigned char *file = malloc(10 + n + bytes);

    memcpy(file, "\223NUMPY\1\0", 8);
    file[8] = (unsigned char)n;
    file[9] = (unsigned char)(n >> 8);
    memcpy(file + 10, header, n);
    if (bytes)
        memcpy(file + 10 + n, data, bytes);
    *size = 10 + n + bytes;
    return file;
}

static bool npy_takes(const char *header, const void *data, size_t bytes, lip_shape *shape, float **x)
{
    char why[200];
    size_t size;
    unsigned char *file = npy_file(header, data, bytes, &size);
    bool ok = npy_read(file, size, shape, x, why, sizeof why);

    free(file);
    return ok;
}

START_TEST(npy_comes_back)
{
    lip_shape shape = SHAPE(2, 3), read;
    float x[6] = {1, -2, 0.1f, NAN, 1e-45f, 3e38f}, *y;
    char why[200];
    size_t size;
    unsigned char *file = npy_write(CODEC_FP32, &shape, x, &size);

    ck_assert_uint_eq((size - sizeof x) % 64, 0);
    ck_assert_msg(npy_read(file, size, &read, &y, why, sizeof why), "%s", why);
    ck_assert(lip_shape_equal(&shape, &read) && !memcmp(x, y, sizeof x));
    free(y);
    for (size_t n = 0; n < size; n++) { /* cut anywhere */
        unsigned char *part = malloc(n + !n);
        memcpy(part, file, n);
        ck_assert(!npy_read(part, n, &read, &y, why, sizeof why) && y == NULL);
        free(part);
    }
    free(file);
}
END_TEST

START_TEST(npy_of_other_kinds)
{
    const double columns[] = {1, 4, 2, 5, 3, 6};
    const int64_t one = -7;
    lip_shape shape;
    float *x;

    ck_assert(npy_takes("{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }\n", columns, sizeof columns, &shape, &x));
    for (int i = 0; i < 6; i++)
        ck_assert(x[i] == (float)(i + 1));
    free(x);
    ck_assert(npy_takes("{'shape': (1,), 'fortran_order': False, 'descr': '<i8'}", &one, 8, &shape, &x));
    ck_assert(x[0] == -7 && shape.rank == 1);
    free(x);
    ck_assert(npy_takes("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "\0\0\200\77", 4, &shape, &x));
    ck_assert(x[0] == 1 && shape.rank == 0);
    free(x);
}
END_TEST

START_TEST(npy_that_is_refused)
{
    static const char *const cases[] = {
        "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",  "{'descr': '<f4', 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", "{'descr': '<f4', 'fortran_order': False, 'shape': (1",
        "", "descr fortran_order shape"};
    lip_shape shape;
    float *x;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(!npy_takes(cases[i], "\0\0\200\77", 4, &shape, &x), "took %s", cases[i]);
}
END_TEST

/* ---- documents -------------------------------------------------------------------------------------------- */

START_TEST(tensor_data_is_cut_out)
{
    static const char text[] =
        "{\"data\":[9],\"inputs\":[{\"name\":\"a]\",\"data\" : [1,[2,\"]\"]],\"parameters\":{\"data\":[8]}},"
        "{\"d\\u0061ta\":[3],\"name\":\"data\"},{\"data\":4}],\"other\":{\"inputs\":[{\"data\":[7]}]}}";
    struct json_spans spans = {0};
    char why[200] = "";
    json_t *json = json_scan(text, strlen(text), &spans, why, sizeof why);

    ck_assert_msg(json != NULL, "%s", why);
    ck_assert_uint_eq(spans.n, 2);
    ck_assert_int_eq(strncmp(spans.span[0].at, "[1,[2,\"]\"]]", spans.span[0].bytes), 0);
    ck_assert_int_eq(strncmp(spans.span[1].at, "[3]", spans.span[1].bytes), 0);
    char *rest = json_dumps(json, JSON_COMPACT);
    ck_assert_str_eq(rest, "{\"data\":[9],\"inputs\":[{\"name\":\"a]\",\"data\":[0],\"parameters\":{\"data\":[8]}},"
                           "{\"data\":[1],\"name\":\"data\"},{\"data\":4}],\"other\":{\"inputs\":[{\"data\":[7]}]}}");
    free(rest);
    json_decref(json);
}
END_TEST

START_TEST(documents_that_are_none)
{
    static const char *const cases[] = {"", "{", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{\"inputs\":[{\"data\":[1,2}]}", "{\"inputs\":[{\"data\":[",
                                        "{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}", "[1] x", "{\"inputs\":[{\"data\":[1]]}"};
    char why[200];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_spans spans = {0};
        size_t n = strlen(cases[i]);
        char *copy = malloc(n + !n);
        memcpy(copy, cases[i], n);
        json_t *json = json_scan(copy, n, &spans, why, sizeof why);
        ck_assert_msg(json == NULL, "took %s", cases[i]);
        ck_assert_uint_gt(strlen(why), 0);
        free(copy);
    }
}
END_TEST

START_TEST(the_place_of_a_mistake_counts_what_was_cut)
{
    static const char text[] = "{\"inputs\":[{\"data\":[1,2,3,4,5,6,7,8]}],\n \"x\":?}";
    struct json_spans spans = {0};
    char why[200];

    ck_assert_ptr_null(json_scan(text, strlen(text), &spans, why, sizeof why));
    ck_assert_msg(strstr(why, "line 2") != NULL, "%s", why);
}
END_TEST

START_TEST(nesting_is_limited)
{
    char deep[2 * JSON_DEPTH + 3], why[200];
    json_t *json;

    memset(deep, '[', JSON_DEPTH);
    memset(deep + JSON_DEPTH, ']', JSON_DEPTH);
    ck_assert_ptr_nonnull(json = json_scan(deep, 2 * JSON_DEPTH, NULL, why, sizeof why));
    json_decref(json);
    memset(deep, '[', JSON_DEPTH + 1);
    memset(deep + JSON_DEPTH + 1, ']', JSON_DEPTH + 1);
    ck_assert_ptr_null(json_scan(deep, 2 * JSON_DEPTH + 2, NULL, why, sizeof why));
}
END_TEST

/* A document is written as jansson reads it, and each of its real numbers as the shortest that is the same. */
START_TEST(documents_are_short_and_read_back)
{
    static const char document[] = "{\"a\":[1,-2,9223372036854775807,-9223372036854775808,true,false,null,{},[],\"\"],"
                                   "\"\\\"\\\\\\u0001\303\251\":\"\\u001f \\\" /\",\"r\":[1.0,-0.0,0.99,1e-7,1e300,123456789012.0,0.1,5e-324]}";
    json_t *json = json_loads(document, 0, NULL), *number, *back;
    char *text = document_text(json), why[40];

    ck_assert_str_eq(text, document);
    json_decref(json);
    free(text);
    for (int i = 0; i < 100000; i++) {
        uint64_t bits = draw();
        double x;
        size_t digits = 0;

        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x))
            continue;
        text = document_text(number = json_real(x));
        ck_assert_msg((back = json_loads(text, JSON_DECODE_ANY, NULL)) && json_equal(number, back), "%s", text);
        for (const char *c = text; *c && *c != 'e'; c++)
            digits += (*c > '0' || digits) && *c <= '9' && *c != '.';
        snprintf(why, sizeof why, "%.15g", x);
        ck_assert_msg(strtod(why, NULL) != x || digits <= 16, "%s", text); /* 16: the zero of "….0" */
        json_decref(number);
        json_decref(back);
        free(text);
    }
    ck_assert_ptr_null(document_text(NULL));
}
END_TEST

/* FIPS 180-4's examples. */
START_TEST(sha256_is_the_standard_one)
{
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    char sum[65], *million = malloc(1000000);

    sha256_text("abc", 3, sum);
    ck_assert_str_eq(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_text(two, strlen(two), sum);
    ck_assert_str_eq(sum, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(million, 'a', 1000000);
    sha256_text(million, 1000000, sum);
    ck_assert_str_eq(sum, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("codec");
    TCase *t = tcase_create("codec");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_written_number_reads_back);
    tcase_add_test(t, a_written_number_is_shortest);
    tcase_add_test(t, numbers_look_as_people_write_them);
    tcase_add_test(t, any_decimal_is_rounded_once);
    tcase_add_test(t, midpoints_go_to_even);
    tcase_add_test(t, edges_of_the_range);
    tcase_add_test(t, what_is_no_number);
    tcase_add_test(t, commas_of_another_kind_end_a_row);
    tcase_add_test(t, arrays_are_flat_or_nested_to_the_shape);
    tcase_add_test(t, arrays_of_another_shape_are_refused);
    tcase_add_test(t, arrays_that_are_no_json_are_refused);
    tcase_add_test(t, non_finite_numbers_are_words);
    tcase_add_test(t, integers_stay_in_their_range);
    tcase_add_test(t, bytes_of_every_datatype);
    tcase_add_test(t, npy_comes_back);
    tcase_add_test(t, npy_of_other_kinds);
    tcase_add_test(t, npy_that_is_refused);
    tcase_add_test(t, tensor_data_is_cut_out);
    tcase_add_test(t, documents_that_are_none);
    tcase_add_test(t, the_place_of_a_mistake_counts_what_was_cut);
    tcase_add_test(t, nesting_is_limited);
    tcase_add_test(t, documents_are_short_and_read_back);
    tcase_add_test(t, sha256_is_the_standard_one);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)

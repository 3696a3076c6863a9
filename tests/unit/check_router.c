/* check_router.c: which line of a table serves a path, and which paths serve nobody. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "check_main.h"
#include "router.h"

static void handle(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)ctx;
    (void)rq;
    (void)rp;
}

static const struct route table[] = {
    {"GET", "/", handle, 0, NULL},
    {"GET", "/v2", handle, 0, NULL},
    {"GET", "/v2/models", handle, 0, NULL},
    {"POST", "/v2/models", handle, 0, NULL},
    {"GET", "/v2/models/{m}", handle, 0, NULL},
    {"PUT", "/v2/models/{m}", handle, 0, NULL},
    {"DELETE", "/v2/models/{m}", handle, 0, NULL},
    {"GET", "/v2/models/stats", handle, 0, NULL},
    {"POST", "/v2/models/{m}/infer", handle, 0, NULL},
    {"POST", "/v2/models/{m}/versions/{v}/infer", handle, 0, NULL},
    {"GET", "/v2/models/{m}/layers/{l}", handle, 0, NULL},
    {"GET", "/v2/models/{m}/layers/{l}/{inner}", handle, 0, NULL},
    {"GET", "/v2/models/{m}/layers/{l}/values", handle, 0, NULL},
    {"GET", "/v2/models/{m}/layers/{l}/{inner}/values", handle, 0, NULL},
    {"GET", "/v2/models/{m}/weights/{l}/{inner}/{variable}", handle, 0, NULL},
    {0},
};

static const struct {
    const char *method, *target, *prefix;
    enum route_found found;
    const char *template; /* or the Allow of ROUTE_OTHER_METHOD */
    const char *param[4];
} cases[] = {
    {"GET", "/", "", ROUTE_FOUND, "/", {NULL}},
    {"GET", "/v2", "", ROUTE_FOUND, "/v2", {NULL}},
    {"GET", "/v2/", "", ROUTE_FOUND, "/v2", {NULL}},
    {"GET", "/v2//", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "//v2", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "v2", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "*", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "/v3", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "/v2/models/a", "", ROUTE_FOUND, "/v2/models/{m}", {"a"}},
    {"GET", "/v2/models/a/", "", ROUTE_FOUND, "/v2/models/{m}", {"a"}},
    {"GET", "/v2/models//", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "/v2/models/stats", "", ROUTE_FOUND, "/v2/models/stats", {NULL}},
    {"GET", "/%76%32/models/%61", "", ROUTE_FOUND, "/v2/models/{m}", {"a"}},
    {"POST", "/v2/models/a.b-c_D9/infer", "", ROUTE_FOUND, "/v2/models/{m}/infer", {"a.b-c_D9"}},
    {"POST", "/v2/models/a/versions/12/infer", "", ROUTE_FOUND, "/v2/models/{m}/versions/{v}/infer", {"a", "12"}},
    {"GET", "/v2/models/a/layers/d%C3%A9%20x", "", ROUTE_FOUND, "/v2/models/{m}/layers/{l}", {"a", "d\xc3\xa9 x"}},
    {"GET", "/v2/models/a/layers/b/c", "", ROUTE_FOUND, "/v2/models/{m}/layers/{l}/{inner}", {"a", "b", "c"}},
    {"GET", "/v2/models/a/layers/b/c/d%20/e/", "", ROUTE_FOUND, "/v2/models/{m}/layers/{l}/{inner}", {"a", "b", "c/d /e"}},
    {"GET", "/v2/models/a/layers/b/values", "", ROUTE_FOUND, "/v2/models/{m}/layers/{l}/values", {"a", "b"}},
    {"GET", "/v2/models/a/layers/b/c/values", "", ROUTE_FOUND, "/v2/models/{m}/layers/{l}/{inner}/values", {"a", "b", "c"}},
    {"GET", "/v2/models/a/layers/b/c/%C3%A9/d/values", "", ROUTE_FOUND, "/v2/models/{m}/layers/{l}/{inner}/values", {"a", "b", "c/\xc3\xa9/d"}},
    {"GET", "/v2/models/a/weights/b/c/kernel", "", ROUTE_FOUND, "/v2/models/{m}/weights/{l}/{inner}/{variable}", {"a", "b", "c", "kernel"}},
    {"GET", "/v2/models/a/weights/b/c/d/kernel", "", ROUTE_FOUND, "/v2/models/{m}/weights/{l}/{inner}/{variable}", {"a", "b", "c/d", "kernel"}},
    {"GET", "/v2/models/a/weights/b/kernel", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "/v2/models/a/layers/b/c//d", "", ROUTE_NONE, NULL, {NULL}},
    {"GET", "/v2/models/a/layers/b/c/../d", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"POST", "/v2/models/a/layers/b/c/d", "", ROUTE_OTHER_METHOD, "GET, HEAD", {NULL}},
    {"PATCH", "/v2/models", "", ROUTE_OTHER_METHOD, "GET, HEAD, POST", {NULL}},
    {"PATCH", "/v2/models/a", "", ROUTE_OTHER_METHOD, "GET, HEAD, PUT, DELETE", {NULL}},
    {"GET", "/v2/models/a/infer", "", ROUTE_OTHER_METHOD, "POST", {NULL}},
    {"PUT", "/v2/models/stats", "", ROUTE_OTHER_METHOD, "GET, HEAD", {NULL}}, /* a model cannot be called so */
    {"GET", "/base/v2", "/base", ROUTE_FOUND, "/v2", {NULL}},
    {"GET", "/base", "/base", ROUTE_FOUND, "/", {NULL}},
    {"GET", "/basement", "/base", ROUTE_NONE, NULL, {NULL}},
    {"GET", "/v2", "/base", ROUTE_NONE, NULL, {NULL}},
    {"GET", "/v2/models/a%2Fb", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%2fb", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%00", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/.", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/..", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/%2e%2E", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/../v2", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%0A", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%7f", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%4", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%zz", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%20b", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/-a", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/.a", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a%C3%A9", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/v2/models/a/layers/%C3", "", ROUTE_BAD_NAME, NULL, {NULL}},         /* cut short */
    {"GET", "/v2/models/a/layers/%C0%80", "", ROUTE_BAD_NAME, NULL, {NULL}},      /* a long form of NUL */
    {"GET", "/v2/models/a/layers/%ED%A0%80", "", ROUTE_BAD_NAME, NULL, {NULL}},   /* half a surrogate pair */
    {"GET", "/v2/models/a/layers/%F4%90%80%80", "", ROUTE_BAD_NAME, NULL, {NULL}}, /* beyond U+10FFFF */
    {"POST", "/v2/models/a/versions/0/infer", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"POST", "/v2/models/a/versions/-1/infer", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"POST", "/v2/models/a/versions/x/infer", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"POST", "/v2/models/a/versions/99999999999999999999/infer", "", ROUTE_BAD_NAME, NULL, {NULL}},
    {"GET", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18", "", ROUTE_NONE, NULL, {NULL}},
};

START_TEST(finds_what_the_table_says)
{
    struct match match;
    enum route_found found = router_find(table, cases[_i].method, cases[_i].target, cases[_i].prefix, &match);

    ck_assert_msg(found == cases[_i].found, "%s %s: %d", cases[_i].method, cases[_i].target, (int)found);
    if (found == ROUTE_FOUND)
        ck_assert_str_eq(match.route->template, cases[_i].template);
    if (found == ROUTE_OTHER_METHOD)
        ck_assert_str_eq(match.allow, cases[_i].template);
    if (found == ROUTE_BAD_NAME)
        ck_assert(match.why[0]);
    for (size_t i = 0; i < 4 && cases[_i].param[i]; i++)
        ck_assert_str_eq(match.param[i], cases[_i].param[i]);
    free(match.memory);
}
END_TEST

START_TEST(a_name_has_at_most_128_letters)
{
    char target[200] = "/v2/models/";
    struct match match;

    memset(target + 11, 'a', 128);
    ck_assert_int_eq(router_find(table, "GET", target, "", &match), ROUTE_FOUND);
    free(match.memory);
    target[11 + 128] = 'a';
    ck_assert_int_eq(router_find(table, "GET", target, "", &match), ROUTE_BAD_NAME);
    free(match.memory);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("router");
    TCase *every = tcase_create("router");

    tcase_add_loop_test(every, finds_what_the_table_says, 0, sizeof cases / sizeof *cases);
    tcase_add_test(every, a_name_has_at_most_128_letters);
    suite_add_tcase(s, every);
    return s;
}

CHECK_MAIN(suite)

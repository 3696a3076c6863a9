/* check_keys.c: which scope a route asks for, which keys have it, which files are refused. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_main.h"
#include "http.h"
#include "keys.h"

static const struct {
    const char *method, *template;
    enum scope scope;
} cases[] = {
    {"GET", "/health", SCOPE_NONE},
    {"GET", "/v2/health/live", SCOPE_NONE},
    {"GET", "/v2/health/ready", SCOPE_NONE},
    {"GET", "/openapi.json", SCOPE_NONE},
    {"GET", "/docs", SCOPE_NONE},
    {"GET", "/metrics", SCOPE_METRICS},
    {"GET", "/v2", SCOPE_INFER},
    {"GET", "/v2/models", SCOPE_INFER},
    {"GET", "/v2/models/stats", SCOPE_INFER},
    {"POST", "/v2/repository/index", SCOPE_INFER},
    {"GET", "/v2/models/{m}", SCOPE_INFER},
    {"GET", "/v2/models/{m}/ready", SCOPE_INFER},
    {"GET", "/v2/models/{m}/versions/{v}", SCOPE_INFER},
    {"GET", "/v2/models/{m}/versions/{v}/config", SCOPE_INFER},
    {"GET", "/v2/models/{m}/lipschitz", SCOPE_INFER},
    {"POST", "/v2/models/{m}/infer", SCOPE_INFER},
    {"POST", "/v2/models/{m}/versions/{v}/infer", SCOPE_INFER},
    {"POST", "/v2/models/{m}/labels/{label}/infer", SCOPE_INFER},
    {"POST", "/v2/models/{m}/evaluate", SCOPE_INFER},
    {"GET", "/v2/models/{m}/weights", SCOPE_TRAIN},
    {"GET", "/v2/models/{m}/versions/{v}/weights", SCOPE_TRAIN},
    {"GET", "/v2/models/{m}/versions/{v}/export", SCOPE_TRAIN},
    {"PUT", "/v2/models/{m}/weights", SCOPE_TRAIN},
    {"GET", "/v2/models/{m}/checkpoints", SCOPE_TRAIN},
    {"POST", "/v2/models/{m}/checkpoints/{c}/restore", SCOPE_TRAIN},
    {"PUT", "/v2/models/{m}/training", SCOPE_TRAIN},
    {"POST", "/v2/models/{m}/train_step", SCOPE_TRAIN},
    {"POST", "/v2/models/{m}/condense", SCOPE_TRAIN},
    {"POST", "/v2/models/{m}/versions", SCOPE_TRAIN},
    {"DELETE", "/v2/models/{m}/versions/{v}", SCOPE_TRAIN},
    {"PUT", "/v2/models/{m}/labels/{label}", SCOPE_TRAIN},
    {"PATCH", "/v2/models/{m}/layers/{l}", SCOPE_TRAIN},
    {"POST", "/v2/models/{m}/versions/{v}/train_step", SCOPE_TRAIN}, /* of the head's number it is the head's */
    {"PUT", "/v2/models/{m}/labels/{label}/weights", SCOPE_TRAIN},
    {"PATCH", "/v2/models/{m}/versions/{v}/layers/{l}", SCOPE_TRAIN},
    {"POST", "/v2/models/{m}/labels/{label}/tighten", SCOPE_TRAIN},
    {"GET", "/v2/datasets/{d}", SCOPE_TRAIN},
    {"POST", "/v2/jobs", SCOPE_TRAIN},
    {"POST", "/v2/models", SCOPE_ADMIN},
    {"PUT", "/v2/models/{m}", SCOPE_ADMIN},
    {"PATCH", "/v2/models/{m}", SCOPE_ADMIN},
    {"DELETE", "/v2/models/{m}", SCOPE_ADMIN},
    {"PATCH", "/v2/models/{m}/config", SCOPE_ADMIN},
    {"PATCH", "/v2/models/{m}/versions/{v}/config", SCOPE_ADMIN},
    {"POST", "/v2/repository/models/{m}/load", SCOPE_ADMIN},
    {"GET", "/v2/config", SCOPE_ADMIN},
    {"GET", "/v2/logging", SCOPE_ADMIN},
    {"POST", "/v2/models/{m}/something/new", SCOPE_ADMIN},
    {"POST", "/something/new", SCOPE_ADMIN},
};

START_TEST(routes_ask_for_the_scope_of_the_contract)
{
    ck_assert_msg(scope_of(cases[_i].method, cases[_i].template) == cases[_i].scope, "%s %s: %d", cases[_i].method,
                  cases[_i].template, (int)scope_of(cases[_i].method, cases[_i].template));
}
END_TEST

START_TEST(nothing_that_changes_is_open)
{
    for (const struct route *r = routes; r->method; r++)
        if (strcmp(r->method, "GET"))
            ck_assert_msg(scope_of(r->method, r->template) != SCOPE_NONE, "%s %s", r->method, r->template);
}
END_TEST

static char file[] = "/tmp/check-keys-XXXXXX";

static void write_file(const char *text)
{
    FILE *out = fopen(file, "w");

    fputs(text, out);
    fclose(out);
}

static void set_up(void)
{
    strcpy(file, "/tmp/check-keys-XXXXXX");
    close(mkstemp(file));
}

static void tear_down(void)
{
    unlink(file);
}

/* The published hashes of "abc" and of the empty text (FIPS 180-2). */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"

START_TEST(keys_allow_what_their_scopes_say)
{
    char why[300];
    struct keys *k;

    write_file("{\"keys\":[{\"name\":\"a\",\"sha256\":\"" ABC "\",\"scopes\":[\"train\"]},"
               "{\"name\":\"b\",\"sha256\":\"" EMPTY "\",\"scopes\":[\"metrics\"]}]}");
    k = keys_open(file, false, why, sizeof why);
    ck_assert_ptr_nonnull(k);
    ck_assert_int_eq(keys_check(k, NULL, NULL, SCOPE_NONE), KEY_FINE);
    ck_assert_int_eq(keys_check(k, NULL, NULL, SCOPE_INFER), KEY_UNKNOWN);
    ck_assert_int_eq(keys_check(k, "Bearer abc", NULL, SCOPE_TRAIN), KEY_FINE);
    ck_assert_int_eq(keys_check(k, "bearer  abc", NULL, SCOPE_INFER), KEY_FINE);
    ck_assert_int_eq(keys_check(k, NULL, "abc", SCOPE_INFER), KEY_FINE);
    ck_assert_int_eq(keys_check(k, NULL, "abc", SCOPE_ADMIN), KEY_FORBIDDEN);
    ck_assert_int_eq(keys_check(k, NULL, "abc", SCOPE_METRICS), KEY_FORBIDDEN);
    ck_assert_int_eq(keys_check(k, NULL, "", SCOPE_METRICS), KEY_FINE);
    ck_assert_int_eq(keys_check(k, "Bearer abd", NULL, SCOPE_INFER), KEY_UNKNOWN);
    ck_assert_int_eq(keys_check(k, "Basic abc", NULL, SCOPE_INFER), KEY_UNKNOWN);
    ck_assert_int_eq(keys_check(k, "abc", NULL, SCOPE_INFER), KEY_UNKNOWN);
    write_file("{\"keys\":[{\"name\":\"a\",\"sha256\":\"" ABC "\",\"scopes\":[\"admin\"]}]}");
    ck_assert(keys_reload(k, why, sizeof why));
    ck_assert_int_eq(keys_check(k, NULL, "abc", SCOPE_METRICS), KEY_FINE);
    write_file("{");
    ck_assert(!keys_reload(k, why, sizeof why));
    ck_assert_int_eq(keys_check(k, NULL, "abc", SCOPE_ADMIN), KEY_FINE);
    keys_close(k);
}
END_TEST

static const struct {
    const char *text, *says;
} refused[] = {
    {"{", ":1: "},
    {"[]", "wanted {\"keys\""},
    {"{\"keys\":[]}", "wanted {\"keys\""},
    {"{\"keys\":[1]}", "/keys/0: found"},
    {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"" ABC "\"}]}", "name, sha256 and scopes"},
    {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"abc\",\"scopes\":[\"infer\"]}]}", "64 hexadecimal digits"},
    {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"" ABC "\",\"scopes\":[]}]}", "found none"},
    {"{\"keys\":[{\"name\":\"a\",\"sha256\":\"" ABC "\",\"scopes\":[\"all\"]}]}", "infer, train, admin or metrics"},
};

START_TEST(wrong_files_are_refused_in_one_line)
{
    char why[300] = "";

    write_file(refused[_i].text);
    ck_assert_ptr_null(keys_open(file, false, why, sizeof why));
    ck_assert_msg(strstr(why, refused[_i].says) && !strchr(why, '\n'), "%s", why);
}
END_TEST

START_TEST(a_file_for_others_to_read_is_refused)
{
    char why[300] = "";
    struct keys *k;

    write_file("{\"keys\":[{\"name\":\"a\",\"sha256\":\"" ABC "\",\"scopes\":[\"infer\"]}]}");
    chmod(file, 0640);
    ck_assert_ptr_null(keys_open(file, false, why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "found 0640, wanted 0600"));
    ck_assert_ptr_nonnull(k = keys_open(file, true, why, sizeof why));
    keys_close(k);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("keys");
    TCase *every = tcase_create("keys");

    tcase_add_checked_fixture(every, set_up, tear_down);
    tcase_add_loop_test(every, routes_ask_for_the_scope_of_the_contract, 0, sizeof cases / sizeof *cases);
    tcase_add_test(every, nothing_that_changes_is_open);
    tcase_add_test(every, keys_allow_what_their_scopes_say);
    tcase_add_loop_test(every, wrong_files_are_refused_in_one_line, 0, sizeof refused / sizeof *refused);
    tcase_add_test(every, a_file_for_others_to_read_is_refused);
    suite_add_tcase(s, every);
    return s;
}

CHECK_MAIN(suite)

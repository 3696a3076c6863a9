/* check_guard.c: headers that two readers could cut differently, Host values, Accept values. */
#include <check.h>
#include <string.h>

#include "check_main.h"
#include "guard.h"

struct header {
    const char *name, *value;
};

static const struct {
    bool http_1_0;
    const char *wrong; /* part of the reason; NULL: fine */
    struct header header[4];
} cases[] = {
    {false, NULL, {{"Host", "localhost"}}},
    {true, NULL, {{NULL, NULL}}},
    {false, "no Host", {{NULL, NULL}}},
    {false, "two Host", {{"Host", "a"}, {"host", "a"}}},
    {false, "names no host", {{"Host", "a b"}}},
    {false, NULL, {{"Host", "a"}, {"Content-Length", "5"}}},
    {false, NULL, {{"Host", "a"}, {"Content-Length", "5 \t"}}},
    {false, "two Content-Length", {{"Host", "a"}, {"Content-Length", "5"}, {"content-length", "5"}}},
    {false, "no number", {{"Host", "a"}, {"Content-Length", "+5"}}},
    {false, "no number", {{"Host", "a"}, {"Content-Length", "5, 5"}}},
    {false, "no number", {{"Host", "a"}, {"Content-Length", ""}}},
    {false, "no number", {{"Host", "a"}, {"Content-Length", "0x5"}}},
    {false, "no number", {{"Host", "a"}, {"Content-Length", "1000000000000000000000"}}},
    {false, "both", {{"Host", "a"}, {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}},
    {false, NULL, {{"Host", "a"}, {"Transfer-Encoding", "Chunked"}}},
    {false, "other than chunked", {{"Host", "a"}, {"Transfer-Encoding", "gzip, chunked"}}},
    {false, "control character", {{"Host", "a"}, {"Transfer-Encoding", "\x0b" "chunked"}}},
    {false, "other than chunked", {{"Host", "a"}, {"Transfer-Encoding", ""}}},
    {false, "two Transfer-Encoding", {{"Host", "a"}, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}}},
    {true, "HTTP/1.0", {{"Transfer-Encoding", "chunked"}}},
    {false, "no token", {{"Host", "a"}, {"Content-Length ", "5"}}},
    {false, "no token", {{"Host", "a"}, {"", "5"}}},
    {false, "no token", {{"Host", "a"}, {"a(b", "5"}}},
    {false, "control character", {{"Host", "a"}, {"X", "a\rb"}}},
    {false, "two Origin", {{"Host", "a"}, {"Origin", "null"}, {"Origin", "null"}}},
};

static void show(struct guard *g, const struct header *h)
{
    guard_header(g, h->name, strlen(h->name), h->value, strlen(h->value));
}

START_TEST(framing_has_one_meaning)
{
    struct guard g = {0};
    const char *wrong;

    for (size_t i = 0; i < 4 && cases[_i].header[i].name; i++)
        show(&g, &cases[_i].header[i]);
    wrong = guard_end(&g, cases[_i].http_1_0);
    ck_assert_msg(cases[_i].wrong ? wrong && strstr(wrong, cases[_i].wrong) : !wrong, "case %d: %s", _i, wrong ? wrong : "fine");
}
END_TEST

START_TEST(a_nul_in_a_header_is_refused)
{
    struct guard g = {0};

    guard_header(&g, "Host", 4, "a", 1);
    guard_header(&g, "X-Y", 3, "a\0b", 3);
    ck_assert_ptr_nonnull(guard_end(&g, false));
}
END_TEST

START_TEST(collects_what_admission_needs)
{
    static const struct header headers[] = {{"HOST", "[::1]:8000"},        {"content-length", "12"},
                                            {"Expect", "100-Continue"},    {"Accept", "*/*"},
                                            {"x-request-id", "abc"},       {"Content-Encoding", "gzip"},
                                            {"Origin", "http://localhost"}};
    struct guard g = {0};

    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        show(&g, &headers[i]);
    ck_assert_ptr_null(guard_end(&g, false));
    ck_assert_uint_eq(g.host_length, 5);
    ck_assert_uint_eq(g.length, 12);
    ck_assert(g.expect && g.has_length && !g.chunked);
    ck_assert_str_eq(g.id, "abc");
    ck_assert_str_eq(g.encoding, "gzip");
    ck_assert_str_eq(g.origin, "http://localhost");
}
END_TEST

START_TEST(hosts_are_cut_at_the_port)
{
    static const struct {
        const char *value;
        size_t length;
    } hosts[] = {{"localhost", 9}, {"localhost:80", 9}, {"localhost:", 9}, {"[::1]", 5},     {"[::1]:80", 5}, {"127.0.0.1:1", 9},
                 {"", 0},          {"a:b", 0},          {"a/b", 0},        {"user@host", 0}, {"[::1", 0},     {"[]", 0},
                 {"[::1]x", 0},    {"a b", 0},          {"a:80:80", 0}};

    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        ck_assert_msg(guard_host(hosts[i].value) == hosts[i].length, "%s", hosts[i].value);
}
END_TEST

START_TEST(accept_names_the_type_with_q_above_0)
{
    static const char type[] = "application/problem+json";

    ck_assert(guard_accepts("application/problem+json", type));
    ck_assert(guard_accepts("text/html, Application/Problem+JSON;q=0.1", type));
    ck_assert(guard_accepts("application/json , application/problem+json ; q=1", type));
    ck_assert(!guard_accepts("application/problem+json;q=0", type));
    ck_assert(!guard_accepts("application/problem+json; q=0.0", type));
    ck_assert(!guard_accepts("*/*", type));
    ck_assert(!guard_accepts("application/*", type));
    ck_assert(!guard_accepts("application/problem+jsonx", type));
    ck_assert(!guard_accepts("", type));
    ck_assert(!guard_accepts(NULL, type));
}
END_TEST

START_TEST(the_most_exact_range_says_how_much_a_type_is_wanted)
{
    static const struct {
        const char *accept;
        double json, npy;
    } accepts[] = {
        {"*/*", 1, 1},
        {"application/*;q=0.5", 0.5, 0.5},
        {"text/*", 0, 0},
        {"application/x-npy", 0, 1},
        {"application/x-npy;q=0, application/json", 1, 0},
        {"application/json;q=0.2, application/x-npy;q=0.9", 0.2, 0.9},
        {"*/*;q=0.1, APPLICATION/*;q=0.3, application/json ; q=0.7", 0.7, 0.3},
        {"application/json;q=0, */*", 0, 1},
        {"application", 0, 0},
        {"", 0, 0},
    };

    for (size_t i = 0; i < sizeof accepts / sizeof *accepts; i++) {
        ck_assert_msg(guard_quality(accepts[i].accept, "application/json") == accepts[i].json, "%s", accepts[i].accept);
        ck_assert_msg(guard_quality(accepts[i].accept, "application/x-npy") == accepts[i].npy, "%s", accepts[i].accept);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("guard");
    TCase *every = tcase_create("guard");

    tcase_add_loop_test(every, framing_has_one_meaning, 0, sizeof cases / sizeof *cases);
    tcase_add_test(every, a_nul_in_a_header_is_refused);
    tcase_add_test(every, collects_what_admission_needs);
    tcase_add_test(every, hosts_are_cut_at_the_port);
    tcase_add_test(every, accept_names_the_type_with_q_above_0);
    tcase_add_test(every, the_most_exact_range_says_how_much_a_type_is_wanted);
    suite_add_tcase(s, every);
    return s;
}

CHECK_MAIN(suite)

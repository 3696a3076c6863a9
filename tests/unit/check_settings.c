/* check_settings.c: four sources, one winner; every refusal says where, what was found and what is wanted. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_main.h"
#include "settings.h"

static char file[] = "/tmp/check-settings-XXXXXX";

static void write_file(const char *text)
{
    FILE *out = fopen(file, "w");

    fputs(text, out);
    fclose(out);
}

static void set_up(void)
{
    strcpy(file, "/tmp/check-settings-XXXXXX");
    close(mkstemp(file));
    write_file("{}");
    unsetenv("ONELIP_LISTEN"); /* whoever runs this may have it */
}

static void tear_down(void)
{
    unlink(file);
}

/* Read --config FILE and the flags that follow, up to NULL. stderr goes to said. */
static char said[2048];
static char *flags[20];
static bool read_with(struct config *c, int *status, ...)
{
    static char name[] = "onelipd", config[] = "--config";
    FILE *err = tmpfile();
    int n = 3, saved = dup(STDERR_FILENO);
    size_t length;
    va_list args;
    bool good;

    flags[0] = name, flags[1] = config, flags[2] = file;
    va_start(args, status);
    while ((flags[n] = va_arg(args, char *)))
        n++;
    va_end(args);
    fflush(stderr);
    dup2(fileno(err), STDERR_FILENO);
    good = config_read(c, n, flags, status);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(err);
    length = fread(said, 1, sizeof said - 1, err);
    said[length] = '\0';
    fclose(err);
    return good;
}

START_TEST(defaults)
{
    struct config c;
    int status;

    setenv("STATE_DIRECTORY", "/some/state:/other", 1);
    ck_assert(read_with(&c, &status, NULL));
    ck_assert_uint_eq(c.n_listen, 1);
    ck_assert_str_eq(c.listen[0], "127.0.0.1:8000");
    ck_assert(!c.listen_given && !c.insecure);
    ck_assert_str_eq(c.state_dir, "/some/state");
    ck_assert_int_eq(c.max_body_bytes, 67108864);
    ck_assert_int_ge(c.threads, 1);
    ck_assert_double_eq(c.request_timeout_seconds, 30);
    ck_assert_str_eq(c.id, "onelipd");
    ck_assert_uint_eq(c.n_allowed_hosts, 0);
    config_clear(&c);
}
END_TEST

START_TEST(state_goes_where_the_caller_may_write)
{
    struct config c;
    int status;

    unsetenv("STATE_DIRECTORY");
    setenv("XDG_STATE_HOME", "/xdg", 1);
    ck_assert(read_with(&c, &status, NULL));
    ck_assert_str_eq(c.state_dir, geteuid() ? "/xdg/onelip" : "/var/lib/onelip");
    config_clear(&c);
    ck_assert(read_with(&c, &status, "--state-dir", "/mine", NULL));
    ck_assert_str_eq(c.state_dir, "/mine");
    config_clear(&c);
}
END_TEST

START_TEST(a_flag_wins_over_the_environment_and_that_over_the_file)
{
    struct config c;
    json_t *json;
    int status;

    write_file("{\"threads\": 1, \"id\": \"file\", \"max_body_bytes\": 5000, \"listen\": [\"127.0.0.1:1\", \"unix:a\"],\n"
               " \"insecure\": true, \"drain_delay_seconds\": 1.5}");
    setenv("ONELIP_THREADS", "2", 1);
    setenv("ONELIP_ID", "environment", 1);
    ck_assert(read_with(&c, &status, "--threads=3", "--listen", "[::1]:0", "--listen=localhost:7", NULL));
    ck_assert_int_eq(c.threads, 3);
    ck_assert_str_eq(c.id, "environment");
    ck_assert_int_eq(c.max_body_bytes, 5000);
    ck_assert_double_eq(c.drain_delay_seconds, 1.5);
    ck_assert(c.insecure && c.listen_given);
    ck_assert_uint_eq(c.n_listen, 2); /* the flags', not the file's */
    ck_assert_str_eq(c.listen[0], "[::1]:0");
    ck_assert_str_eq(c.listen[1], "localhost:7");
    json = config_json(&c, true);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "threads"), "source")), "flag");
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "id"), "source")), "environment");
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "insecure"), "source")), "file");
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "log_level"), "source")), "default");
    json_decref(json);
    config_clear(&c);
}
END_TEST

static const struct {
    const char *file, *flag, *value; /* value NULL: the flag alone */
    int status;
    const char *says[3];
} refused[] = {
    {"{", NULL, NULL, 78, {":1: "}},
    {"[]", NULL, NULL, 78, {"wanted one object"}},
    {"{\n\n \"thread\": 1}", NULL, NULL, 78, {":3: thread: ", "no setting"}},
    {"{\"id\": \"a\\\"threads\\\"\",\n \"threads\": \"many\"}", NULL, NULL, 78, {":2: threads: found \"many\", wanted an integer"}},
    {"{\"threads\": 1.0}", NULL, NULL, 78, {":1: threads: found 1.0, wanted an integer"}},
    {"{\"threads\": 100000}", NULL, NULL, 78, {"found 100000, wanted an integer from 0 to 256"}},
    {"{\"threads\": 1,\n \"threads\": 2}", NULL, NULL, 78, {":2: "}},
    {"{\"listen\": \"127.0.0.1:1\"}", NULL, NULL, 78, {"listen: found \"127.0.0.1:1\", wanted an array"}},
    {"{\"listen\": [\"nowhere\"]}", NULL, NULL, 78, {"wanted ADDR:PORT or unix:PATH"}},
    {"{\"insecure\": 1}", NULL, NULL, 78, {"insecure: found 1, wanted true or false"}},
    {"{\"log_level\": \"loud\"}", NULL, NULL, 78, {"wanted error|warning|info|debug"}},
    {"{\"check_config\": true}", NULL, NULL, 78, {"no setting"}},
    {"{\"request_timeout_seconds\": 0}", NULL, NULL, 78, {"request_timeout_seconds: found 0, wanted a number from 0.001"}},
    {"{\"api_prefix\": \"base\"}", NULL, NULL, 78, {"begins with"}},
    {"{}", "--threads", "x", 64, {"--threads: found \"x\", wanted an integer"}},
    {"{}", "--threads", "+1", 64, {"--threads"}},
    {"{}", "--threads", " 1", 64, {"--threads"}},
    {"{}", "--request-timeout-seconds", "nan", 64, {"wanted a number"}},
    {"{}", "--request-timeout-seconds", "0x1p3", 64, {"wanted a number"}},
    {"{}", "--listen", "127.0.0.1:65536", 64, {"wanted ADDR:PORT"}},
    {"{}", "--listen", "127.0.0.1", 64, {"wanted ADDR:PORT"}},
    {"{}", "--listen", "::1:80", 64, {"wanted ADDR:PORT"}},
    {"{}", "--listen", "example.org:80", 64, {"wanted ADDR:PORT"}},
    {"{}", "--listen", "unix:", 64, {"wanted ADDR:PORT"}},
    {"{}", "--cors-origins", "https://a.example,b.example", 64, {"wanted http://HOST"}},
    {"{}", "--cors-origins", "https://a.example/", 64, {"wanted http://HOST"}},
    {"{}", "--cors-origins", "*", 64, {"wanted http://HOST"}},
    {"{}", "--log-format", "xml", 64, {"wanted auto|text|json"}},
    {"{}", "--nothing", NULL, 64, {"no such flag"}},
    {"{}", "stray", NULL, 64, {"no such flag"}},
    {"{}", "--id", NULL, 64, {"value is missing"}},
    {"{}", "--insecure=2", NULL, 64, {"wanted 1 or 0"}},
};

START_TEST(refusals_say_where_and_what)
{
    struct config c;
    int status = 0;

    setenv("STATE_DIRECTORY", "/state", 1);
    write_file(refused[_i].file);
    ck_assert(!read_with(&c, &status, refused[_i].flag, refused[_i].value, NULL));
    ck_assert_msg(status == refused[_i].status, "status %d: %s", status, said);
    for (size_t i = 0; i < 3 && refused[_i].says[i]; i++)
        ck_assert_msg(strstr(said, refused[_i].says[i]) != NULL, "\"%s\" is not in: %s", refused[_i].says[i], said);
    ck_assert_ptr_eq(strchr(said, '\n'), said + strlen(said) - 1); /* one line */
    if (refused[_i].status == 78 && refused[_i].file[0] == '{')
        ck_assert_int_eq(strncmp(said, file, strlen(file)), 0);
    config_clear(&c);
}
END_TEST

START_TEST(a_wrong_variable_is_wrong_configuration)
{
    struct config c;
    int status;

    setenv("ONELIP_MAX_BODY_BYTES", "10", 1);
    ck_assert(!read_with(&c, &status, NULL));
    ck_assert_int_eq(status, 78);
    ck_assert_ptr_nonnull(strstr(said, "ONELIP_MAX_BODY_BYTES: found \"10\", wanted an integer from 1024"));
    config_clear(&c);
}
END_TEST

START_TEST(reading_again_changes_what_is_mutable)
{
    struct config c;
    char why[500] = "";
    int status;

    write_file("{\"max_body_bytes\": 5000, \"threads\": 1, \"allowed_hosts\": [\"a\", \"b\"], \"log_level\": \"error\"}");
    ck_assert(read_with(&c, &status, "--checkpoint-seconds", "3", NULL));
    ck_assert(config_allows_host(&c, "A", 1) && !config_allows_host(&c, "ab", 2));
    write_file("{\"max_body_bytes\": 6000, \"threads\": 1, \"allowed_hosts\": [\"*\"], \"checkpoint_seconds\": 9}");
    ck_assert(config_reload(&c, why, sizeof why));
    ck_assert_int_eq(c.max_body_bytes, 6000);
    ck_assert_str_eq(c.log_level, "info");
    ck_assert_double_eq(c.checkpoint_seconds, 3); /* the flag still wins */
    ck_assert(config_allows_host(&c, "anything", 8));
    write_file("{\"max_body_bytes\": 7000, \"threads\": \"x\"}");
    ck_assert(!config_reload(&c, why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "threads"));
    ck_assert_int_eq(c.max_body_bytes, 6000); /* all or nothing */
    config_clear(&c);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("settings");
    TCase *every = tcase_create("settings");

    tcase_add_checked_fixture(every, set_up, tear_down);
    tcase_add_test(every, defaults);
    tcase_add_test(every, state_goes_where_the_caller_may_write);
    tcase_add_test(every, a_flag_wins_over_the_environment_and_that_over_the_file);
    tcase_add_loop_test(every, refusals_say_where_and_what, 0, sizeof refused / sizeof *refused);
    tcase_add_test(every, a_wrong_variable_is_wrong_configuration);
    tcase_add_test(every, reading_again_changes_what_is_mutable);
    suite_add_tcase(s, every);
    return s;
}

CHECK_MAIN(suite)

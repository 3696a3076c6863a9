/* check_main.h: the main of every test program on libcheck.
 *
 * A program includes this once, after its own headers, and defines
 *
 *     static Suite *suite(void)
 *
 * Every test case becomes one line of TAP on stdout. Limits: a test has 120 s unless CK_DEFAULT_TIMEOUT or
 * tcase_set_timeout says otherwise (machines that build packages are slow); CK_FORK=no for a debugger; CK_RUN_CASE=name
 * for one case alone.
 */
#ifndef CHECK_MAIN_H
#define CHECK_MAIN_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static Suite *suite(void);

/* golden_path: the path of a file in tests/golden/. Automake names the source tree in `srcdir`; by hand, run from its
 * top. The text is overwritten by the next call. */
__attribute__((unused)) static const char *golden_path(const char *name)
{
    static char path[1024];
    const char *top = getenv("srcdir");

    snprintf(path, sizeof path, "%s/tests/golden/%s", top ? top : ".", name);
    return path;
}

int main(void)
{
    SRunner *runner;
    int failed;

    setenv("CK_DEFAULT_TIMEOUT", "120", 0);
    runner = srunner_create(suite());
    srunner_set_tap(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif

/* check_main.h: the main of every test program on libcheck.
 *
 * A program includes this after its own headers and ends with CHECK_MAIN(suite), `suite` being a function that makes its
 * Suite. Every test case becomes one line of TAP on stdout. A test has 120 s (machines that build packages are slow)
 * unless CK_DEFAULT_TIMEOUT or tcase_set_timeout says otherwise; CK_FORK=no is for a debugger, CK_RUN_CASE=name runs one case.
 */
#ifndef CHECK_MAIN_H
#define CHECK_MAIN_H

#include <check.h>
#include <stdlib.h>

static inline int check_main(Suite *(*suite)(void))
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

#define CHECK_MAIN(suite)         \
    int main(void)                \
    {                             \
        return check_main(suite); \
    }

#endif

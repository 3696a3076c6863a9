/* fuzz_router.c: request targets. A path that is found has as many parameters as its template, and none is empty, steps up or
 * has a NUL or a control character; nothing is written beyond its end. */
#include <string.h>

#include "fuzz.h"
#include "router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"};
    const char *method = methods[size ? data[0] % 7 : 0];
    char *target = malloc(size + 1);
    struct match match;

    MUST(target);
    memcpy(target, data + (size > 0), size - (size > 0));
    target[size - (size > 0)] = '\0';
    for (int prefix = 0; prefix < 2; prefix++) {
        enum route_found found = router_find(routes, method, target, prefix ? "/api" : "", &match);
        if (found == ROUTE_FOUND) {
            size_t n = 0;
            MUST(match.route && !strcmp(match.route->method, method) && match.path);
            for (const char *at = match.route->template; (at = strchr(at, '{')); at++, n++) {
                const char *p = match.param[n];
                MUST(p && *p && strcmp(p, ".") && strcmp(p, ".."));
                for (const char *c = p; *c; c++)
                    MUST((unsigned char)*c >= 0x20 && *c != 0x7f);
            }
            MUST(n == MAX_PARAMS || !match.param[n]);
        } else if (found == ROUTE_OTHER_METHOD) {
            MUST(match.allow[0]);
        } else if (found == ROUTE_BAD_NAME) {
            MUST(match.why[0]);
        }
        free(match.memory);
    }
    free(target);
    return 0;
}

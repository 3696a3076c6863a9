/* fuzz_guard.c: header lines. What passes has one reading: at most one length, or chunks, and a host that is one. */
#include <string.h>
#include <strings.h>

#include "fuzz.h"
#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *line;
    struct guard g = {0};
    unsigned lengths = 0, codings = 0, hosts = 0;
    const char *wrong, *host = NULL;

    MUST(text);
    memcpy(text, data, size);
    text[size] = '\0';
    line = text;
    while (line < text + size) {
        size_t n = strlen(line), name = strcspn(line, "\n:");
        char *end = memchr(line, '\n', (size_t)(text + size - line)), *value;

        if (!end)
            end = text + size;
        *end = '\0';
        n = (size_t)(end - line);
        value = name < n && line[name] == ':' ? line + name + 1 : NULL;
        if (value)
            line[name] = '\0';
        name = value ? name : n;
        while (value && (*value == ' ' || *value == '\t'))
            value++;
        guard_header(&g, line, name, value, value ? (size_t)(end - value) : 0);
        lengths += name == 14 && !strncasecmp(line, "Content-Length", 14);
        codings += name == 17 && !strncasecmp(line, "Transfer-Encoding", 17);
        if (name == 4 && !strncasecmp(line, "Host", 4)) {
            hosts++;
            host = value;
        }
        if (value)
            guard_accepts(value, "application/problem+json"), guard_quality(value, "application/json");
        line = end + 1;
    }
    wrong = guard_end(&g, false);
    if (!wrong) {
        MUST(lengths + codings <= 1 && hosts == 1);
        MUST(g.length < 1000000000000000000u && g.has_length == (lengths == 1) && g.chunked == (codings == 1));
        MUST(!host || !*host || (g.host_length > 0 && g.host_length <= strlen(host) && g.host_length == guard_host(host)));
    }
    free(text);
    return 0;
}

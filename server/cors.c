/* cors.c: exact origins, known headers, every method of the API. */
#include "cors.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http.h"
#include "settings.h"

/* What pages may send beyond what every page may. */
static const char *const sent[] = {"Accept",
                                   "Authorization",
                                   "Cache-Control",
                                   "Content-Disposition",
                                   "Content-Encoding",
                                   "Content-Type",
                                   "Idempotency-Key",
                                   "If-Match",
                                   "If-None-Match",
                                   "Inference-Header-Content-Length",
                                   "Last-Event-ID",
                                   "Prefer",
                                   "X-Api-Key",
                                   "X-Request-Id"};

static const char methods[] = "GET, HEAD, POST, PUT, PATCH, DELETE";

/* What they may read: without the first of these a binary answer cannot be taken apart. */
static const char read_by_pages[] =
    "Inference-Header-Content-Length, ETag, Location, Retry-After, Content-Disposition, Repr-Digest, Preference-Applied, "
    "X-Request-Id, Idempotency-Replayed, Onelip-Weights-Revision, Onelip-Transfer-Deviation, Onelip-Verify-Deviation, Server-Timing";

void cors_headers(struct config *config, const char *origin, struct reply *rp)
{
    if (!config_allows_origin(config, NULL))
        return;
    reply_vary(rp, "Origin");
    if (!origin || !config_allows_origin(config, origin))
        return;
    reply_text(rp, "Access-Control-Allow-Origin", origin);
    reply_text(rp, "Access-Control-Expose-Headers", read_by_pages);
}

/* Those of the headers that are known, as this file spells them. */
static void known_headers(const char *asked, char *text, size_t size)
{
    size_t n = 0;

    text[0] = '\0';
    while (*asked) {
        size_t space = strspn(asked, " \t,"), length = strcspn(asked + space, " \t,");

        asked += space;
        for (size_t i = 0; length && i < sizeof sent / sizeof *sent; i++)
            if (strlen(sent[i]) == length && !strncasecmp(sent[i], asked, length) && !strstr(text, sent[i]))
                n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", sent[i]);
        asked += length;
    }
}

bool cors_preflight(struct config *config, const char *origin, const char *headers, bool private_network, struct reply *rp)
{
    char known[512]; /* all of sent, with commas, is shorter */

    if (!config_allows_origin(config, origin))
        return false;
    known_headers(headers ? headers : "", known, sizeof known);
    reply_bytes(rp, 204, NULL, NULL, 0);
    reply_text(rp, "Access-Control-Allow-Methods", methods);
    if (known[0])
        reply_text(rp, "Access-Control-Allow-Headers", known);
    if (private_network)
        reply_header(rp, "Access-Control-Allow-Private-Network", "true");
    reply_header(rp, "Access-Control-Max-Age", "600");
    return true;
}

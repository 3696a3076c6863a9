#include "news.h"

#include <stdio.h>

void news_tell(void *feed, enum model_news what, const char *name, const struct facts *facts)
{
    static const char *const actions[] = {[MODEL_CREATED] = "created",
                                          [MODEL_REPLACED] = "replaced",
                                          [MODEL_LOADED] = "loaded",
                                          [MODEL_UNLOADED] = "unloaded",
                                          [MODEL_DELETED] = "deleted"};
    char key[MODEL_NAME_MAX + 16];

    if (what != MODEL_PUBLISHED)
        feed_tell(feed, name, NULL, json_pack("{s:s, s:s, s:s}", "type", "model", "action", actions[what], "model", name));
    if (what == MODEL_UNLOADED || what == MODEL_DELETED)
        return;
    snprintf(key, sizeof key, "revision %s", name);
    feed_tell(feed, name, key,
              json_pack("{s:s, s:s, s:s, s:I, s:I}", "type", "revision", "model", name, "version", facts->version, "state_revision",
                        (json_int_t)facts->state_revision, "weights_revision", (json_int_t)facts->weights_revision));
}

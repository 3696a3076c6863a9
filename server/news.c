#include "news.h"

#include <stdio.h>

void news_tell(void *feed, enum model_news what, const char *name, const struct facts *facts)
{
    static const char *const actions[] = {[NEWS_CREATED] = "created",
                                          [NEWS_REPLACED] = "replaced",
                                          [NEWS_LOADED] = "loaded",
                                          [NEWS_UNLOADED] = "unloaded",
                                          [NEWS_DELETED] = "deleted"};
    char key[MODEL_NAME_MAX + 16];

    if (what != NEWS_PUBLISHED)
        feed_tell(feed, name, NULL, json_pack("{s:s, s:s, s:s}", "type", "model", "action", actions[what], "model", name));
    if (what == NEWS_UNLOADED || what == NEWS_DELETED)
        return;
    snprintf(key, sizeof key, "revision %s", name);
    feed_tell(feed, name, key,
              json_pack("{s:s, s:s, s:s, s:I, s:I}", "type", "revision", "model", name, "version", facts->version, "state_revision",
                        (json_int_t)facts->state_revision, "weights_revision", (json_int_t)facts->weights_revision));
}

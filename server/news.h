/* news.h: what becomes of models, as events of the server. */
#ifndef SERVER_NEWS_H
#define SERVER_NEWS_H

#include "events.h"
#include "store.h"

/* news_tell: the store's listener (store_listen); ctx: the feed. Whatever makes weights visible is told as a revision, too. */
void news_tell(void *feed, enum model_news what, const char *name, const struct facts *facts);

#endif

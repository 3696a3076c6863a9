#include "history.h"

#ifdef HAVE_SQLITE

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"

enum { TABLES = 2, BUSY_MS = 5000 };

static const struct {
    const char *create, *put, *remove, *each;
} sql[TABLES] = {
    [HISTORY_JOBS] = {"CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY, text TEXT NOT NULL, bytes BLOB) WITHOUT ROWID",
                      "INSERT INTO jobs VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET text = ?2, bytes = ?3",
                      "DELETE FROM jobs WHERE name = ?1", "SELECT name, text, bytes FROM jobs ORDER BY name"},
    [HISTORY_KEYS] = {"CREATE TABLE IF NOT EXISTS keys (name TEXT UNIQUE, text TEXT NOT NULL, bytes BLOB)",
                      "INSERT INTO keys VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET text = ?2, bytes = ?3",
                      "DELETE FROM keys WHERE name = ?1", "SELECT name, text, bytes FROM keys ORDER BY rowid"}};

struct history {
    pthread_mutex_t lock;
    sqlite3 *db;
    sqlite3_stmt *put[TABLES], *remove[TABLES];
};

bool history_kept(void)
{
    return true;
}

static bool run(struct history *h, const char *statement)
{
    return sqlite3_exec(h->db, statement, NULL, NULL, NULL) == SQLITE_OK;
}

static bool prepare(struct history *h)
{
    for (int t = 0; t < TABLES; t++)
        if (!run(h, sql[t].create) || sqlite3_prepare_v2(h->db, sql[t].put, -1, &h->put[t], NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(h->db, sql[t].remove, -1, &h->remove[t], NULL) != SQLITE_OK)
            return false;
    return true;
}

struct history *history_open(const char *state_dir, char *why, size_t size)
{
    struct history *h = calloc(1, sizeof *h);
    size_t length = (state_dir ? strlen(state_dir) : 0) + sizeof "/jobs.sqlite";
    char *path = malloc(length);
    mode_t before;

    if (!h || !path) {
        free(h);
        free(path);
        snprintf(why, size, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&h->lock, NULL);
    if (state_dir)
        snprintf(path, length, "%s/jobs.sqlite", state_dir);
    else
        strcpy(path, ":memory:");
    before = umask(0077);
    if (sqlite3_open_v2(path, &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(h->db, BUSY_MS) || !run(h, "PRAGMA journal_mode = WAL") || !run(h, "PRAGMA synchronous = FULL") ||
        !prepare(h)) {
        snprintf(why, size, "%s: %s", path, h->db ? sqlite3_errmsg(h->db) : "out of memory");
        history_close(h);
        h = NULL;
    }
    umask(before);
    free(path);
    return h;
}

void history_close(struct history *h)
{
    if (!h)
        return;
    for (int t = 0; t < TABLES; t++) {
        sqlite3_finalize(h->put[t]);
        sqlite3_finalize(h->remove[t]);
    }
    sqlite3_close(h->db);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

static bool failed(struct history *h, struct failure *f)
{
    switch (sqlite3_errcode(h->db)) {
    case SQLITE_FULL:
    case SQLITE_IOERR: /* a file that may not grow */
        return failure_set(f, 507, "disk_full", "no room on the disk for the history of jobs (%s); nothing was changed",
                           sqlite3_errmsg(h->db));
    case SQLITE_NOMEM:
        return failure_set(f, 503, "out_of_memory", "out of memory for the history of jobs");
    default:
        return failure_set(f, 500, "internal", "the history of jobs cannot be written: %s", sqlite3_errmsg(h->db));
    }
}

bool history_put(struct history *h, enum history_table table, const char *name, const char *text, const void *bytes, size_t size,
                 struct failure *f)
{
    sqlite3_stmt *put = h->put[table];
    bool ok;

    pthread_mutex_lock(&h->lock);
    ok = sqlite3_bind_text(put, 1, name, -1, SQLITE_STATIC) == SQLITE_OK &&
         sqlite3_bind_text(put, 2, text, -1, SQLITE_STATIC) == SQLITE_OK &&
         sqlite3_bind_blob64(put, 3, bytes ? bytes : "", size, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(put) == SQLITE_DONE;
    ok = ok || failed(h, f);
    sqlite3_reset(put);
    sqlite3_clear_bindings(put);
    pthread_mutex_unlock(&h->lock);
    return ok;
}

bool history_remove(struct history *h, enum history_table table, const char *name, struct failure *f)
{
    sqlite3_stmt *removal = h->remove[table];
    bool ok;

    pthread_mutex_lock(&h->lock);
    ok = sqlite3_bind_text(removal, 1, name, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(removal) == SQLITE_DONE;
    ok = ok || failed(h, f);
    sqlite3_reset(removal);
    sqlite3_clear_bindings(removal);
    pthread_mutex_unlock(&h->lock);
    return ok;
}

bool history_each(struct history *h, enum history_table table,
                  void (*each)(void *ctx, const char *name, const char *text, const void *bytes, size_t size), void *ctx,
                  struct failure *f)
{
    sqlite3_stmt *rows = NULL;
    int rc;
    bool ok;

    pthread_mutex_lock(&h->lock);
    rc = sqlite3_prepare_v2(h->db, sql[table].each, -1, &rows, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        if ((rc = sqlite3_step(rows)) == SQLITE_ROW)
            each(ctx, (const char *)sqlite3_column_text(rows, 0), (const char *)sqlite3_column_text(rows, 1),
                 sqlite3_column_blob(rows, 2), (size_t)sqlite3_column_bytes(rows, 2));
    }
    ok = rc == SQLITE_DONE || failed(h, f);
    sqlite3_finalize(rows);
    pthread_mutex_unlock(&h->lock);
    return ok;
}

#else

struct history {
    char none;
};

bool history_kept(void)
{
    return false;
}

struct history *history_open(const char *state_dir, char *why, size_t size)
{
    static struct history nothing;

    (void)state_dir;
    (void)why;
    (void)size;
    return &nothing;
}

void history_close(struct history *h)
{
    (void)h;
}

bool history_put(struct history *h, enum history_table table, const char *name, const char *text, const void *bytes, size_t size,
                 struct failure *f)
{
    (void)h, (void)table, (void)name, (void)text, (void)bytes, (void)size, (void)f;
    return true;
}

bool history_remove(struct history *h, enum history_table table, const char *name, struct failure *f)
{
    (void)h, (void)table, (void)name, (void)f;
    return true;
}

bool history_each(struct history *h, enum history_table table,
                  void (*each)(void *ctx, const char *name, const char *text, const void *bytes, size_t size), void *ctx,
                  struct failure *f)
{
    (void)h, (void)table, (void)each, (void)ctx, (void)f;
    return true;
}

#endif

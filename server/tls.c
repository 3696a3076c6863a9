/* tls.c: a handshake borrows the pair that is shown when it begins, so pairs are kept until the end; there is one for
 * each time that the files were read again. */
#include "tls.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define CHAIN 16 /* certificates */

struct pair {
    struct pair *before;
    gnutls_pcert_st chain[CHAIN];
    unsigned n;
    gnutls_privkey_t key;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pair *shown;

static bool fail(char *why, size_t size, const char *file, const char *what, int error)
{
    snprintf(why, size, "%s:1: found %s (%s), wanted PEM", file, what, gnutls_strerror(error));
    return false;
}

static void pair_free(struct pair *p)
{
    for (unsigned i = 0; i < p->n; i++)
        gnutls_pcert_deinit(&p->chain[i]);
    if (p->key)
        gnutls_privkey_deinit(p->key);
    free(p);
}

/* Whether the first certificate verifies what the key signs. */
static bool belong_together(struct pair *p)
{
    static unsigned char text[] = "onelipd";
    const gnutls_datum_t data = {text, sizeof text - 1};
    gnutls_pubkey_t public = p->chain[0].pubkey;
    gnutls_digest_algorithm_t hash = GNUTLS_DIG_SHA256;
    gnutls_datum_t signature = {NULL, 0};
    bool good;

    if (gnutls_pubkey_get_preferred_hash_algorithm(public, &hash, NULL))
        hash = GNUTLS_DIG_SHA256;
    good = gnutls_privkey_sign_data(p->key, hash, 0, &data, &signature) >= 0 &&
           gnutls_pubkey_verify_data2(public, gnutls_pk_to_sign(gnutls_pubkey_get_pk_algorithm(public, NULL), hash), 0, &data,
                                      &signature) >= 0;
    gnutls_free(signature.data);
    return good;
}

static bool read_pair(struct pair *p, const char *certificate_file, const char *key_file, char *why, size_t size)
{
    gnutls_datum_t key = {NULL, 0}, chain = {NULL, 0};
    unsigned n = CHAIN;
    int error = gnutls_load_file(certificate_file, &chain);

    if (!error)
        error = gnutls_pcert_list_import_x509_raw(p->chain, &n, &chain, GNUTLS_X509_FMT_PEM, 0);
    gnutls_free(chain.data);
    if (error)
        return fail(why, size, certificate_file, "no certificate", error);
    p->n = n;
    if (!(error = gnutls_privkey_init(&p->key)) && !(error = gnutls_load_file(key_file, &key)))
        error = gnutls_privkey_import_x509_raw(p->key, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (key.data)
        gnutls_memset(key.data, 0, key.size);
    gnutls_free(key.data);
    if (error)
        return fail(why, size, key_file, "no private key", error);
    if (belong_together(p))
        return true;
    snprintf(why, size, "%s:1: found the key of another certificate, wanted that of %s", key_file, certificate_file);
    return false;
}

bool tls_load(const char *certificate_file, const char *key_file, char *why, size_t size)
{
    struct pair *p = calloc(1, sizeof *p);

    if (!p) {
        snprintf(why, size, "onelipd: out of memory");
        return false;
    }
    if (!read_pair(p, certificate_file, key_file, why, size)) {
        pair_free(p);
        return false;
    }
    pthread_mutex_lock(&lock);
    p->before = shown;
    shown = p;
    pthread_mutex_unlock(&lock);
    return true;
}

void tls_unload(void)
{
    while (shown) {
        struct pair *before = shown->before;

        pair_free(shown);
        shown = before;
    }
}

int tls_certificate(gnutls_session_t session, const gnutls_datum_t *req_ca_dn, int nreqs, const gnutls_pk_algorithm_t *pk_algos,
                    int pk_algos_length, gnutls_pcert_st **pcert, unsigned *pcert_length, gnutls_privkey_t *privkey)
{
    struct pair *p;

    (void)session;
    (void)req_ca_dn;
    (void)nreqs;
    (void)pk_algos;
    (void)pk_algos_length;
    pthread_mutex_lock(&lock);
    p = shown;
    pthread_mutex_unlock(&lock);
    if (!p)
        return -1;
    *pcert = p->chain;
    *pcert_length = p->n;
    *privkey = p->key;
    return 0;
}

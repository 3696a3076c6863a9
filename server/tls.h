/* tls.h: the certificate that TCP listeners show, exchangeable while they run. One for the process; threads: safe. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include <gnutls/abstract.h>
#include <stdbool.h>
#include <stddef.h>

/* tls_load: read the certificate chain and its key, both PEM, and show them from the next handshake on. false, with one
 * line in why: what was shown still is. Source: what a pair must agree in is checked by a signature that one makes and the
 * other verifies. */
bool tls_load(const char *certificate_file, const char *key_file, char *why, size_t size);

/* tls_unload: forget all of them; no handshake may be under way. */
void tls_unload(void);

/* tls_certificate: for MHD_OPTION_HTTPS_CERT_CALLBACK. */
int tls_certificate(gnutls_session_t session, const gnutls_datum_t *req_ca_dn, int nreqs, const gnutls_pk_algorithm_t *pk_algos,
                    int pk_algos_length, gnutls_pcert_st **pcert, unsigned *pcert_length, gnutls_privkey_t *privkey);

#endif

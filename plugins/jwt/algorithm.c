/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt/jose.h"

#include <string.h>

const struct jose_algorithm jose_algorithms[] = {
#define ALGORITHM(id, name, family, digest, size)                                                  \
    {JOSE_##id, name, JOSE_FAMILY_##family, JOSE_##digest, size},
#include "jwt/algorithms.def"
#undef ALGORITHM
};

static struct {
    const char *name;
    EVP_MD *md;
} digests[JOSE_DIGESTS] = {{"SHA1", NULL}, {"SHA256", NULL}, {"SHA384", NULL}, {"SHA512", NULL}};

const struct jose_algorithm *jose_find_algorithm(struct moon_slice name)
{
    for (size_t i = 0; i < JOSE_ALGORITHMS; i++) {
        const struct jose_algorithm *a = &jose_algorithms[i];
        if (strlen(a->name) == name.len && memcmp(a->name, name.data, name.len) == 0) {
            return a;
        }
    }
    return NULL;
}

const EVP_MD *jose_md(enum jose_digest digest)
{
    return digests[digest].md;
}

const char *jose_md_name(enum jose_digest digest)
{
    return digests[digest].name;
}

bool jose_open(void)
{
    for (size_t i = 0; i < JOSE_DIGESTS; i++) {
        digests[i].md = EVP_MD_fetch(NULL, digests[i].name, NULL);
        if (digests[i].md == NULL) {
            return false;
        }
    }
    return true;
}

void jose_close(void)
{
    for (size_t i = 0; i < JOSE_DIGESTS; i++) {
        EVP_MD_free(digests[i].md);
        digests[i].md = NULL;
    }
}

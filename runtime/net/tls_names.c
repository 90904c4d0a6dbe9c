/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_names.h"

#include <openssl/x509v3.h>

enum { TLS_NAME_BYTES = 255 };

int moon_tls_kind(const EVP_PKEY *key)
{
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
        return 0;
    case EVP_PKEY_RSA_PSS:
        return 1;
    case EVP_PKEY_EC:
        return 2;
    case EVP_PKEY_ED25519:
        return 3;
    case EVP_PKEY_ED448:
        return 4;
    default:
        return -1;
    }
}

static bool names_push(struct moon_tls_names *names, struct moon_slice name, int pair)
{
    if (name.len == 0 || name.len > TLS_NAME_BYTES || memchr(name.data, '\0', name.len) != NULL)
        return true; // no host can be called so
    if (names->count == names->cap) {
        size_t cap = names->cap == 0 ? 16 : names->cap * 2;
        struct moon_tls_name *at = realloc(names->at, cap * sizeof(*at));
        if (at == NULL)
            return false;
        names->at = at;
        names->cap = cap;
    }
    char *text = malloc(name.len + 1);
    if (text == NULL)
        return false;
    for (size_t i = 0; i < name.len; i++)
        text[i] = moon_lower(name.data[i]);
    text[name.len] = '\0';
    names->at[names->count++] = (struct moon_tls_name){.name = text, .pair = pair};
    return true;
}

static struct moon_slice names_slice(const ASN1_STRING *text)
{
    return moon_slice((const char *)ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
}

static bool names_add_common(struct moon_tls_names *names, const X509 *leaf, int pair)
{
    const X509_NAME *subject = X509_get_subject_name(leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0)
        return true;
    const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, at);
    return names_push(names, names_slice(X509_NAME_ENTRY_get_data(entry)), pair);
}

bool moon_tls_names_add(struct moon_tls_names *names, const X509 *leaf, int pair)
{
    GENERAL_NAMES *alternatives = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool has_dns = false, is_added = true;
    for (int i = 0; is_added && i < sk_GENERAL_NAME_num(alternatives); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(alternatives, i);
        if (name->type != GEN_DNS)
            continue;
        has_dns = true;
        is_added = names_push(names, names_slice(name->d.dNSName), pair);
    }
    GENERAL_NAMES_free(alternatives);
    return is_added && (has_dns || names_add_common(names, leaf, pair));
}

static int names_compare(const void *a, const void *b)
{
    const struct moon_tls_name *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : x->pair - y->pair;
}

/// @return index of the first entry of that name, or `count`
static size_t names_first(const struct moon_tls_names *names, const char *name)
{
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(names->at[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < names->count && strcmp(names->at[low].name, name) == 0 ? low : names->count;
}

static void names_fill(const struct moon_tls_names *names, const char *name,
                       const int *kind_of_pair, struct moon_tls_set *set)
{
    for (size_t i = names_first(names, name);
         i < names->count && strcmp(names->at[i].name, name) == 0; i++) {
        int pair = names->at[i].pair;
        if (set->pair[kind_of_pair[pair]] == -1)
            set->pair[kind_of_pair[pair]] = pair;
    }
}

/// "api.example.com" -> "*.example.com". @return false when it has no parent
static bool names_wildcard(const char *name, char into[TLS_NAME_BYTES + 2])
{
    const char *dot = strchr(name, '.');
    if (dot == NULL || dot == name || name[0] == '*')
        return false;
    (void)snprintf(into, TLS_NAME_BYTES + 2, "*%s", dot);
    return true;
}

void moon_tls_names_seal(struct moon_tls_names *names, const int *kind_of_pair)
{
    if (names->count > 0)
        qsort(names->at, names->count, sizeof(*names->at), names_compare);
    for (size_t i = 0; i < names->count; i++) {
        struct moon_tls_name *name = &names->at[i];
        char wildcard[TLS_NAME_BYTES + 2];
        for (int kind = 0; kind < TLS_KINDS; kind++)
            name->set.pair[kind] = -1;
        names_fill(names, name->name, kind_of_pair, &name->set);
        if (names_wildcard(name->name, wildcard))
            names_fill(names, wildcard, kind_of_pair, &name->set);
    }
}

const struct moon_tls_name *moon_tls_names_find(const struct moon_tls_names *names,
                                                struct moon_slice name)
{
    char text[TLS_NAME_BYTES + 1], wildcard[TLS_NAME_BYTES + 2];
    if (name.len > 0 && name.data[name.len - 1] == '.')
        name.len--;
    if (!moon_slice_copy_text(name, text, sizeof(text)))
        return NULL;
    for (char *c = text; *c != '\0'; c++)
        *c = moon_lower(*c);
    size_t at = names_first(names, text);
    if (at == names->count && names_wildcard(text, wildcard))
        at = names_first(names, wildcard);
    return at < names->count ? &names->at[at] : NULL;
}

void moon_tls_names_fini(struct moon_tls_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->at[i].name);
    free(names->at);
    *names = (struct moon_tls_names){NULL, 0, 0};
}

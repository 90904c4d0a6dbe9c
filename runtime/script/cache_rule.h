/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What one listing of the policy `cache` says, read once when the configuration is loaded
/// (script_cache.c), and what the exchange makes of it (gateway/cache.h).

#include "http/freshness.h"
#include "upstream/cache_tier.h"

enum { MOON_CACHE_RULE_TAGS = 6, MOON_CACHE_RULE_NAMES = 16, MOON_CACHE_RULE_STATUSES = 32 };

#define MOON_CACHE_RULE_MARK UINT64_C(0x6d6f6f6e72756c65)

/// Lives as long as the generation.
struct moon_cache_rule {
    uint64_t mark; // MOON_CACHE_RULE_MARK
    struct moon_freshness_conf fresh;
    int statuses[MOON_CACHE_RULE_STATUSES];
    struct moon_slice vary_headers[MOON_CACHE_RULE_NAMES];
    size_t vary_header_count;
    bool is_query_picked; // only the parameters in vary_query tell requests apart
    struct moon_slice vary_query[MOON_CACHE_RULE_NAMES];
    size_t vary_query_count;
    struct moon_cache_tag tags[MOON_CACHE_RULE_TAGS];
    size_t tag_count;
    bool is_collapsed;
    bool heeds_client;       // Cache-Control of requests
    bool has_head;           // HEAD too is answered out of the store
    int64_t wait_ms;         // for another request's answer, at most
    bool is_tiered;          // the second tier is asked, and filled
    uint64_t flavour;        // rules that make keys alike share their objects; alike on all nodes
    struct moon_slice names; // the texts above lie here
};

/// What a caller-given part of the key is.
struct moon_cache_key_parts {
    struct moon_slice caller; // "s:4711"; data NULL: none
    struct moon_slice key;    // in place of host, path and query; data NULL: none
};

enum moon_cache_answer {
    MOON_CACHE_GO_ON,    // the backend is asked
    MOON_CACHE_ANSWERED, // x->response is made: the section ends here
    MOON_CACHE_WAITS,    // moon_async_done follows
};

/// What lists of texts come to, alike on all nodes: SHA-256 over the texts, each with its length.
/// @return false when memory is short
MUST_CHECK bool moon_cache_digest(struct moon_arena *arena, const struct moon_slice *parts,
                                  size_t count, uint8_t out[MOON_CACHE_TIER_NAME_BYTES]);

/// The tag of a name; where memory is short, the one of everything. @param kind  "tag", "key"
struct moon_cache_tag moon_cache_tag(struct moon_arena *arena, struct moon_slice kind,
                                     struct moon_slice name);

/// The tag of a URI. @param authority  lower case, usual port left out
struct moon_cache_tag moon_cache_uri_tag(struct moon_arena *arena, struct moon_slice scheme,
                                         struct moon_slice authority, struct moon_slice path,
                                         struct moon_slice query);

/// The same of an absolute URL. @return false when it is none
MUST_CHECK bool moon_cache_url_tag(struct moon_arena *arena, struct moon_slice text,
                                   struct moon_cache_tag *tag);

/// Purges on this node, and on all that share its second tier. @param tier  NULL: there is none
void moon_cache_purge(struct moon_store_seat *seat, struct moon_cache_tier *tier,
                      const struct moon_cache_tag *tag);

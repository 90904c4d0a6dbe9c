/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// MMDB files (MaxMind's format), read whole into memory of our own, so that a file that is cut short
/// under us kills nobody. A file that is replaced is read again; the old contents stay while the new
/// ones are no database. Databases are shared by path within the process.

#include "moongate/plugin.h"

#include <netinet/in.h>

struct database;

/// What is known of an address; lent until the next call. Empty slices and 0: not known.
struct place {
    struct moon_slice country;            // ISO 3166 code; of the registration where that is all
    struct moon_slice registered_country; // where it differs in kind: MaxMind's second answer
    struct moon_slice continent;          // two letters
    struct moon_slice city;               // in English
    struct moon_slice org;
    uint32_t asn;
    bool is_anonymous; // of the databases that tell: VPN, proxy, Tor, hosting
};

/// Opens the file, or the same database again. One more `geo_database_release` is owed.
///
/// @param error  static or lent text, on failure
struct database *geo_database_acquire(const struct moon_host *host, const char *path,
                                      const char **error);
void geo_database_release(struct database *db); // accepts NULL

/// Looks whether the file was replaced; at most once in five seconds.
void geo_database_refresh(const struct moon_host *host, struct database *db);

/// Finds an address.
///
/// @param ip  text of an IPv4 or IPv6 address
/// @return    false when nothing is known of it, or it is no address
MUST_CHECK bool geo_database_find(struct database *db, struct moon_slice ip, struct place *out);

/// The country alone, by a cache of the records seen.
MUST_CHECK bool geo_database_country(struct database *db, struct moon_slice ip, char out[2]);

/// What the file says of itself, lent.
const char *geo_database_type(const struct database *db);

/// When it was built, in seconds since the epoch.
uint64_t geo_database_built_at(const struct database *db);

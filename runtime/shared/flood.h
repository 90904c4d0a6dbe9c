/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What is usual at each site, and who goes past it: seen and learnt by all workers of this node.
///
/// A site's requests are counted by the second. Their mean, their deviation and the mean of each
/// hour of the day make a threshold; while the rate is above it (and half a minute longer) the site
/// is under flood, and nothing is learnt. Each address is counted in windows of five seconds against
/// a baseline of its own and the one of the site's callers in general; who goes past both while the
/// site is under flood enters the penalty box.
///
/// The addresses lie in a table of fixed size, the longest unused of a probe run makes room. Words
/// are atomic and nothing is locked: a worker killed at any instruction, or two that meet in one
/// cell, cost a count and never a wait. IPv6 addresses count by their /64.
///
/// Process: any.

#include "base/ip.h"
#include "shared/region.h"

enum { MOON_FLOOD_SITES = 256 };

struct moon_flood;

/// @return NULL when there is no room (is logged)
struct moon_flood *moon_flood_new(struct moon_region *region);

/// Bytes that it takes out of the region, for specs.
size_t moon_flood_bytes(void);

enum moon_flood_sensitivity { MOON_FLOOD_LOW, MOON_FLOOD_MEDIUM, MOON_FLOOD_HIGH };

struct moon_flood_conf {
    enum moon_flood_sensitivity sensitivity;
    double minimum_rate;   // requests per second below which there is no flood
    double threshold;      // fixed, in place of the learnt one; 0: learnt
    double minimum_client; // requests per second that every address may make
    int64_t learn_ms;      // how long to learn before acting; nothing to wait for with `threshold`
    int64_t penalty_ms;
};

enum moon_flood_verdict {
    MOON_FLOOD_PASS,
    MOON_FLOOD_HELD,  // enters the penalty box with this request
    MOON_FLOOD_BOXED, // is in it
};

/// Finds or makes a site. @return its number; -1 when there are MOON_FLOOD_SITES already
int moon_flood_site(struct moon_flood *flood, struct moon_slice name);

/// Counts a request and judges it.
///
/// @param is_suspect  judged more strictly
/// @param now_ms      monotonic; @param wall_ms  tells the hour of the day
/// @param retry_ms    written unless the verdict is MOON_FLOOD_PASS
enum moon_flood_verdict moon_flood_check(struct moon_flood *flood, int site,
                                         const struct moon_flood_conf *conf,
                                         const struct moon_ip *ip, bool is_suspect, int64_t now_ms,
                                         int64_t wall_ms, int64_t *retry_ms);

/// Puts an address into a site's penalty box because another node says so; a stay that is longer
/// already stands. Does nothing for a site that this node does not have.
void moon_flood_hold(struct moon_flood *flood, struct moon_slice site, const struct moon_ip *ip,
                     int64_t now_ms, int64_t penalty_ms);

struct moon_flood_report {
    double rate;         // requests of the last whole second
    double usual;        // mean per second
    double threshold;    // per second; of the last look
    double client_usual; // of an address, per second while it is active
    int64_t learnt_ms;
    bool is_flooded;
    size_t boxed;           // addresses in the box, when they were last counted
    uint64_t held, refused; // ever: entered the box; refused in all
};

void moon_flood_read(struct moon_flood *flood, int site, int64_t now_ms,
                     struct moon_flood_report *out);

/// Counts a part of the addresses in boxes, when it is time for it: all of them within five seconds.
/// Cheap to call often.
void moon_flood_sweep(struct moon_flood *flood, int64_t now_ms);

/// Whether this asker reads what other nodes tell: one worker does, until it has been silent for a
/// while.
bool moon_flood_is_reader(struct moon_flood *flood, const void *asker, int64_t now_ms);

/// Whether this asker tells the site's gauges: one worker does, until it has been silent for a while.
///
/// @param asker  what tells the workers apart
bool moon_flood_is_teller(struct moon_flood *flood, int site, const void *asker, int64_t now_ms);

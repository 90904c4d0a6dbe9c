/* SPDX-License-Identifier: Apache-2.0 */
#include "http/freshness.h"

#include "base/clock.h"

enum { FRESHNESS_HEURISTIC_MOST_MS = 24 * 3600 * 1000 };

// RFC 9110 §15.1.
static bool status_is_heuristically_cacheable(int status)
{
    switch (status) {
    case 200:
    case 203:
    case 204:
    case 206:
    case 300:
    case 301:
    case 308:
    case 404:
    case 405:
    case 410:
    case 414:
    case 501:
        return true;
    default:
        return false;
    }
}

// Statuses whose caching rules this cache knows (must-understand).
static bool status_is_understood(int status)
{
    return status_is_heuristically_cacheable(status) || status == 302 || status == 303 ||
           status == 307 || status == 400 || status == 403 || status == 500 || status == 502 ||
           status == 503 || status == 504;
}

static bool read_date(const struct moon_fields *fields, enum moon_field_id id, int64_t *ms)
{
    const struct moon_field *field = moon_fields_find_id(fields, id);
    return field != NULL && moon_clock_parse_http_date(field->value, ms);
}

// Of a list the first member counts (RFC 9111 §5.1).
// @return false when nobody can tell how old it is: an Age that is no number, or two lines of it
static bool read_age_ms(const struct moon_fields *fields, int64_t *age_ms)
{
    struct moon_slice first;
    int64_t seconds = 0;
    size_t lines = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->ids[i] != MOON_FIELD_AGE)
            continue;
        struct moon_slice rest = fields->items[i].value;
        if (++lines > 1 || !moon_slice_next_element(&rest, &first) ||
            !moon_delta_seconds(first, &seconds))
            return false;
    }
    *age_ms = seconds * 1000;
    return true;
}

static int64_t read_heuristic_ms(const struct moon_response *response,
                                 const struct moon_cache_control *cc, int64_t date_ms)
{
    int64_t modified_ms;
    bool is_allowed =
        (cc->flags & MOON_CC_PUBLIC) != 0 || status_is_heuristically_cacheable(response->status);
    if (!is_allowed || !read_date(&response->fields, MOON_FIELD_LAST_MODIFIED, &modified_ms) ||
        modified_ms >= date_ms)
        return 0;
    int64_t tenth = (date_ms - modified_ms) / 10;
    return tenth < FRESHNESS_HEURISTIC_MOST_MS ? tenth : FRESHNESS_HEURISTIC_MOST_MS;
}

static bool has_expires(const struct moon_response *response, const struct moon_cache_control *cc)
{
    return (cc->flags & MOON_CC_TARGETED) == 0 &&
           moon_fields_find_id(&response->fields, MOON_FIELD_EXPIRES) != NULL;
}

// RFC 9111 §4.2.1; an Expires that cannot be read, or comes twice, is in the past.
static int64_t read_lifetime_ms(const struct moon_response *response,
                                const struct moon_cache_control *cc,
                                const struct moon_freshness_conf *conf, int64_t date_ms)
{
    if (conf->ttl_ms >= 0)
        return conf->ttl_ms;
    if (cc->s_maxage_s != MOON_CC_ABSENT)
        return cc->s_maxage_s * 1000;
    if (cc->max_age_s != MOON_CC_ABSENT)
        return cc->max_age_s * 1000;
    if (has_expires(response, cc)) {
        int64_t expires_ms, least = INT64_MAX;
        for (size_t i = 0; i < response->fields.count; i++) {
            if (response->fields.ids[i] != MOON_FIELD_EXPIRES)
                continue;
            if (!moon_clock_parse_http_date(response->fields.items[i].value, &expires_ms))
                return 0;
            least = expires_ms < least ? expires_ms : least;
        }
        return least > date_ms ? least - date_ms : 0;
    }
    return conf->is_heuristic ? read_heuristic_ms(response, cc, date_ms) : 0;
}

static int64_t allowance_ms(int64_t given_s, int64_t conf_ms)
{
    if (given_s != MOON_CC_ABSENT)
        return given_s * 1000;
    return conf_ms > 0 ? conf_ms : 0;
}

void moon_freshness_read(struct moon_freshness *fresh, const struct moon_response *response,
                         const struct moon_cache_control *cc,
                         const struct moon_freshness_conf *conf, int64_t request_ms,
                         int64_t response_ms)
{
    int64_t date_ms;
    *fresh = (struct moon_freshness){.response_ms = response_ms};
    if (!read_date(&response->fields, MOON_FIELD_DATE, &date_ms))
        date_ms = response_ms - response_ms % 1000;
    fresh->date_ms = date_ms;
    int64_t apparent = response_ms > date_ms ? response_ms - date_ms : 0;
    // Dates have whole seconds: what is less than one is no age.
    apparent -= apparent % 1000;
    int64_t age_ms = 0;
    bool is_age_known = read_age_ms(&response->fields, &age_ms);
    int64_t corrected = age_ms + (response_ms - request_ms);
    fresh->age_ms = apparent > corrected ? apparent : corrected;
    fresh->lifetime_ms = read_lifetime_ms(response, cc, conf, date_ms);
    if (conf->ttl_ms >= 0)
        fresh->age_ms = 0; // the configuration counts from here
    else if (!is_age_known)
        fresh->lifetime_ms = 0; // what cannot be read is stale (RFC 9111 §4.2.1)
    fresh->stale_while_revalidate_ms =
        allowance_ms(cc->stale_while_revalidate_s, conf->stale_while_revalidate_ms);
    fresh->stale_if_error_ms = allowance_ms(cc->stale_if_error_s, conf->stale_if_error_ms);
    bool is_told = cc->stale_if_error_s != MOON_CC_ABSENT || conf->stale_if_error_ms >= 0;
    if (!is_told && fresh->lifetime_ms > 0)
        fresh->stale_if_error_ms = conf->stale_on_failure_ms;
    if ((cc->flags & MOON_CC_NO_CACHE) != 0)
        fresh->flags |= MOON_FRESH_NO_CACHE;
    // s-maxage means proxy-revalidate (RFC 9111 §5.2.2.10).
    if ((cc->flags & (MOON_CC_MUST_REVALIDATE | MOON_CC_PROXY_REVALIDATE)) != 0 ||
        (cc->s_maxage_s != MOON_CC_ABSENT && conf->ttl_ms < 0 &&
         cc->stale_while_revalidate_s == MOON_CC_ABSENT && cc->stale_if_error_s == MOON_CC_ABSENT))
        fresh->flags |= MOON_FRESH_MUST_REVALIDATE;
}

static bool conf_has_status(const struct moon_freshness_conf *conf, int status)
{
    for (size_t i = 0; i < conf->status_count; i++) {
        if (conf->statuses[i] == status)
            return true;
    }
    return false;
}

static bool has_lifetime(const struct moon_response *response, const struct moon_cache_control *cc)
{
    return cc->max_age_s != MOON_CC_ABSENT || cc->s_maxage_s != MOON_CC_ABSENT ||
           has_expires(response, cc);
}

static bool is_worth_keeping(const struct moon_response *response,
                             const struct moon_cache_control *cc,
                             const struct moon_freshness_conf *conf)
{
    if (has_lifetime(response, cc))
        return true;
    if (!status_is_heuristically_cacheable(response->status))
        return (cc->flags & MOON_CC_PUBLIC) != 0;
    return (conf->is_heuristic &&
            moon_fields_find_id(&response->fields, MOON_FIELD_LAST_MODIFIED) != NULL) ||
           moon_fields_find_id(&response->fields, MOON_FIELD_ETAG) != NULL ||
           moon_fields_find_id(&response->fields, MOON_FIELD_LAST_MODIFIED) != NULL;
}

static bool is_authorized_ok(const struct moon_request *request,
                             const struct moon_cache_control *cc,
                             const struct moon_freshness_conf *conf)
{
    if (moon_fields_find_id(&request->fields, MOON_FIELD_AUTHORIZATION) == NULL)
        return true;
    return conf->is_per_caller || cc->s_maxage_s != MOON_CC_ABSENT ||
           (cc->flags & (MOON_CC_PUBLIC | MOON_CC_MUST_REVALIDATE)) != 0;
}

static bool varies_on_everything(const struct moon_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->ids[i] == MOON_FIELD_VARY &&
            moon_slice_has_token(fields->items[i].value, MOON_S("*")))
            return true;
    }
    return false;
}

bool moon_freshness_is_storable(const struct moon_request *request,
                                const struct moon_cache_control *request_cc,
                                const struct moon_response *response,
                                const struct moon_cache_control *cc,
                                const struct moon_freshness_conf *conf)
{
    int status = response->status;
    bool is_post = request->method == MOON_METHOD_POST;
    if ((request->method != MOON_METHOD_GET && !is_post) || status < 200 || status == 206 ||
        status == 304)
        return false;
    if (((request_cc->flags | cc->flags) & MOON_CC_NO_STORE) != 0) {
        // must-understand takes no-store back where the status is known (RFC 9111 §5.2.2.3).
        bool is_taken_back = (cc->flags & MOON_CC_MUST_UNDERSTAND) != 0 &&
                             status_is_understood(status) &&
                             (request_cc->flags & MOON_CC_NO_STORE) == 0;
        if (!is_taken_back)
            return false;
    }
    if ((cc->flags & MOON_CC_MUST_UNDERSTAND) != 0 && !status_is_understood(status))
        return false;
    if ((cc->flags & MOON_CC_PRIVATE) != 0 || varies_on_everything(&response->fields) ||
        !is_authorized_ok(request, cc, conf))
        return false;
    if (conf->statuses != NULL && !conf_has_status(conf, status))
        return false;
    if (conf->ttl_ms >= 0 && !is_post) {
        // Nobody asked the origin whether its cookies may be handed to others.
        bool sets_cookie = moon_fields_find_id(&response->fields, MOON_FIELD_SET_COOKIE) != NULL;
        return !sets_cookie && (conf->statuses != NULL || status == 200);
    }
    return is_post ? has_lifetime(response, cc) : is_worth_keeping(response, cc, conf);
}

int64_t moon_freshness_age_ms(const struct moon_freshness *fresh, int64_t now_ms)
{
    int64_t resident = now_ms > fresh->response_ms ? now_ms - fresh->response_ms : 0;
    return fresh->age_ms + resident;
}

int64_t moon_freshness_left_ms(const struct moon_freshness *fresh, int64_t now_ms)
{
    return fresh->lifetime_ms - moon_freshness_age_ms(fresh, now_ms);
}

static int64_t s_to_ms(int64_t s)
{
    return s > INT64_MAX / 1000 ? INT64_MAX : s * 1000;
}

enum moon_reuse moon_freshness_reuse(const struct moon_freshness *fresh,
                                     const struct moon_cache_control *cc, int64_t now_ms)
{
    int64_t age = moon_freshness_age_ms(fresh, now_ms);
    int64_t left = fresh->lifetime_ms - age;
    if (((cc->flags & MOON_CC_NO_CACHE) | (fresh->flags & MOON_FRESH_NO_CACHE)) != 0)
        return MOON_REUSE_VALIDATE;
    bool is_too_old = cc->max_age_s != MOON_CC_ABSENT && age > s_to_ms(cc->max_age_s);
    bool is_fresh_enough =
        left > 0 && (cc->min_fresh_s == MOON_CC_ABSENT || left >= s_to_ms(cc->min_fresh_s));
    if (is_fresh_enough && !is_too_old)
        return MOON_REUSE_FRESH;
    if ((fresh->flags & MOON_FRESH_MUST_REVALIDATE) != 0)
        return MOON_REUSE_VALIDATE;
    bool takes_stale = cc->max_stale_s != MOON_CC_ABSENT && -left <= s_to_ms(cc->max_stale_s);
    if (takes_stale && !is_too_old && cc->min_fresh_s == MOON_CC_ABSENT)
        return MOON_REUSE_STALE;
    bool is_asked_otherwise = cc->max_age_s != MOON_CC_ABSENT || cc->min_fresh_s != MOON_CC_ABSENT;
    if (left <= 0 && !is_asked_otherwise && -left < fresh->stale_while_revalidate_ms)
        return MOON_REUSE_REVALIDATE_LATER;
    return MOON_REUSE_VALIDATE;
}

bool moon_freshness_is_usable_on_error(const struct moon_freshness *fresh,
                                       const struct moon_cache_control *cc, int64_t now_ms)
{
    int64_t left = moon_freshness_left_ms(fresh, now_ms);
    int64_t allowed = fresh->stale_if_error_ms;
    if ((fresh->flags & (MOON_FRESH_NO_CACHE | MOON_FRESH_MUST_REVALIDATE)) != 0)
        return false;
    if (cc->stale_if_error_s != MOON_CC_ABSENT && s_to_ms(cc->stale_if_error_s) > allowed)
        allowed = s_to_ms(cc->stale_if_error_s);
    return left > 0 || -left < allowed;
}

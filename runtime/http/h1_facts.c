/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1_facts.h"

#include "http/chars.h"

static void facts_add_connection(struct moon_h1_facts *facts, struct moon_slice list)
{
    struct moon_slice option;
    while (moon_slice_next_element(&list, &option)) {
        if (moon_slice_is_nocase(option, MOON_S("close"))) {
            facts->has_close = true;
        } else if (moon_slice_is_nocase(option, MOON_S("keep-alive"))) {
            facts->has_keep_alive = true;
        } else if (moon_slice_is_nocase(option, MOON_S("upgrade"))) {
            facts->has_upgrade = true;
        }
    }
}

static void facts_add_expect(struct moon_h1_facts *facts, struct moon_slice list)
{
    struct moon_slice expectation;
    while (moon_slice_next_element(&list, &expectation)) {
        if (moon_slice_is_nocase(expectation, MOON_S("100-continue"))) {
            facts->has_expect = true;
        } else {
            facts->has_other_expect = true;
        }
    }
}

static void facts_add(struct moon_h1_facts *facts, enum moon_field_id id, struct moon_slice value,
                      size_t index)
{
    switch ((int)id) {
    case MOON_FIELD_HOST:
        if (facts->hosts++ == 0) {
            facts->host_at = index;
        }
        break;
    case MOON_FIELD_CONTENT_LENGTH:
        if (facts->lengths++ == 0) {
            facts->length = value;
        }
        break;
    case MOON_FIELD_TRANSFER_ENCODING:
        if (facts->codings++ == 0) {
            facts->coding = value;
        }
        break;
    case MOON_FIELD_CONNECTION:
        facts_add_connection(facts, value);
        break;
    case MOON_FIELD_EXPECT:
        facts_add_expect(facts, value);
        break;
    case MOON_FIELD_TE:
        facts->has_te_trailers |= moon_slice_has_token(value, MOON_S("trailers"));
        break;
    case MOON_FIELD_UPGRADE:
        facts->upgrades++;
        break;
    default: // the others decide nothing here
        break;
    }
}

// The colon behind a name that ends at `at`, or NULL. A proxy takes white space between them out of
// responses, and refuses it in requests (RFC 9112 §5.1).
static const char *parse_colon(const char *at, const char *end, bool is_response)
{
    while (is_response && at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    return at < end && *at == ':' ? at : NULL;
}

static bool parse_is_space(char c)
{
    return c == ' ' || c == '\t';
}

// Without the white space around it; one space before it is the rule.
static struct moon_slice parse_value(const char *start, const char *stop)
{
    while (start < stop && parse_is_space(*start)) {
        start++;
    }
    while (start < stop && parse_is_space(stop[-1])) {
        stop--;
    }
    return moon_slice(start, (size_t)(stop - start));
}

// One line, "name: value" CRLF. What has no name (a folded line, §5.2) is refused.
static enum moon_rc parse_field(const char **at, const char *end, struct moon_fields *fields,
                                struct moon_h1_facts *facts)
{
    const char *name_end = moon_find_no_token(*at, end);
    const char *colon = parse_colon(name_end, end, facts->is_response);
    if (MOON_UNLIKELY(name_end == *at || colon == NULL)) {
        return MOON_ERR_BAD_FIELD;
    }
    struct moon_slice name = moon_slice(*at, (size_t)(name_end - *at));
    const char *start = colon + 1;
    const char *stop = moon_find_control(start, end);
    if (MOON_UNLIKELY(end - stop < 2 || stop[0] != '\r' || stop[1] != '\n')) {
        return MOON_ERR_BAD_FIELD;
    }
    *at = stop + 2;
    struct moon_slice value = parse_value(start, stop);
    enum moon_field_id id = moon_field_id(name);
    facts_add(facts, id, value, fields->count);
    return moon_fields_add_known(fields, id, name, value);
}

enum moon_rc moon_h1_parse_fields(struct moon_slice lines, struct moon_fields *fields,
                                  const struct moon_h1_limits *limits, struct moon_h1_facts *facts)
{
    const char *at = lines.data, *end = lines.data + lines.len;
    while (at < end && *at != '\r') {
        if (fields->count >= limits->header_count) {
            return MOON_ERR_HEAD_TOO_LARGE;
        }
        enum moon_rc rc = parse_field(&at, end, fields, facts);
        if (rc != MOON_OK) {
            return rc;
        }
    }
    return end - at == 2 && at[0] == '\r' && at[1] == '\n' ? MOON_OK : MOON_ERR_BAD_FIELD;
}

bool moon_h1_first_line(struct moon_slice head, struct moon_slice *line)
{
    const char *stop = moon_find_control(head.data, head.data + head.len);
    size_t len = (size_t)(stop - head.data);
    if (head.len - len < 2 || stop[0] != '\r' || stop[1] != '\n') {
        return false;
    }
    *line = moon_slice(head.data, len);
    return true;
}

bool moon_h1_facts_length(const struct moon_h1_facts *facts, int64_t *length)
{
    return facts->lengths == 1 && moon_slice_number(facts->length, length);
}

bool moon_h1_facts_is_chunked(const struct moon_h1_facts *facts)
{
    return facts->codings == 1 && moon_slice_is_nocase(facts->coding, MOON_S("chunked"));
}

/* SPDX-License-Identifier: Apache-2.0 */

/// What judging a JSON body of 1 KiB costs: reading it, and checking it against a schema as a
/// definition has it. The least of several rounds, in nanoseconds a body.

#include "jsonschema/set.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROUNDS 20
#define BODIES 20000

static const char SCHEMA[] =
    "{\"type\":\"object\",\"required\":[\"id\",\"customer\",\"lines\",\"total\"],"
    "\"additionalProperties\":false,\"properties\":{\"id\":{\"type\":\"string\",\"pattern\":"
    "\"^o-[0-9]+$\"},\"customer\":{\"type\":\"object\",\"required\":[\"name\",\"email\"],"
    "\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":100},\"email\":"
    "{\"type\":\"string\",\"maxLength\":200},\"country\":{\"enum\":[\"DE\",\"FR\",\"NL\"]}}},"
    "\"lines\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":50,\"items\":{\"$ref\":"
    "\"#/$defs/line\"}},\"note\":{\"type\":[\"string\",\"null\"]},\"total\":{\"type\":\"number\","
    "\"minimum\":0}},\"$defs\":{\"line\":{\"type\":\"object\",\"required\":[\"sku\",\"quantity\","
    "\"price\"],\"properties\":{\"sku\":{\"type\":\"string\"},\"title\":{\"type\":\"string\"},"
    "\"quantity\":{\"type\":\"integer\",\"minimum\":1},\"price\":{\"type\":\"number\","
    "\"minimum\":0}}}}}";

static size_t make_body(char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room,
                                "{\"id\":\"o-4711\",\"customer\":{\"name\":\"Ada Lovelace\","
                                "\"email\":\"ada@example.test\",\"country\":\"NL\"},\"lines\":[");
    for (int i = 0; i < 13; i++) {
        n += (size_t)snprintf(out + n, room - n,
                              "%s{\"sku\":\"A-%05d\",\"title\":\"Part number %d\",\"quantity\":%d,"
                              "\"price\":%d.%02d}",
                              i > 0 ? "," : "", i * 37, i, i + 1, i * 3 + 1, i * 7);
    }
    return n + (size_t)snprintf(out + n, room - n, "],\"note\":null,\"total\":1234.56}");
}

static double now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void)
{
    char body[2048];
    size_t len = make_body(body, sizeof body);
    struct jsc_set set = {.dialect = {JSC_DRAFT_2020, true, false}};
    struct moon_slice empty = {"", 0};
    if (!jsc_pattern_open() ||
        jsc_set_add(&set, empty, (struct moon_slice){SCHEMA, strlen(SCHEMA)}) < 0) {
        return 1;
    }
    const struct jsc_schema *schema = jsc_set_compile(&set, empty, JSC_ANY);
    if (schema == NULL) {
        (void)fprintf(stderr, "%s\n", set.error);
        return 1;
    }
    struct jsc_tape tape = {0};
    struct jsc_mistake mistakes[4];
    struct jsc_report report = {.mistakes = mistakes, .max = 4};
    double least = 1e18, least_read = 1e18;
    size_t at;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        for (int i = 0; i < BODIES; i++) {
            if (jsc_tape_read(&tape, (struct moon_slice){body, len}, NULL, 128, &at) != NULL) {
                return 1;
            }
        }
        double read = now_ns();
        for (int i = 0; i < BODIES; i++) {
            if (!jsc_validate(&set, schema, tape.nodes, &report)) {
                (void)fprintf(stderr, "%s %s\n", mistakes[0].path, mistakes[0].message);
                return 1;
            }
        }
        double end = now_ns();
        least_read = read - begin < least_read ? read - begin : least_read;
        least = end - read < least ? end - read : least;
    }
    (void)printf("jsonschema: %zu bytes: %.0f ns to read, %.0f ns to check\n", len,
                 least_read / BODIES, least / BODIES);
    jsc_tape_fini(&tape);
    jsc_set_fini(&set);
    jsc_pattern_close();
    return 0;
}

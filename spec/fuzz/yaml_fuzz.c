/* SPDX-License-Identifier: Apache-2.0 */

/// Any bytes as YAML: what comes out is JSON, or there is a reason.

#include "json/json.h"
#include "yaml/yaml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[YAML_ERROR_BYTES];
    char *out;
    size_t len;
    if (!yaml_to_json((struct moon_slice){(const char *)data, size}, NULL, &out, &len, error)) {
        return 0;
    }
    struct moon_json_reader reader;
    json_reader_init(&reader, (struct moon_slice){out, len}, out, 256);
    enum moon_json_token token;
    do {
        token = json_next(&reader);
    } while (token != MOON_JSON_DONE && token != MOON_JSON_ERROR);
    if (token == MOON_JSON_ERROR && strcmp(reader.error, "number out of range") != 0) {
        abort();
    }
    free(out);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
// A PROXY header: what is taken ends within the input, a longer input gives the same header, and
// what we write of it reads back as the same.

#include "net/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct moon_proxy_header *header)
{
    char bytes[MOON_PROXY_WRITE_BYTES];
    struct moon_proxy_header again;
    size_t consumed, len = moon_proxy_write(header, bytes);
    MOON_ASSERT(moon_proxy_parse(moon_slice(bytes, len), &again, &consumed) == MOON_OK);
    MOON_ASSERT(consumed == len && again.has_addresses == header->has_addresses);
    if (!header->has_addresses)
        return;
    MOON_ASSERT(moon_ip_compare(&again.source, &header->source) == 0);
    MOON_ASSERT(moon_ip_compare(&again.destination, &header->destination) == 0);
    MOON_ASSERT(again.source_port == header->source_port);
    MOON_ASSERT(again.destination_port == header->destination_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_slice bytes = moon_slice((const char *)data, size);
    struct moon_proxy_header header;
    size_t consumed = 0;
    enum moon_rc rc = moon_proxy_parse(bytes, &header, &consumed);
    if (rc != MOON_OK) {
        MOON_ASSERT(rc == MOON_AGAIN || rc == MOON_ERR_BAD_REQUEST);
        return 0;
    }
    MOON_ASSERT(consumed > 0 && consumed <= size);
    for (size_t n = 0; n < consumed; n++)
        MOON_ASSERT(moon_proxy_parse(moon_slice(bytes.data, n), &(struct moon_proxy_header){0},
                                     &(size_t){0}) == MOON_AGAIN);
    check_round_trip(&header);
    header.version = 3 - header.version;
    check_round_trip(&header);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
// A reply of a name server: as many SRV records as fit, each with a name, in order of priority.

#include "net/dns_records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct moon_dns_srv records[MOON_DNS_RECORDS];
    int64_t ttl_ms = -1;
    size_t count = moon_dns_read_srv(moon_slice((const char *)data, size), records, &ttl_ms);
    MOON_ASSERT(count <= MOON_DNS_RECORDS && (count == 0) == (ttl_ms == -1));
    for (size_t i = 0; i < count; i++) {
        MOON_ASSERT(records[i].target[0] != '\0' && strlen(records[i].target) < 256);
        MOON_ASSERT(i == 0 || records[i - 1].priority <= records[i].priority);
    }
    return 0;
}

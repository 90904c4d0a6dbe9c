#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes country.mmdb: the networks that RFC 5737 and RFC 3849 reserve for documentation, each with a
country, in MaxMind's layout. For demonstration and specs; update.sh fetches a database of all networks."""

import ipaddress
import struct
import sys

COUNTRIES = {
    "192.0.2.0/24": "US",
    "198.51.100.0/24": "DE",
    "203.0.113.0/24": "KP",
    "2001:db8::/32": "NL",
}


def control(kind, size):
    assert size < 29
    return bytes([kind << 5 | size]) if kind <= 7 else bytes([size, kind - 7])


def encode(value):
    if isinstance(value, str):
        return control(2, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return control(7, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    if isinstance(value, list):
        return control(11, len(value)) + b"".join(encode(v) for v in value)
    kind, width, number = value  # ("uint16", …): 5 uint16, 6 uint32, 9 uint64
    body = number.to_bytes(width, "big").lstrip(b"\0")
    return control(kind, len(body)) + body


def uint16(n):
    return (5, 2, n)


def uint32(n):
    return (6, 4, n)


def uint64(n):
    return (9, 8, n)


def bits_of(network):
    net = ipaddress.ip_network(network)
    if net.version == 4:  # an IPv6 tree keeps IPv4 below ::/96
        return [0] * 96 + [int(net.network_address) >> (31 - i) & 1 for i in range(net.prefixlen)]
    return [int(net.network_address) >> (127 - i) & 1 for i in range(net.prefixlen)]


def build(countries):
    data, offsets, nodes = b"", {}, [[None, None]]
    for network, code in sorted(countries.items()):
        if code not in offsets:
            offsets[code] = len(data)
            data += encode({"country": {"iso_code": code}})
        at, bits = 0, bits_of(network)
        for bit in bits[:-1]:
            if nodes[at][bit] is None:
                nodes.append([None, None])
                nodes[at][bit] = ("node", len(nodes) - 1)
            at = nodes[at][bit][1]
        nodes[at][bits[-1]] = ("data", offsets[code])

    def record(one):
        if one is None:
            number = len(nodes)  # nothing there
        elif one[0] == "node":
            number = one[1]
        else:
            number = len(nodes) + 16 + one[1]
        return struct.pack(">I", number)[1:]

    tree = b"".join(record(left) + record(right) for left, right in nodes)
    about = {
        "binary_format_major_version": uint16(2), "binary_format_minor_version": uint16(0),
        "build_epoch": uint64(1700000000), "database_type": "Moongate-Demo-Country",
        "description": {"en": "Documentation networks"}, "ip_version": uint16(6),
        "languages": ["en"], "node_count": uint32(len(nodes)), "record_size": uint16(24),
    }
    return tree + b"\0" * 16 + data + b"\xab\xcd\xefMaxMind.com" + encode(about)


if __name__ == "__main__":
    with open(sys.argv[1] if len(sys.argv) > 1 else "country.mmdb", "wb") as file:
        file.write(build(COUNTRIES))

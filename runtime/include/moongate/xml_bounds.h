/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What is looked at in XML before libxml2 reads it: it compares each attribute of an element with each,
/// so that a few hundred kilobytes of them take seconds. Both plugins that give it the bodies of clients
/// look here first.

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum {
    MOON_XML_ATTRIBUTES = 256,   // of an element
    MOON_XML_DECLARATIONS = 256, // of attributes, in a DTD
    MOON_XML_NAMESPACES = 512,   // declared around an element: libxml2 looks through all of them
};

// Values between `at`, behind a '<', and the end of the tag or declaration, or the next '<', which no
// value holds.
static inline size_t moon_xml_values(const char *at, const char *end)
{
    size_t n = 0;
    char quote = '\0';
    for (; at < end && *at != '<' && (quote != '\0' || *at != '>'); at++) {
        if (quote != '\0') {
            quote = *at == quote ? '\0' : quote;
        } else if (*at == '"' || *at == '\'') {
            quote = *at;
            n++;
        }
    }
    return n;
}

/// Whether libxml2 reads the document in time that grows with its length, but for namespaces.
static inline bool moon_xml_is_bounded(const char *text, size_t len)
{
    const char *at = text, *end = text + len;
    size_t declared = 0;
    while (at < end && (at = (const char *)memchr(at, '<', (size_t)(end - at))) != NULL) {
        at++;
        // A comment, a section of text, an instruction: quotes in them are none.
        bool is_text =
            end - at > 2 && (at[0] == '?' || (at[0] == '!' && (at[1] == '-' || at[1] == '[')));
        size_t n = is_text ? 0 : moon_xml_values(at, end);
        bool is_declaration = end - at > 2 && at[0] == '!' && at[1] == 'A';
        declared += is_declaration ? n + 1 : 0;
        if (n > MOON_XML_ATTRIBUTES || declared > MOON_XML_DECLARATIONS) {
            return false;
        }
    }
    return true;
}

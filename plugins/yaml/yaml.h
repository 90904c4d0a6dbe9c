/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// YAML 1.2's core schema, made JSON: what the rest of the gateway reads.

#include "moongate/types.h"

#define YAML_ERROR_BYTES 160

/// Writes the one document of a text as JSON. Names are texts, whatever they look like. An alias is
/// written out; the output is bounded, so that aliases of aliases are no bomb.
///
/// @param pace   called every hundred nodes or so (moongate/plugin.h); or NULL
/// @param out    malloc'd, NUL behind it; the caller frees it
/// @param error  on failure: what is wrong and in which line; YAML_ERROR_BYTES
/// @return false: it failed, and nothing is to be freed
bool yaml_to_json(struct moon_slice text, void (*pace)(void), char **out, size_t *len, char *error);

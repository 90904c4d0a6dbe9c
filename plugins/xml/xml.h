/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the files of plugins/xml share.

#include "moongate/plugin.h"

#include <libxml/parser.h>

#define XML_TEXT_MAX ((size_t)16 << 20)

/// Reads a document: no network, no files, and none with a DTD, so that there are no entities.
/// @return NULL with a static text in `*why`
xmlDocPtr xml_read(struct moon_slice text, const char **why);

/// xml.stylesheet(text) -> sheet | nil, why
int xml_stylesheet(lua_State *L);

/// sheet:transform(text, parameters?) -> text, media type | nil, why
void xml_stylesheet_attach(lua_State *L);

/// xml.schema(text) -> schema | nil, why
int xml_schema(lua_State *L);

/// schema:validate(text, is_soap = false) -> true | false, mistakes
void xml_schema_attach(lua_State *L);

const struct moon_host *xml_host(void);
struct moon_slice xml_check_text(lua_State *L, int index, const char *what);

/// Pushes what a function returns that failed as expected. @return 2
int xml_fail(lua_State *L, const char *why);

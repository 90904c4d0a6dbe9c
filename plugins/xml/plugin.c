/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.xml: documents as Lua tables, JSON as tables that keep its order, XSLT 1.0, XML Schema.

#include "moongate/xml_bounds.h"

#include "json/json.h"
#include "xml/xml.h"

#include <libxml/SAX2.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>

enum { XML_DEPTH = 200 };

static const struct moon_host *host;

const struct moon_host *xml_host(void)
{
    return host;
}

struct moon_slice xml_check_text(lua_State *L, int index, const char *what)
{
    struct moon_slice text;
    if (lua_type(L, index) != LUA_TSTRING)
        (void)luaL_error(L, "xml.%s must be a string, got %s", what, luaL_typename(L, index));
    text.data = lua_tolstring(L, index, &text.len);
    return text;
}

int xml_fail(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static xmlParserInputPtr xml_load_nothing(const char *url, const char *id, xmlParserCtxtPtr ctxt)
{
    (void)url;
    (void)id;
    (void)ctxt;
    return NULL;
}

// A DTD is where entities come from: the document ends there.
static void xml_refuse_dtd(void *data, const xmlChar *name, const xmlChar *external,
                           const xmlChar *system)
{
    xmlParserCtxtPtr ctxt = data;
    (void)name;
    (void)external;
    (void)system;
    ctxt->_private = ctxt;
    xmlStopParser(ctxt);
}

// Each prefix is looked for in all namespaces that are open.
static void xml_start(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                      int namespaces, const xmlChar **ns, int attributes, int defaulted,
                      const xmlChar **values)
{
    xmlParserCtxtPtr ctxt = data;
    if (ctxt->nsNr / 2 > MOON_XML_NAMESPACES) { // a prefix and an address each
        ctxt->wellFormed = 0;
        xmlStopParser(ctxt);
        return;
    }
    xmlSAX2StartElementNs(data, name, prefix, uri, namespaces, ns, attributes, defaulted, values);
}

xmlDocPtr xml_read(struct moon_slice text, const char **why)
{
    *why = "out of memory";
    if (text.len > XML_TEXT_MAX) {
        *why = "the document is too large";
        return NULL;
    }
    if (!moon_xml_is_bounded(text.data, text.len)) {
        *why = "an element has too many attributes";
        return NULL;
    }
    xmlParserCtxtPtr ctxt = xmlNewParserCtxt();
    if (ctxt == NULL)
        return NULL;
    ctxt->sax->internalSubset = xml_refuse_dtd;
    ctxt->sax->startElementNs = xml_start;
    xmlDocPtr doc = xmlCtxtReadMemory(ctxt, text.data, (int)text.len, NULL, NULL,
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                          XML_PARSE_NOCDATA | XML_PARSE_COMPACT);
    bool has_dtd = ctxt->_private != NULL;
    bool is_good = doc != NULL && ctxt->wellFormed != 0 && !has_dtd;
    if (!is_good) {
        *why = has_dtd ? "the document has a DTD" : "the document is not well-formed";
        xmlFreeDoc(doc);
        doc = NULL;
    }
    xmlFreeParserCtxt(ctxt);
    return doc;
}

static void xml_push_name(lua_State *L, const xmlNs *ns, const xmlChar *name)
{
    if (ns != NULL && ns->prefix != NULL)
        lua_pushfstring(L, "%s:%s", (const char *)ns->prefix, (const char *)name);
    else
        lua_pushstring(L, (const char *)name);
}

static int xml_push_attribute(lua_State *L, int n, const char *value)
{
    lua_pushstring(L, value == NULL ? "" : value);
    lua_rawseti(L, -3, n + 2);
    lua_rawseti(L, -2, n + 1);
    return n + 2;
}

// { name, value, name, value ... }, declarations of namespaces first
static void xml_push_attributes(lua_State *L, xmlNodePtr node)
{
    int n = 0;
    lua_newtable(L);
    for (const xmlNs *ns = node->nsDef; ns != NULL; ns = ns->next) {
        lua_pushstring(L, "xmlns");
        if (ns->prefix != NULL) {
            lua_pop(L, 1);
            lua_pushfstring(L, "xmlns:%s", (const char *)ns->prefix);
        }
        n = xml_push_attribute(L, n, (const char *)ns->href);
    }
    for (xmlAttrPtr a = node->properties; a != NULL; a = a->next) {
        xmlChar *value = xmlNodeListGetString(node->doc, a->children, 1);
        xml_push_name(L, a->ns, a->name);
        n = xml_push_attribute(L, n, (const char *)value);
        xmlFree(value);
    }
}

// { name =, attributes =, ... children: texts and elements in order }
// NOLINTNEXTLINE(misc-no-recursion): the parser refuses documents deeper than 256
static void xml_push_element(lua_State *L, xmlNodePtr node)
{
    int n = 0;
    lua_newtable(L);
    xml_push_name(L, node->ns, node->name);
    lua_setfield(L, -2, "name");
    xml_push_attributes(L, node);
    lua_setfield(L, -2, "attributes");
    for (xmlNodePtr child = node->children; child != NULL; child = child->next) {
        if (child->type == XML_ELEMENT_NODE && lua_checkstack(L, 10) != 0) {
            xml_push_element(L, child);
            lua_rawseti(L, -2, ++n);
        } else if (child->type == XML_TEXT_NODE || child->type == XML_CDATA_SECTION_NODE) {
            lua_pushstring(L, (const char *)child->content);
            lua_rawseti(L, -2, ++n);
        }
    }
}

static int xml_push_root(lua_State *L)
{
    xml_push_element(L, xmlDocGetRootElement(lua_touserdata(L, 1)));
    return 1;
}

/// xml.decode(text) -> { name =, attributes = { name, value ... }, children ... } | nil, why
static int xml_decode(lua_State *L)
{
    const char *why;
    struct moon_slice text = xml_check_text(L, 1, "decode: text");
    host->charge(L, (uint32_t)(text.len / 4));
    xmlDocPtr doc = xml_read(text, &why);
    if (doc == NULL || xmlDocGetRootElement(doc) == NULL) {
        xmlFreeDoc(doc);
        return xml_fail(L, doc == NULL ? why : "the document is empty");
    }
    // Protected: what Lua raises here must not lose the document.
    lua_pushcfunction(L, xml_push_root);
    lua_pushlightuserdata(L, doc);
    int rc = lua_pcall(L, 1, 1, 0);
    xmlFreeDoc(doc);
    return rc == 0 ? 1 : lua_error(L);
}

// Puts the value on top into its container: below a member's name, or an array.
static void xml_json_put(lua_State *L, const struct moon_json_reader *r)
{
    if (r->depth == 0)
        return;
    bool is_object = r->closer == '}';
    int container = is_object ? -3 : -2;
    int n = (int)lua_objlen(L, container);
    if (is_object) {
        lua_insert(L, -2); // value, key
        lua_rawseti(L, -3, n + 1);
        lua_rawseti(L, -2, n + 2);
    } else {
        lua_rawseti(L, -2, n + 1);
    }
}

static void xml_json_scalar(lua_State *L, const struct moon_json_reader *r,
                            enum moon_json_token token)
{
    if (token == MOON_JSON_TRUE || token == MOON_JSON_FALSE)
        lua_pushboolean(L, token == MOON_JSON_TRUE);
    else if (token == MOON_JSON_NULL)
        lua_pushlightuserdata(L, NULL);
    else
        lua_pushlstring(L, r->text.data, r->text.len);
}

static int xml_json_fail(lua_State *L, const char *why)
{
    lua_settop(L, 0);
    return xml_fail(L, why);
}

/// xml.json(text) -> value | nil, why
///
/// Objects are { kind = "object", name, value, name, value ... } in the text's order, arrays
/// { kind = "array", value ... }, numbers texts as they were written, null xml.null.
static int xml_json(lua_State *L)
{
    struct moon_slice text = xml_check_text(L, 1, "json: text");
    struct moon_json_reader r;
    host->charge(L, (uint32_t)(text.len / 4));
    char *scratch = lua_newuserdata(L, text.len + 1);
    json_reader_init(&r, text, scratch, XML_DEPTH);
    luaL_checkstack(L, XML_DEPTH * 2 + 16, "JSON");
    for (;;) {
        enum moon_json_token token = json_next(&r);
        if (token >= MOON_JSON_OBJECT && r.name.data != NULL)
            lua_pushlstring(L, r.name.data, r.name.len);
        switch (token) {
        case MOON_JSON_ERROR:
            return xml_json_fail(L, r.error);
        case MOON_JSON_DONE:
            return 1;
        case MOON_JSON_OBJECT:
        case MOON_JSON_ARRAY:
            lua_newtable(L);
            lua_pushstring(L, token == MOON_JSON_OBJECT ? "object" : "array");
            lua_setfield(L, -2, "kind");
            break;
        case MOON_JSON_OBJECT_END:
        case MOON_JSON_ARRAY_END:
            xml_json_put(L, &r);
            break;
        case MOON_JSON_STRING:
        case MOON_JSON_NUMBER:
        case MOON_JSON_TRUE:
        case MOON_JSON_FALSE:
        case MOON_JSON_NULL:
            xml_json_scalar(L, &r, token);
            xml_json_put(L, &r);
            break;
        }
    }
}

static void xml_attach(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    xml_stylesheet_attach(L);
    xml_schema_attach(L);
}

static int xml_open(const struct moon_host *given)
{
    host = given;
    xmlInitParser();
    xmlSetExternalEntityLoader(xml_load_nothing);
    return 0;
}

static void xml_close(void)
{
    host = NULL;
}

static const luaL_Reg xml_functions[] = {{"decode", xml_decode},
                                         {"json", xml_json},
                                         {"stylesheet", xml_stylesheet},
                                         {"schema", xml_schema},
                                         {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "xml",
                                                          .functions = xml_functions,
                                                          .open = xml_open,
                                                          .close = xml_close,
                                                          .attach = xml_attach};

/* SPDX-License-Identifier: Apache-2.0 */

/// XML Schema 1.0 by libxml2: compiled at load, from one document; what it imports is not read.

#include "xml/xml.h"

#include <libxml/tree.h>
#include <libxml/xmlschemas.h>
#include <stdio.h>
#include <string.h>

enum { SCHEMA_ERRORS = 8, SCHEMA_ERROR_BYTES = 512 };

static const char schema_class[] = "moongate.xml.schema";

// libxml2's schema keeps the document's texts, not the document.
struct xml_schema {
    xmlSchemaPtr schema;
    xmlDocPtr doc;
};

// The first mistake of a schema, for whoever wrote it.
static void schema_first_error(void *data, xmlErrorPtr error)
{
    char *text = data;
    if (text[0] != '\0' || error == NULL || error->message == NULL)
        return;
    if (error->line > 0)
        (void)snprintf(text, SCHEMA_ERROR_BYTES, "line %d: %s", error->line, error->message);
    else
        (void)snprintf(text, SCHEMA_ERROR_BYTES, "%s", error->message);
    text[strcspn(text, "\r\n")] = '\0';
}

int xml_schema(lua_State *L)
{
    const char *why;
    char error[SCHEMA_ERROR_BYTES] = "";
    struct moon_slice text = xml_check_text(L, 1, "schema: text");
    struct xml_schema *box = lua_newuserdata(L, sizeof(*box));
    *box = (struct xml_schema){NULL, NULL};
    luaL_getmetatable(L, schema_class);
    lua_setmetatable(L, -2);
    box->doc = xml_read(text, &why);
    if (box->doc == NULL)
        return xml_fail(L, why);
    xmlSchemaParserCtxtPtr parser = xmlSchemaNewDocParserCtxt(box->doc);
    if (parser == NULL)
        return xml_fail(L, "out of memory");
    xmlSchemaSetParserStructuredErrors(parser, schema_first_error, error);
    box->schema = xmlSchemaParse(parser);
    xmlSchemaFreeParserCtxt(parser);
    if (box->schema == NULL)
        return xml_fail(L, error[0] == '\0' ? "this is no XML schema" : error);
    return 1;
}

static bool schema_is_element(xmlNodePtr node, const char *name)
{
    static const char *const spaces[] = {"http://schemas.xmlsoap.org/soap/envelope/",
                                         "http://www.w3.org/2003/05/soap-envelope"};
    if (node == NULL || node->type != XML_ELEMENT_NODE || node->ns == NULL ||
        strcmp((const char *)node->name, name) != 0)
        return false;
    return strcmp((const char *)node->ns->href, spaces[0]) == 0 ||
           strcmp((const char *)node->ns->href, spaces[1]) == 0;
}

static xmlNodePtr schema_next_element(xmlNodePtr node)
{
    while (node != NULL && node->type != XML_ELEMENT_NODE)
        node = node->next;
    return node;
}

// What a SOAP envelope carries: the one element of its Body. NULL: it is none, or carries another number.
static xmlNodePtr schema_soap_content(xmlNodePtr root)
{
    if (!schema_is_element(root, "Envelope"))
        return NULL;
    xmlNodePtr body = schema_next_element(root->children);
    while (body != NULL && !schema_is_element(body, "Body"))
        body = schema_next_element(body->next);
    xmlNodePtr content = body == NULL ? NULL : schema_next_element(body->children);
    return content == NULL || schema_next_element(content->next) != NULL ? NULL : content;
}

// Mistakes as they are found; Lua's memory is not touched while libxml2 runs.
struct schema_report {
    int count;
    char *paths[SCHEMA_ERRORS];
    char *messages[SCHEMA_ERRORS];
};

static void schema_note(struct schema_report *report, xmlNodePtr node, const char *message)
{
    if (report->count == SCHEMA_ERRORS)
        return;
    report->paths[report->count] = (char *)(node == NULL ? NULL : xmlGetNodePath(node));
    report->messages[report->count] =
        (char *)xmlStrndup((const xmlChar *)message, (int)strnlen(message, SCHEMA_ERROR_BYTES));
    report->count++;
}

static void schema_on_error(void *data, xmlErrorPtr error)
{
    if (error != NULL && error->message != NULL)
        schema_note(data, error->node, error->message);
}

static void schema_report_fini(struct schema_report *report)
{
    for (int i = 0; i < report->count; i++) {
        xmlFree(report->paths[i]);
        xmlFree(report->messages[i]);
    }
}

static bool schema_check(const struct xml_schema *box, xmlDocPtr doc, bool is_soap,
                         struct schema_report *report)
{
    xmlNodePtr root = xmlDocGetRootElement(doc);
    xmlNodePtr content = is_soap ? schema_soap_content(root) : root;
    if (content == NULL) {
        schema_note(report, root, "is no SOAP envelope with one element in its Body");
        return false;
    }
    xmlSchemaValidCtxtPtr ctxt = xmlSchemaNewValidCtxt(box->schema);
    if (ctxt == NULL) {
        schema_note(report, NULL, "out of memory");
        return false;
    }
    xmlSchemaSetValidStructuredErrors(ctxt, schema_on_error, report);
    int rc = is_soap ? xmlSchemaValidateOneElement(ctxt, content) : xmlSchemaValidateDoc(ctxt, doc);
    xmlSchemaFreeValidCtxt(ctxt);
    if (rc != 0 && report->count == 0)
        schema_note(report, root, "does not fit the schema");
    return rc == 0;
}

// Pushes the list of mistakes of the light userdata at index 1.
static int schema_push_report(lua_State *L)
{
    const struct schema_report *report = lua_touserdata(L, 1);
    lua_createtable(L, report->count, 0);
    for (int i = 0; i < report->count; i++) {
        const char *path = report->paths[i], *message = report->messages[i];
        lua_createtable(L, 0, 3);
        lua_pushstring(L, path == NULL ? "" : path);
        lua_setfield(L, -2, "path");
        lua_pushliteral(L, "xml_schema");
        lua_setfield(L, -2, "keyword");
        lua_pushlstring(L, message == NULL ? "" : message,
                        message == NULL ? 0 : strcspn(message, "\r\n"));
        lua_setfield(L, -2, "message");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/// schema:validate(text, is_soap = false) -> true | false, { { path =, keyword =, message = }, ... }
static int schema_validate(lua_State *L)
{
    const char *why;
    const struct xml_schema *box = luaL_checkudata(L, 1, schema_class);
    struct moon_slice text = xml_check_text(L, 2, "validate: text");
    struct schema_report report = {.count = 0};
    bool is_soap = lua_toboolean(L, 3) != 0;
    xml_host()->charge(L, (uint32_t)text.len);
    xmlDocPtr doc = xml_read(text, &why);
    bool is_valid = false;
    if (doc == NULL)
        schema_note(&report, NULL, why);
    else
        is_valid = schema_check(box, doc, is_soap, &report);
    xmlFreeDoc(doc);
    lua_pushboolean(L, is_valid);
    // Protected: what Lua raises here must not lose the texts.
    lua_pushcfunction(L, schema_push_report);
    lua_pushlightuserdata(L, &report);
    int rc = lua_pcall(L, 1, 1, 0);
    schema_report_fini(&report);
    return rc == 0 ? 2 : lua_error(L);
}

static int schema_gc(lua_State *L)
{
    struct xml_schema *box = luaL_checkudata(L, 1, schema_class);
    xmlSchemaFree(box->schema);
    xmlFreeDoc(box->doc);
    *box = (struct xml_schema){NULL, NULL};
    return 0;
}

void xml_schema_attach(lua_State *L)
{
    luaL_newmetatable(L, schema_class);
    lua_newtable(L);
    lua_pushcfunction(L, schema_validate);
    lua_setfield(L, -2, "validate");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, schema_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, schema_class);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

/* SPDX-License-Identifier: Apache-2.0 */

/// XSLT 1.0 by libxslt: reads and writes nothing outside, and bounded in depth and steps.

#include "xml/xml.h"

#include <libxslt/documents.h>
#include <libxslt/security.h>
#include <libxslt/transform.h>
#include <libxslt/variables.h>
#include <libxslt/xsltInternals.h>
#include <libxslt/xsltutils.h>
#include <string.h>

enum { SHEET_DEPTH = 500, SHEET_STEPS = 1000000, SHEET_PARAMETERS = 32 };

static const char sheet_class[] = "moongate.xml.stylesheet";

static xmlDocPtr sheet_load_nothing(const xmlChar *url, xmlDictPtr dict, int options, void *ctxt,
                                    xsltLoadType type)
{
    (void)url;
    (void)dict;
    (void)options;
    (void)ctxt;
    (void)type;
    return NULL;
}

static void sheet_silent(void *data, const char *fmt, ...)
{
    (void)data;
    (void)fmt;
}

int xml_stylesheet(lua_State *L)
{
    const char *why;
    xmlDocPtr doc = xml_read(xml_check_text(L, 1, "stylesheet: text"), &why);
    if (doc == NULL)
        return xml_fail(L, why);
    xsltStylesheetPtr *box = lua_newuserdata(L, sizeof(xsltStylesheetPtr));
    *box = xsltParseStylesheetDoc(doc);
    if (*box == NULL) {
        xmlFreeDoc(doc);
        return xml_fail(L, "this is no XSLT stylesheet");
    }
    if ((*box)->errors > 0) {
        xsltFreeStylesheet(*box);
        return xml_fail(L, "the stylesheet has errors");
    }
    luaL_getmetatable(L, sheet_class);
    lua_setmetatable(L, -2);
    return 1;
}

// Names and values of the parameters; the values become strings, never expressions.
static int sheet_parameters(lua_State *L, int index, const char **out)
{
    int n = 0;
    if (!lua_istable(L, index))
        return 0;
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        bool is_text = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING;
        if (!is_text || n == SHEET_PARAMETERS)
            return -1;
        out[2 * n] = lua_tostring(L, -2); // kept alive by the table
        out[2 * n + 1] = lua_tostring(L, -1);
        n++;
    }
    return n;
}

static xmlDocPtr sheet_apply(xsltStylesheetPtr sheet, xmlDocPtr doc, const char **parameters)
{
    xsltTransformContextPtr ctxt = xsltNewTransformContext(sheet, doc);
    xsltSecurityPrefsPtr prefs = xsltNewSecurityPrefs();
    xmlDocPtr result = NULL;
    if (ctxt != NULL && prefs != NULL) {
        for (int what = XSLT_SECPREF_READ_FILE; what <= XSLT_SECPREF_WRITE_NETWORK; what++)
            (void)xsltSetSecurityPrefs(prefs, (xsltSecurityOption)what, xsltSecurityForbid);
        (void)xsltSetCtxtSecurityPrefs(prefs, ctxt);
        xsltSetTransformErrorFunc(ctxt, NULL, sheet_silent);
        ctxt->maxTemplateDepth = SHEET_DEPTH;
        ctxt->maxTemplateVars = SHEET_STEPS;
        ctxt->opLimit = SHEET_STEPS;
        if (xsltQuoteUserParams(ctxt, parameters) == 0)
            result = xsltApplyStylesheetUser(sheet, doc, NULL, NULL, NULL, ctxt);
        if (ctxt->state != XSLT_STATE_OK) {
            xmlFreeDoc(result);
            result = NULL;
        }
    }
    xsltFreeTransformContext(ctxt);
    xsltFreeSecurityPrefs(prefs);
    return result;
}

static int sheet_transform(lua_State *L)
{
    const char *parameters[2 * SHEET_PARAMETERS + 1] = {NULL};
    const char *why;
    xmlChar *out = NULL;
    int len = 0;
    xsltStylesheetPtr *box = luaL_checkudata(L, 1, sheet_class);
    struct moon_slice text = xml_check_text(L, 2, "transform: text");
    if (sheet_parameters(L, 3, parameters) < 0)
        return luaL_error(L, "transform: at most %d parameters, all texts", SHEET_PARAMETERS);
    xml_host()->charge(L, (uint32_t)text.len);
    xmlDocPtr doc = xml_read(text, &why);
    if (doc == NULL)
        return xml_fail(L, why);
    xmlDocPtr result = sheet_apply(*box, doc, parameters);
    bool is_good = result != NULL && xsltSaveResultToString(&out, &len, result, *box) == 0;
    xmlFreeDoc(result);
    xmlFreeDoc(doc);
    if (!is_good || (size_t)len > XML_TEXT_MAX) {
        xmlFree(out);
        return xml_fail(L, "the transformation failed, or was too long");
    }
    lua_pushlstring(L, out == NULL ? "" : (const char *)out, (size_t)len);
    xmlFree(out);
    const xmlChar *media = (*box)->mediaType, *method = (*box)->method;
    if (media != NULL)
        lua_pushstring(L, (const char *)media);
    else if (method != NULL && strcmp((const char *)method, "text") == 0)
        lua_pushliteral(L, "text/plain; charset=utf-8");
    else if (method != NULL && strcmp((const char *)method, "html") == 0)
        lua_pushliteral(L, "text/html; charset=utf-8");
    else
        lua_pushliteral(L, "application/xml");
    return 2;
}

static int sheet_gc(lua_State *L)
{
    xsltStylesheetPtr *box = luaL_checkudata(L, 1, sheet_class);
    xsltFreeStylesheet(*box);
    *box = NULL;
    return 0;
}

void xml_stylesheet_attach(lua_State *L)
{
    xsltSetLoaderFunc(sheet_load_nothing);
    xsltSetGenericErrorFunc(NULL, sheet_silent);
    luaL_newmetatable(L, sheet_class);
    lua_newtable(L);
    lua_pushcfunction(L, sheet_transform);
    lua_setfield(L, -2, "transform");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, sheet_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, sheet_class);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

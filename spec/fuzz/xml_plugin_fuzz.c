/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.xml: documents of any bytes give values, pass a schema and a stylesheet, or give a reason;
/// entities never.

#include "plugin_host.h"

extern const struct moon_plugin moon_plugin_xml;

static const char PREPARE[] =
    "local schema = assert(xml.schema([[<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema'>\n"
    "  <xs:element name='a'><xs:complexType mixed='true'><xs:sequence>\n"
    "    <xs:element name='b' type='xs:integer' minOccurs='0' maxOccurs='5'/>\n"
    "  </xs:sequence><xs:attribute name='c' type='xs:date'/></xs:complexType></xs:element>\n"
    "</xs:schema>]]))\n"
    "local sheet = assert(xml.stylesheet([[<xsl:stylesheet version='1.0'\n"
    "  xmlns:xsl='http://www.w3.org/1999/XSL/Transform'><xsl:template match='/'>\n"
    "  <o><xsl:copy-of select='//b'/></o></xsl:template></xsl:stylesheet>]]))\n"
    "return function(input)\n"
    "  local document, why = xml.decode(input)\n"
    "  assert(document or type(why) == 'string')\n"
    "  local ok, mistakes = schema:validate(input)\n"
    "  assert(ok == (#mistakes == 0) and #mistakes <= 8)\n"
    "  assert(not ok or document)\n"
    "  assert(not (ok and input:find('<!DOCTYPE', 1, true) and not input:find('<![CDATA[', 1, "
    "true)\n"
    "    and not input:find('<!--', 1, true) and not input:find('<?', 1, true)))\n"
    "  schema:validate(input, true)\n"
    "  local text = sheet:transform(input, { p = 'x' })\n"
    "  assert(text == nil or document)\n"
    "  local value = xml.json(input)\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = fuzz_new_state();
        fuzz_open_plugin(L, &moon_plugin_xml);
        fuzz_prepare(L, PREPARE);
    }
    fuzz_call(L, data, size);
    return 0;
}

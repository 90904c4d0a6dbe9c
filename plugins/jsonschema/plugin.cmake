# SPDX-License-Identifier: Apache-2.0
# The JSON reader is shared with the plugin of that name; PCRE2 for `pattern`.
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
target_link_libraries(plugin_jsonschema PUBLIC plugin_json PkgConfig::PCRE2 m)

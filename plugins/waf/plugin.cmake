# SPDX-License-Identifier: Apache-2.0
# PCRE2 for patterns, libxml2 for XML bodies, libinjection from Debian's libmodsecurity.a.
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(LIBXML2 REQUIRED IMPORTED_TARGET libxml-2.0)
target_link_libraries(plugin_waf PUBLIC -l:libmodsecurity.a PkgConfig::PCRE2 PkgConfig::LIBXML2 m)

# For the specs, through FFI: the engine alone, its symbols visible.
file(GLOB waf_engine_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/plugins/waf/*.c)
list(FILTER waf_engine_sources EXCLUDE REGEX "/plugin\\.c$")
add_library(waf_unit SHARED ${waf_engine_sources})
target_compile_options(waf_unit PRIVATE -fvisibility=default -fno-semantic-interposition)
target_include_directories(waf_unit PRIVATE ${CMAKE_SOURCE_DIR}/plugins ${CMAKE_SOURCE_DIR}/runtime/include)
target_link_libraries(waf_unit PRIVATE -l:libmodsecurity.a PkgConfig::PCRE2 PkgConfig::LIBXML2 m)

# SPDX-License-Identifier: Apache-2.0
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
target_link_libraries(plugin_regex PUBLIC PkgConfig::PCRE2)

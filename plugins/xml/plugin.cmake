# SPDX-License-Identifier: Apache-2.0
pkg_check_modules(LIBXML2 REQUIRED IMPORTED_TARGET libxml-2.0)
pkg_check_modules(LIBXSLT REQUIRED IMPORTED_TARGET libxslt)
target_link_libraries(plugin_xml PUBLIC plugin_json PkgConfig::LIBXSLT PkgConfig::LIBXML2)

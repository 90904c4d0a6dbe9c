# SPDX-License-Identifier: Apache-2.0
pkg_check_modules(MAXMINDDB REQUIRED IMPORTED_TARGET libmaxminddb)
target_link_libraries(plugin_geo PUBLIC PkgConfig::MAXMINDDB)

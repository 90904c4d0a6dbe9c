# SPDX-License-Identifier: Apache-2.0
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
target_link_libraries(plugin_yaml PUBLIC PkgConfig::YAML)

# SPDX-License-Identifier: Apache-2.0
# The JSON reader and base64url are shared with the plugins of those names.
target_link_libraries(plugin_jwt PUBLIC plugin_json plugin_crypto PkgConfig::OPENSSL)

# SPDX-License-Identifier: Apache-2.0
# The native plugins in one shared object, for their specs (spec/plugins/host.lua loads it).
add_library(moon_plugin_test SHARED ${CMAKE_SOURCE_DIR}/spec/plugins/host.c)
target_include_directories(moon_plugin_test PRIVATE ${CMAKE_BINARY_DIR}/generated
  ${CMAKE_SOURCE_DIR}/runtime/include ${CMAKE_SOURCE_DIR}/plugins)
foreach(name ${MOON_PLUGINS})
  target_link_libraries(moon_plugin_test PRIVATE plugin_${name})
endforeach()

-- SPDX-License-Identifier: Apache-2.0
--- What library functions grant to policies.
return {
  MAX_BYTES = 16 * 1024 * 1024, -- longest string that one call may build
  NATIVE_STEPS = 2000000, -- worst case of a pattern that the C matcher may be given
  MAX_CAPTURES = 32,
}

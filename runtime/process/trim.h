/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Gives back what only the start of a process needed: free memory, and the pages of mapped files (code
/// that ran once, sources of modules) that nobody has changed. Those come back out of the page cache when
/// they are touched again.
///
/// Takes some milliseconds. Process: supervisor, worker; before requests are served.
void moon_process_trim(void);

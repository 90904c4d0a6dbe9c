/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Levels of the error log, shared by the runtime and by plugins.

enum moon_log_level { MOON_LOG_DEBUG, MOON_LOG_INFO, MOON_LOG_WARN, MOON_LOG_ERROR };

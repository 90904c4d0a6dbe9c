/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What systemd is told (Type=notify), one datagram a message. Does nothing without $NOTIFY_SOCKET.
///
/// Process: supervisor.

/// @param text  "READY=1", "STOPPING=1", ...; see sd_notify(3)
void moon_notify(const char *text);
void moon_notify_reloading(void);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Turns functions that overrun, truncate in silence or keep hidden state into compile errors.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOON_BANNED(name) sorry_##name##_is_banned
#undef strcpy
#define strcpy(a, b) MOON_BANNED(strcpy)
#undef strcat
#define strcat(a, b) MOON_BANNED(strcat)
#undef strncpy
#define strncpy(a, b, c) MOON_BANNED(strncpy)
#undef strncat
#define strncat(a, b, c) MOON_BANNED(strncat)
#undef strtok
#define strtok(a, b) MOON_BANNED(strtok)
#undef sprintf
#define sprintf(...) MOON_BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) MOON_BANNED(vsprintf)
#undef atoi
#define atoi(a) MOON_BANNED(atoi)
#undef atol
#define atol(a) MOON_BANNED(atol)
#undef gmtime
#define gmtime(a) MOON_BANNED(gmtime)
#undef localtime
#define localtime(a) MOON_BANNED(localtime)
#undef ctime
#define ctime(a) MOON_BANNED(ctime)

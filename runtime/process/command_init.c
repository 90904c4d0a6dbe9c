/* SPDX-License-Identifier: Apache-2.0 */

/// `moongate init`: a small configuration that serves at once, to be changed.

#include "process/cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct init_file {
    const char *path;
    const char *text;
};

static const struct init_file init_files[] = {
    {"gateway.lua",
     "--- The gateway: where it listens, what it serves. `moongate check .` finds mistakes;\n"
     "--- a running gateway loads changed files by itself.\n"
     "\n"
     "local p = require(\"moongate.policies\")\n"
     "\n"
     "return {\n"
     "  name = \"gateway\",\n"
     "  listeners = { { name = \"http\", address = \"127.0.0.1:8080\" } },\n"
     "  management = { address = \"127.0.0.1:3443\" },\n"
     "\n"
     "  backends = {\n"
     "    -- Put your own here: targets = { \"http://127.0.0.1:9000\" }.\n"
     "    hello = { targets = { \"http://127.0.0.1:8080\" } },\n"
     "  },\n"
     "\n"
     "  sites = {\n"
     "    {\n"
     "      hosts = { \"*\" },\n"
     "      routes = {\n"
     "        { path = \"/origin/*\", reply = { status = 200, body = \"Hello from the origin.\\n\" "
     "} },\n"
     "        { path = \"/*\", apis = true },\n"
     "      },\n"
     "    },\n"
     "  },\n"
     "\n"
     "  policies = {\n"
     "    outbound = { p.set_header { name = \"Server\", exists_action = \"delete\" } },\n"
     "  },\n"
     "}\n"},
    {"apis/hello.lua", "local p = require(\"moongate.policies\")\n"
                       "\n"
                       "return {\n"
                       "  name = \"hello\",\n"
                       "  paths = { \"/hello\" },\n"
                       "  backend = \"hello\",\n"
                       "  operations = {\n"
                       "    greet = { method = \"GET\", path = \"/\" },\n"
                       "  },\n"
                       "  policies = {\n"
                       "    inbound = {\n"
                       "      p.base,\n"
                       "      p.rate_limit { calls = 100, period = 60 },\n"
                       "      p.rewrite_uri { template = \"/origin/hello\" },\n"
                       "    },\n"
                       "  },\n"
                       "}\n"},
    {"policies/tag.lua",
     "--- A policy of your own: p.tag { value = \"blue\" } in any list of policies.\n"
     "\n"
     "local M = { name = \"tag\", summary = \"Sets X-Tag on responses.\" }\n"
     "\n"
     "M.schema = {\n"
     "  type = \"object\", required = { \"value\" }, additionalProperties = false,\n"
     "  properties = { value = { type = \"string\", description = \"The tag.\" } },\n"
     "}\n"
     "\n"
     "--- Once per generation; what it returns is `self` below.\n"
     "function M.prepare(conf)\n"
     "  return conf\n"
     "end\n"
     "\n"
     "function M.outbound(self, ctx)\n"
     "  ctx.response.headers[\"X-Tag\"] = self.value\n"
     "end\n"
     "\n"
     "return M\n"},
};

static const char *const init_folders[] = {"", "/apis", "/policies"};

static bool init_failed(const char *path)
{
    (void)fprintf(stderr, "moongate init: %s: %m\n", path);
    return false;
}

static bool init_write(const char *dir, const struct init_file *file, bool is_forced)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, file->path);
    FILE *out = fopen(path, is_forced ? "we" : "wxe");
    if (out == NULL)
        return init_failed(path);
    bool is_written = fputs(file->text, out) >= 0;
    if (fclose(out) != 0 || !is_written)
        return init_failed(path);
    return true;
}

int moon_command_init(const struct moon_cli *cli)
{
    const char *dir = cli->arguments[0];
    for (size_t i = 0; i < MOON_COUNT(init_folders); i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof(path), "%s%s", dir, init_folders[i]);
        if (mkdir(path, 0755) == -1 && errno != EEXIST) {
            (void)init_failed(path);
            return MOON_EXIT_FAILED;
        }
    }
    for (size_t i = 0; i < MOON_COUNT(init_files); i++) {
        if (!init_write(dir, &init_files[i], cli->is_forced))
            return MOON_EXIT_FAILED;
    }
    (void)printf(
        "%s is written. Try:\n\n  moongate run %s\n  curl -i http://127.0.0.1:8080/hello\n", dir,
        dir);
    return MOON_EXIT_DONE;
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes lua/moongate/bots_data.lua anew from the npm package crawler-user-agents (MIT): the texts
# and patterns by which bots are known, with their category. Needs npm and node; run it by hand, look
# at the difference, commit it.
# usage: scripts/update-bots.sh [VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "crawler-user-agents@${1:-latest}" >/dev/null && tar xzf ./*.tgz)

node - "$work/package" >lua/moongate/bots_data.lua <<'JS'
const path = process.argv[2];
const list = require(path + "/crawler-user-agents.json");
const { version } = require(path + "/package.json");
const lua = (text) => '"' + text.replace(/[\\"]/g, "\\$&") + '"';
// A pattern without operators is a text, which is looked for together with all other texts.
const asText = (pattern) => {
  const plain = pattern.replace(/\\([^A-Za-z0-9])/g, "\u0001$1");
  return /[[\]().*+?^$|{}\\]/.test(plain.replace(/\u0001./g, "")) ? null : plain.replace(/\u0001/g, "");
};
const out = { texts: {}, patterns: {} };
for (const { pattern, tags } of list) {
  if (!/^[\x20-\x7e]{3,}$/.test(pattern)) continue;
  const tag = (tags && tags[0]) || "other";
  const text = asText(pattern);
  const kind = text === null ? out.patterns : out.texts;
  (kind[tag] = kind[tag] || []).push(text === null ? pattern : text);
}
const table = (groups) =>
  Object.keys(groups).sort().map((tag) =>
    `    ["${tag}"] = {\n` + groups[tag].sort().map((t) => `      ${lua(t)},\n`).join("") + "    },\n").join("");
process.stdout.write(`-- SPDX-License-Identifier: Apache-2.0
--- Signatures of bots by category. Made by scripts/update-bots.sh; not to be edited.
---
--- From crawler-user-agents ${version} (https://github.com/monperrus/crawler-user-agents),
--- Copyright (c) 2017 Martin Monperrus, MIT licence:
---
--- Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
--- associated documentation files (the "Software"), to deal in the Software without restriction,
--- including without limitation the rights to use, copy, modify, merge, publish, distribute,
--- sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
--- furnished to do so, subject to the following conditions: The above copyright notice and this
--- permission notice shall be included in all copies or substantial portions of the Software. The
--- Software is provided "as is", without warranty of any kind, express or implied.

-- luacheck: no max line length
return {
  version = "${version}",
  texts = {
${table(out.texts)}  },
  patterns = {
${table(out.patterns)}  },
}
`);
JS
echo "lua/moongate/bots_data.lua: $(grep -c '^      "' lua/moongate/bots_data.lua) signatures" >&2

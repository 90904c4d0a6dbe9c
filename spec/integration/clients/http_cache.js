// SPDX-License-Identifier: Apache-2.0
// The public HTTP cache tests (npm http-cache-tests, https://cache-tests.fyi): their origin server and their
// client, with the gateway between them. Arguments: port of the gateway, port of the origin, and in a third
// the names of tests (all without it). A line for each test: `ok NAME`, or `not ok NAME: KIND: WHY`.
"use strict";
const { spawn } = require("node:child_process");
const { existsSync } = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const { pathToFileURL } = require("node:url");

const [gatewayPort, originPort, wanted] = process.argv.slice(2);
const folder = (process.env.NODE_PATH || "").split(":")
  .map((root) => path.resolve(root, "http-cache-tests")).find(existsSync);
const load = (file) => import(pathToFileURL(path.join(folder, file)));

function listens(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => { socket.destroy(); resolve(true); });
    socket.on("error", () => resolve(false));
  });
}

async function startOrigin() {
  const origin = spawn(process.execPath, ["--no-warnings", "server/server.mjs"], {
    cwd: folder, stdio: "ignore",
    env: { ...process.env, npm_config_protocol: "http", npm_config_port: originPort,
      npm_config_pidfile: "/dev/null" },
  });
  process.on("exit", () => origin.kill());
  for (let i = 0; i < 500 && !(await listens(originPort)); i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// As the suite itself reads its results: what a test depends on must hold first.
function verdict(tests, results, id) {
  const test = tests.get(id);
  const result = results[id];
  if (result === undefined) return "untested";
  for (const other of test.depends_on || []) {
    if (verdict(tests, results, other) !== "pass") return "dependency: " + other;
  }
  if (result === true) return "pass";
  return (test.kind || "required") + ": " + result[0] + ": " + result[1];
}

async function main() {
  const suites = [...(await load("tests/index.mjs")).default, (await load("tests/surrogate-control.mjs")).default];
  const { runTests, getResults } = await load("client/runner.mjs");
  const names = wanted && new Set(wanted.split(","));
  const chosen = suites.map((suite) => ({ ...suite,
    tests: suite.tests.filter((test) => !names || names.has(test.id)) }));
  if (process.env.HTTP_CACHE_DUMP) chosen.forEach((suite) => suite.tests.forEach((test) => { test.dump = true; }));
  await startOrigin();
  const fetch = require("node-fetch");
  // All at once: most of the time they wait for something to get stale.
  await runTests(chosen, fetch, false, `http://127.0.0.1:${gatewayPort}`, 500);
  const results = getResults();
  const tests = new Map(suites.flatMap((suite) => suite.tests.map((test) => [test.id, test])));
  for (const id of Object.keys(results)) {
    const found = verdict(tests, results, id);
    console.log(found === "pass" ? `ok ${id}` : `not ok ${id}: ${found}`);
  }
  process.exit(0);
}

main().catch((error) => { console.log("not ok the run: " + error.stack); process.exit(1); });

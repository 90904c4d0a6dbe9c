// SPDX-License-Identifier: Apache-2.0
// Origins for specs of backend pools: `node pool_origin.js COUNT`. Prints their ports, then serves until it is
// killed. Each answers with its own number, and remembers what it was asked.
//   /~set?status=503&delay_ms=300&drop=1&retry_after=60   how it answers from then on (without parameters: well)
//   /~seen                                                 JSON of what it was asked since then
//   /token                                                 an OAuth2 token: t1, t2, ...
"use strict";
const http = require("node:http");

function origin(number) {
  let mode = {};
  let seen = [];
  let tokens = 0;
  return http.createServer((request, response) => {
    const url = new URL(request.url, "http://origin");
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("error", () => {});
    request.on("end", () => {
      if (url.pathname === "/~set") {
        mode = Object.fromEntries(url.searchParams);
        seen = [];
        response.end("ok");
        return;
      }
      if (url.pathname === "/~seen") {
        response.end(JSON.stringify(seen));
        return;
      }
      seen.push({ method: request.method, url: request.url, headers: request.headers, body: Buffer.concat(pieces).toString() });
      if (url.pathname === "/token") {
        tokens++;
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify({ access_token: "t" + tokens, expires_in: 3600, token_type: "Bearer" }));
        return;
      }
      if (mode.drop) {
        request.socket.destroy();
        return;
      }
      setTimeout(() => {
        if (mode.retry_after) {
          response.setHeader("Retry-After", mode.retry_after);
        }
        response.statusCode = Number(mode.status || 200);
        response.end(String(number));
      }, Number(mode.delay_ms || 0));
    });
  });
}

const ports = [];
const count = Number(process.argv[2]);
for (let i = 1; i <= count; i++) {
  const server = origin(i);
  server.listen(0, "127.0.0.1", () => {
    ports[i - 1] = server.address().port;
    if (Object.keys(ports).length === count) {
      console.log(ports.join(" "));
    }
  });
}

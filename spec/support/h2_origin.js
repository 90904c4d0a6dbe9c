// SPDX-License-Identifier: Apache-2.0
// An HTTP/2 origin in clear for specs. Prints its port, then serves until it is killed.
//   /hello  /echo  /big  /trailers  /sessions (how many connections there were)  /refuse  /goaway
"use strict";
const http2 = require("node:http2");

let sessions = 0;
let refusals = 1;
const server = http2.createServer({ settings: { maxConcurrentStreams: 20 } });
server.on("session", () => { sessions++; });
server.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  const path = headers[":path"];
  if (path === "/echo") {
    stream.respond({ ":status": 200, "x-method": headers[":method"] });
    stream.pipe(stream);
  } else if (path === "/big") {
    stream.respond({ ":status": 200 });
    const chunk = Buffer.alloc(65536, "a");
    let left = 64;
    const more = () => {
      while (left > 0) {
        left--;
        if (!stream.write(chunk)) { stream.once("drain", more); return; }
      }
      stream.end();
    };
    more();
  } else if (path === "/trailers") {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-te": headers.te || "" }));
    stream.end("body");
  } else if (path === "/refuse" && refusals-- > 0) {
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  } else if (path === "/goaway") {
    stream.respond({ ":status": 200 });
    stream.end("last");
    stream.session.goaway();
  } else if (path === "/reset") {
    stream.respond({ ":status": 200 });
    stream.write("half");
    setTimeout(() => stream.destroy(new Error("cut")), 50);
  } else if (path === "/slow") {
    setTimeout(() => { stream.respond({ ":status": 200 }); stream.end("slow"); }, 100);
  } else {
    stream.respond({ ":status": 200, "x-authority": headers[":authority"] || "" });
    stream.end(path === "/sessions" ? String(sessions) : "hello");
  }
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

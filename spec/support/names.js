// SPDX-License-Identifier: Apache-2.0
// A name server and origins for specs. Prints `dns=PORT origin=PORT first=PORT second=PORT`.
//   two.test            A 127.0.0.9, where nothing listens, and 127.0.0.1
//   silent.test         A 127.0.0.8, for a spec to be silent on, and 127.0.0.1
//   _http._tcp.api.test SRV to both origins; to the second alone once /move was asked for
//   _http._tcp.h2.test  one of two that speak HTTP/2, where /h2/slow takes three seconds; the other once /h2/move was asked for
"use strict";
const dgram = require("node:dgram");
const http = require("node:http");
const http2 = require("node:http2");

let moved = false, h2moved = false;
const ports = {};

const name = (text) => Buffer.concat(text.split(".").filter(Boolean)
  .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])).concat(Buffer.from([0])));
const record = (owner, type, ttl, data) => {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0); fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(ttl, 4); fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([name(owner), fixed, data]);
};
const srv = (port, target) => {
  const fixed = Buffer.alloc(6);
  fixed.writeUInt16BE(0, 0); fixed.writeUInt16BE(1, 2); fixed.writeUInt16BE(port, 4);
  return Buffer.concat([fixed, name(target)]);
};
const address = (text) => Buffer.from(text.split(".").map(Number));

function answers(owner, type) {
  if (owner === "two.test" && type === 1) {
    return [record(owner, 1, 60, address("127.0.0.9")), record(owner, 1, 60, address("127.0.0.1"))];
  }
  if (owner === "silent.test" && type === 1) {
    return [record(owner, 1, 60, address("127.0.0.8")), record(owner, 1, 60, address("127.0.0.1"))];
  }
  if (owner === "one.test" && type === 1) { return [record(owner, 1, 60, address("127.0.0.1"))]; }
  if (owner === "_http._tcp.api.test" && type === 33) {
    const list = [record(owner, 33, 1, srv(ports.second, "one.test"))];
    if (!moved) { list.push(record(owner, 33, 1, srv(ports.first, "one.test"))); }
    return list;
  }
  if (owner === "_http._tcp.h2.test" && type === 33) {
    return [record(owner, 33, 1, srv(h2moved ? ports.h2second : ports.h2first, "one.test"))];
  }
  return [];
}

const server = dgram.createSocket("udp4");
server.on("message", (query, peer) => {
  const labels = [];
  let at = 12;
  while (query[at] !== 0) { labels.push(query.toString("latin1", at + 1, at + 1 + query[at])); at += query[at] + 1; }
  const type = query.readUInt16BE(at + 1);
  const list = answers(labels.join(".").toLowerCase(), type);
  const head = Buffer.from(query.subarray(0, 12));
  head.writeUInt16BE(0x8180, 2); head.writeUInt16BE(1, 4); head.writeUInt16BE(list.length, 6);
  head.writeUInt16BE(0, 8); head.writeUInt16BE(0, 10);
  server.send(Buffer.concat([head, query.subarray(12, at + 5), ...list]), peer.port, peer.address);
});

const origin = (label) => http.createServer((request, response) => {
  if (request.url === "/move") { moved = true; }
  response.end(label);
});
const h2origin = (label) => http2.createServer((request, response) => {
  if (request.url === "/h2/move") { h2moved = true; }
  if (request.url !== "/h2/slow") { response.end(label); return; }
  response.write("slowly ");
  setTimeout(() => response.end(label), 3000);
});
const listen = (thing, label) => new Promise((done) => {
  thing.listen(0, "127.0.0.1", () => { ports[label] = thing.address().port; done(); });
});
(async () => {
  for (const label of ["origin", "first", "second"]) { await listen(origin(label), label); }
  for (const label of ["h2first", "h2second"]) { await listen(h2origin(label), label); }
  await new Promise((done) => server.bind(0, "127.0.0.1", done));
  console.log(`dns=${server.address().port} origin=${ports.origin} first=${ports.first} second=${ports.second}`);
})();

// SPDX-License-Identifier: Apache-2.0
// Origins of specs that speak TLS with Node's own stack: one that wants a client certificate, one that
// takes any client, one that has a PROXY header first. Each answers what it has seen of its client.
// usage: node tls_origin.js DIR (ca.pem, server.pem, server.key); prints "mutual=PORT plain=PORT proxied=PORT"
const fs = require("fs");
const https = require("https");
const net = require("net");

const dir = process.argv[2];
const options = {
  ca: fs.readFileSync(`${dir}/ca.pem`),
  cert: fs.readFileSync(`${dir}/server.pem`),
  key: fs.readFileSync(`${dir}/server.key`),
};

function answer(request, response) {
  const client = request.socket.getPeerCertificate();
  response.end(JSON.stringify({
    servername: request.socket.servername || "",
    client: (client && client.subject && client.subject.CN) || "",
    reused: request.socket.isSessionReused(),
    protocol: request.socket.getProtocol(),
    proxy: request.socket.proxyLine || "",
  }));
}

const mutual = https.createServer({ ...options, requestCert: true, rejectUnauthorized: true }, answer);
const plain = https.createServer(options, answer);
const behind = https.createServer(options, (request, response) => {
  response.end(JSON.stringify({ proxy: lines.get(request.socket.remotePort) || "" }));
});

// The header goes first, in clear; what follows is TLS.
const lines = new Map();
const proxied = net.createServer((socket) => {
  socket.once("readable", function read() {
    let line = "";
    for (let byte = socket.read(1); byte !== null; byte = socket.read(1)) {
      line += byte.toString("latin1");
      if (line.endsWith("\r\n")) {
        lines.set(socket.remotePort, line.trim());
        behind.emit("connection", socket);
        return;
      }
    }
    socket.once("readable", read);
  });
  socket.on("error", () => {});
});

const servers = { mutual, plain, proxied };
for (const server of Object.values(servers)) {
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
}
behind.on("tlsClientError", () => {});
setTimeout(() => {
  console.log(Object.entries(servers).map(([name, server]) => `${name}=${server.address().port}`).join(" "));
}, 50);

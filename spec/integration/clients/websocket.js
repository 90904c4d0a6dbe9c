// SPDX-License-Identifier: Apache-2.0
// WebSocket by the package "ws" over HTTP/1.1, and by hand over HTTP/2 (RFC 8441). Arguments: port of
// the gateway, port of the origin.
const assert = require('assert'), http = require('http'), http2 = require('http2'), net = require('net');
const { WebSocket, WebSocketServer } = require('ws');
const { run } = require('./check.js');
const [gateway, port] = process.argv.slice(2).map(Number);

const origin = http.createServer((q, r) => r.end('plain'));
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } });
let closed;
origin.on('upgrade', (q, socket, head) => {
  if (q.url === '/refused') {
    socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
    return;
  }
  sockets.handleUpgrade(q, socket, head, s => {
    s.on('message', (m, isBinary) => s.send(m, { binary: isBinary }));
    s.on('close', code => { if (closed) closed(code); });
  });
});

const once = (emitter, event) => new Promise((yes, no) => {
  emitter.once(event, yes);
  emitter.once('error', no);
});

function masked(opcode, text) {
  const bytes = Buffer.from(text), mask = Buffer.from([1, 2, 3, 4]);
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | bytes.length]), mask,
    bytes.map((b, i) => b ^ mask[i % 4])]);
}

origin.listen(port, '127.0.0.1', () => run({
  'messages both ways, and a clean end': async () => {
    const s = new WebSocket(`ws://127.0.0.1:${gateway}/ws`);
    await once(s, 'open');
    s.send('hello');
    assert.equal(String(await once(s, 'message')), 'hello');
    const ended = new Promise(yes => { closed = yes; });
    s.close(1000, 'bye');
    assert.equal(await once(s, 'close'), 1000);
    assert.equal(await ended, 1000);
  },
  'compressed messages (permessage-deflate)': async () => {
    const s = new WebSocket(`ws://127.0.0.1:${gateway}/ws`);
    await once(s, 'open');
    assert.match(s.extensions, /permessage-deflate/);
    const text = 'again and '.repeat(1000);
    s.send(text);
    assert.equal(String(await once(s, 'message')), text);
    s.close();
    await once(s, 'close');
  },
  'a subprotocol, and a ping': async () => {
    const s = new WebSocket(`ws://127.0.0.1:${gateway}/ws`, ['first', 'second']);
    await once(s, 'open');
    assert.equal(s.protocol, 'first');
    s.ping('are you there');
    assert.equal(String(await once(s, 'pong')), 'are you there');
    s.close();
    await once(s, 'close');
  },
  'a message of 8 MiB': async () => {
    const s = new WebSocket(`ws://127.0.0.1:${gateway}/ws`);
    await once(s, 'open');
    s.send(Buffer.alloc(8 << 20, 7));
    assert.equal((await once(s, 'message')).length, 8 << 20);
    s.close();
    await once(s, 'close');
  },
  'a backend that refuses': async () => {
    const s = new WebSocket(`ws://127.0.0.1:${gateway}/refused`);
    const answer = await new Promise(yes => s.on('unexpected-response', (q, r) => yes(r)));
    assert.equal(answer.statusCode, 403);
  },
  'a client that vanishes ends the backend\'s side': async () => {
    const ended = new Promise(yes => { closed = yes; });
    const s = new WebSocket(`ws://127.0.0.1:${gateway}/ws`);
    await once(s, 'open');
    s.terminate();
    assert.equal(await ended, 1006);
  },
  'h2c is not upgraded to': async () => {
    const s = net.connect(gateway, '127.0.0.1');
    s.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n'
      + 'HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n');
    assert.match(String(await once(s, 'data')), /^HTTP\/1.1 200/);
    s.destroy();
  },
  'over HTTP/2': async () => {
    const c = http2.connect(`http://127.0.0.1:${gateway}`);
    const settings = await once(c, 'remoteSettings');
    assert.equal(settings.enableConnectProtocol, true);
    const s = c.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws',
      'sec-websocket-version': '13' });
    const head = await once(s, 'response');
    assert.equal(head[':status'], 200);
    assert.equal(head['sec-websocket-accept'], undefined);
    s.write(masked(1, 'hi'));
    assert.equal((await once(s, 'data')).toString('hex'), '81026869');
    s.write(masked(8, '\x03\xe8'.slice(0, 0)));
    assert.equal((await once(s, 'data'))[0], 0x88);
    s.end();
    await once(s, 'close');
    assert.equal(s.rstCode, 0);
    c.close();
  },
  'over HTTP/2, with its extensions and subprotocol': async () => {
    const c = http2.connect(`http://127.0.0.1:${gateway}`);
    await once(c, 'remoteSettings');
    const s = c.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws',
      'sec-websocket-version': '13', 'sec-websocket-extensions': 'permessage-deflate',
      'sec-websocket-protocol': 'second' });
    const head = await once(s, 'response');
    assert.equal(head[':status'], 200);
    assert.match(head['sec-websocket-extensions'], /permessage-deflate/);
    assert.equal(head['sec-websocket-protocol'], 'second');
    c.destroy();
  },
  'over HTTP/2, to a backend that does not upgrade': async () => {
    const c = http2.connect(`http://127.0.0.1:${gateway}`);
    await once(c, 'remoteSettings');
    const s = c.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/refused',
      'sec-websocket-version': '13' });
    assert.equal((await once(s, 'response'))[':status'], 403);
    c.destroy();
  },
}));

// SPDX-License-Identifier: Apache-2.0
// Streams of events, long polling, early answers, uploads and downloads under back-pressure: node's
// http and http2 clients, a node origin. Arguments: port of the gateway, port of the origin.
const assert = require('assert'), http = require('http'), http2 = require('http2');
const { run } = require('./check.js');
const [gateway, port] = process.argv.slice(2).map(Number);
const waiting = {};

const origin = http.createServer((q, r) => {
  if (q.url.startsWith('/events')) {
    r.writeHead(200, { 'Content-Type': 'text/event-stream' });
    r.write('data: first\n\n');
    waiting.events = () => r.end('data: last\n\n'); // only when the client has seen the first
  } else if (q.url.startsWith('/poll')) {
    waiting.poll = () => r.end('news');
    if (waiting.polled) waiting.polled();
  } else if (q.url.startsWith('/early')) {
    r.writeHead(403, { Connection: 'close' });
    r.end('no');
  } else if (q.url.startsWith('/big')) {
    r.writeHead(200, { 'Content-Type': 'application/octet-stream' });
    let left = 64;
    const more = () => {
      while (left-- > 0) if (!r.write(Buffer.alloc(1 << 20, left))) return r.once('drain', more);
      r.end();
    };
    waiting.sent = () => 64 - left;
    more();
  } else if (q.url.startsWith('/hints')) {
    r.writeEarlyHints({ link: '</a.css>; rel=preload' });
    r.end('hinted');
  } else {
    let n = 0;
    q.on('data', d => { n += d.length; });
    q.on('end', () => { r.setHeader('Trailer', 'X-Sum'); r.write('n='); r.addTrailers({ 'X-Sum': String(n) }); r.end(String(n)); });
  }
});

function h1(path, options = {}) {
  return new Promise((yes, no) => {
    const q = http.request({ port: gateway, host: '127.0.0.1', path, ...options }, yes);
    q.on('error', no);
    if (options.information) q.on('information', options.information);
    if (!options.keep) q.end();
    if (options.use) options.use(q);
  });
}

const body = async r => { let s = ''; for await (const d of r) s += d; return s; };
const soon = ms => new Promise(yes => setTimeout(yes, ms));

let client;
function h2(headers, options = {}) {
  const s = client.request(headers, options);
  return { s, head: new Promise((yes, no) => { s.on('response', yes); s.on('error', no); }) };
}

origin.listen(port, '127.0.0.1', () => {
  client = http2.connect('http://127.0.0.1:' + gateway);
  run({
    'first event before the backend ends, HTTP/1.1': async () => {
      const r = await h1('/events');
      const first = await new Promise(yes => r.once('data', d => yes(String(d))));
      assert.equal(first, 'data: first\n\n');
      waiting.events();
      assert.equal(await body(r), 'data: last\n\n');
    },
    'first event before the backend ends, HTTP/2': async () => {
      const { s, head } = h2({ ':path': '/events' });
      assert.equal((await head)['content-type'], 'text/event-stream');
      const first = await new Promise(yes => s.once('data', d => yes(String(d))));
      assert.equal(first, 'data: first\n\n');
      waiting.events();
      assert.equal(await body(s), 'data: last\n\n');
    },
    'long polling answers when there is news': async () => {
      const polled = new Promise(yes => { waiting.polled = yes; });
      const { s, head } = h2({ ':path': '/poll' });
      await polled;
      waiting.poll();
      await head;
      assert.equal(await body(s), 'news');
    },
    'an answer before the body has come, HTTP/1.1': async () => {
      const r = await h1('/early', { method: 'POST', keep: true, headers: { 'Content-Length': 1000000 },
        use: q => q.write('x'.repeat(1000)) });
      assert.equal(r.statusCode, 403);
      assert.equal(await body(r), 'no');
    },
    'an answer before the body has come, HTTP/2': async () => {
      const { s, head } = h2({ ':path': '/early', ':method': 'POST' }, { endStream: false });
      s.write('x'.repeat(1000));
      assert.equal((await head)[':status'], 403);
      assert.equal(await body(s), 'no');
    },
    'a client that does not read holds the backend back': async () => {
      const { s, head } = h2({ ':path': '/big' });
      await head;
      s.pause();
      await soon(500);
      const sent = waiting.sent();
      assert.ok(sent < 32, 'the origin has sent ' + sent + ' MiB');
      let n = 0;
      for await (const d of s) n += d.length;
      assert.equal(n, 64 << 20);
    },
    'an upload of 32 MiB arrives whole': async () => {
      const { s, head } = h2({ ':path': '/upload', ':method': 'POST' }, { endStream: false });
      const piece = Buffer.alloc(1 << 20, 1);
      for (let i = 0; i < 32; i++) if (!s.write(piece)) await new Promise(yes => s.once('drain', yes));
      s.end();
      await head;
      assert.equal(await body(s), 'n=' + (32 << 20));
    },
    'trailers of the backend reach HTTP/2': async () => {
      const { s, head } = h2({ ':path': '/upload', ':method': 'POST' }, { endStream: false });
      const trailers = new Promise(yes => s.on('trailers', yes));
      s.end('abc');
      await head;
      assert.equal(await body(s), 'n=3');
      assert.equal((await trailers)['x-sum'], '3');
    },
    'Early Hints reach HTTP/1.1': async () => {
      let hints;
      const r = await h1('/hints', { information: i => { hints = i; } });
      assert.equal(await body(r), 'hinted');
      assert.equal(hints && hints.statusCode, 103);
      assert.equal(hints.headers.link, '</a.css>; rel=preload');
    },
    'Early Hints reach HTTP/2': async () => {
      const { s, head } = h2({ ':path': '/hints' });
      let hints;
      s.on('headers', h => { hints = h; });
      await head;
      assert.equal(await body(s), 'hinted');
      assert.equal(hints && hints[':status'], 103);
    },
  });
});

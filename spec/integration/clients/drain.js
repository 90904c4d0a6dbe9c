// SPDX-License-Identifier: Apache-2.0
// What a stopping gateway owes to an HTTP/2 client: GOAWAY, and the answers under way. Arguments: port
// of the gateway, port of the origin, pid of the gateway.
const assert = require('assert'), http = require('http'), http2 = require('http2');
const { run } = require('./check.js');
const [gateway, port, pid] = process.argv.slice(2).map(Number);
let finish;

const origin = http.createServer((q, r) => {
  r.write('first');
  finish = () => r.end(' last');
});

origin.listen(port, '127.0.0.1', () => run({
  'GOAWAY without an error, and the whole answer': async () => {
    const c = http2.connect('http://127.0.0.1:' + gateway);
    const away = new Promise(yes => c.on('goaway', code => yes(code)));
    const closed = new Promise(yes => c.on('close', yes));
    const s = c.request({ ':path': '/x' });
    let text = '';
    s.on('data', d => { text += d; });
    await new Promise(yes => s.once('data', yes));
    process.kill(pid, 'SIGTERM');
    assert.equal(await away, 0);
    const ended = new Promise((yes, no) => { s.on('end', yes); s.on('error', no); });
    finish();
    await ended;
    assert.equal(text, 'first last');
    await closed;
  },
}));

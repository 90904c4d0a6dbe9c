// SPDX-License-Identifier: Apache-2.0
// gRPC by the package "@grpc/grpc-js", client and server: unary calls, the three kinds of streams,
// statuses, deadlines, metadata. Messages are plain bytes. Arguments: port of the gateway, port of
// the origin.
const assert = require('assert');
const grpc = require('@grpc/grpc-js');
const { run } = require('./check.js');
const [gateway, port] = process.argv.slice(2).map(Number);

const http2 = require('http2');

const bytes = b => b;
const method = (name, requestStream, responseStream) => ({
  path: '/test.Echo/' + name, requestStream, responseStream, requestSerialize: bytes,
  requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes,
});
const service = {
  Unary: method('Unary', false, false), Upload: method('Upload', true, false),
  Download: method('Download', false, true), Both: method('Both', true, true),
  Fail: method('Fail', false, false), Slow: method('Slow', false, false),
};

const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
let cancelled, left;
server.addService(service, {
  Unary: (call, done) => {
    left = Number(call.getDeadline()) - Date.now();
    const trailer = new grpc.Metadata();
    trailer.set('x-trailer', 'end');
    const head = new grpc.Metadata();
    head.set('x-head', String(call.metadata.get('x-sent')));
    call.sendMetadata(head);
    done(null, call.request, trailer);
  },
  Upload: (call, done) => {
    let n = 0;
    call.on('data', d => { n += d.length; });
    call.on('end', () => done(null, Buffer.from(String(n))));
  },
  Download: call => {
    for (let i = 0; i < 100; i++) call.write(Buffer.alloc(10000, i));
    call.end();
  },
  Both: call => {
    call.on('data', d => call.write(d)); // each answer before the next question
    call.on('end', () => call.end());
  },
  Fail: (call, done) => done({ code: grpc.status.FAILED_PRECONDITION, details: 'not so: 100% ä' }),
  Slow: call => call.on('cancelled', () => { if (cancelled) cancelled(); }),
});

const Client = grpc.makeGenericClientConstructor(service, 'Echo');
const unary = (client, name, message, options = {}, metadata = new grpc.Metadata()) =>
  new Promise((yes, no) => {
    const seen = {};
    const call = client[name](Buffer.from(message), metadata, options,
      (e, answer) => (e ? no(e) : yes(Object.assign(seen, { answer }))));
    call.on('metadata', m => { seen.head = m; });
    call.on('status', s => { seen.status = s; });
  });
const failure = promise => promise.then(() => { throw new Error('it did not fail'); }, e => e);
const soon = ms => new Promise(yes => setTimeout(yes, ms));

server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), () => {
  const client = new Client(`127.0.0.1:${gateway}`, grpc.credentials.createInsecure(),
    { 'grpc.max_receive_message_length': -1 });
  run({
    'unary, with metadata both ways': async () => {
      const metadata = new grpc.Metadata();
      metadata.set('x-sent', 'yes');
      const seen = await unary(client, 'Unary', 'hello', {}, metadata);
      assert.equal(String(seen.answer), 'hello');
      assert.equal(String(seen.head.get('x-head')), 'yes');
      await soon(20);
      assert.equal(String(seen.status.metadata.get('x-trailer')), 'end');
    },
    'unary with 4 MiB': async () => {
      const seen = await unary(client, 'Unary', Buffer.alloc(4 << 20, 1));
      assert.equal(seen.answer.length, 4 << 20);
    },
    'client streaming': async () => {
      const answer = await new Promise((yes, no) => {
        const call = client.Upload((e, a) => (e ? no(e) : yes(String(a))));
        for (let i = 0; i < 100; i++) call.write(Buffer.alloc(10000, i));
        call.end();
      });
      assert.equal(answer, '1000000');
    },
    'server streaming': async () => {
      let n = 0;
      for await (const d of client.Download(Buffer.from('go'))) n += d.length;
      assert.equal(n, 1000000);
    },
    'both streaming, question by question': async () => {
      const call = client.Both();
      for (const text of ['one', 'two', 'three']) {
        const answer = new Promise((yes, no) => { call.once('data', yes); call.once('error', no); });
        call.write(Buffer.from(text));
        assert.equal(String(await answer), text);
      }
      call.end();
      await new Promise(yes => call.on('status', yes).on('data', () => {}));
    },
    'a status of the backend': async () => {
      const e = await failure(unary(client, 'Fail', 'x'));
      assert.equal(e.code, grpc.status.FAILED_PRECONDITION);
      assert.equal(e.details, 'not so: 100% ä');
    },
    'a status without a message is trailers only, in one frame': async () => {
      const c = http2.connect(`http://127.0.0.1:${gateway}`);
      const s = c.request({ ':method': 'POST', ':path': '/test.Echo/Fail', 'content-type': 'application/grpc', te: 'trailers' });
      s.end(Buffer.from([0, 0, 0, 0, 0]));
      const [head, flags] = await new Promise((yes, no) => { s.on('response', (h, f) => yes([h, f])).on('error', no); });
      assert.equal(head[':status'], 200);
      assert.equal(head['grpc-status'], String(grpc.status.FAILED_PRECONDITION));
      assert.equal(head['content-type'], 'application/grpc+proto');
      assert.equal(flags & 1, 1); // END_STREAM
      c.destroy();
    },
    'compressed messages': async () => {
      const c = new Client(`127.0.0.1:${gateway}`, grpc.credentials.createInsecure(),
        { 'grpc.default_compression_algorithm': 2 }); // gzip
      const text = 'again and '.repeat(1000);
      assert.equal(String((await unary(c, 'Unary', text)).answer), text);
      c.close();
    },
    'the rest of a deadline is what the backend hears': async () => {
      const metadata = new grpc.Metadata();
      metadata.set('x-sent', 'yes');
      await unary(client, 'Unary', 'x', { deadline: Date.now() + 5000 }, metadata);
      assert.ok(left > 0 && left <= 5000, String(left));
    },
    'a deadline, and the backend is told': async () => {
      const told = new Promise(yes => { cancelled = yes; });
      const e = await failure(unary(client, 'Slow', 'x', { deadline: Date.now() + 200 }));
      assert.equal(e.code, grpc.status.DEADLINE_EXCEEDED);
      await told;
    },
    'a call that is cancelled, and the backend is told': async () => {
      const told = new Promise(yes => { cancelled = yes; });
      const call = client.Slow(Buffer.from('x'), () => {});
      await soon(100);
      call.cancel();
      await told;
    },
    'a hundred calls at once': async () => {
      const all = await Promise.all([...Array(100).keys()].map(i => unary(client, 'Unary', 'm' + i)));
      all.forEach((seen, i) => assert.equal(String(seen.answer), 'm' + i));
    },
    'a backend that is gone': async () => {
      server.forceShutdown();
      const e = await failure(unary(client, 'Unary', 'x'));
      assert.equal(e.code, grpc.status.UNAVAILABLE);
    },
  });
});

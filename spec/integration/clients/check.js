// SPDX-License-Identifier: Apache-2.0
// Checks one after another, each a line of output.
exports.run = async function (checks, end) {
  for (const [name, check] of Object.entries(checks)) {
    let timer;
    const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error('timeout')), 10000); });
    try {
      await Promise.race([check(), late]);
      console.log('ok ' + name);
    } catch (e) {
      console.log('not ok ' + name + ': ' + e.message.split('\n').join(' | '));
    }
    clearTimeout(timer);
  }
  if (end) end();
  process.exit(0);
};

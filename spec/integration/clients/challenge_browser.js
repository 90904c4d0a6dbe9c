// SPDX-License-Identifier: Apache-2.0
// The proof-of-work challenge in a real browser: node challenge_browser.js URL CHROMIUM
"use strict";
const { chromium } = require("playwright-core");

const [url, program] = process.argv.slice(2);

function check(name, ok, why) {
  console.log(ok ? `ok ${name}` : `not ok ${name}: ${why}`);
}

(async () => {
  const browser = await chromium.launch({ executablePath: program,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"] });
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    const first = await page.goto(url);
    check("the first answer is the challenge", first.status() === 403, first.status());
    await page.waitForFunction(() => document.body.textContent.includes("inside"), null, { timeout: 40000 });
    check("the browser gets in by itself", true);
    const cookie = (await context.cookies()).find((c) => c.name === "moongate_clearance");
    check("it holds a cookie that scripts cannot read", cookie && cookie.httpOnly, JSON.stringify(cookie));
    const again = await page.goto(url + "?again=1");
    check("it is not asked again", again.status() === 200, again.status());
    const other = await (await browser.newContext()).newPage();
    const fresh = await other.goto(url);
    check("another one is", fresh.status() === 403, fresh.status());
    check("the page's script runs without errors", complaints.length === 0, complaints.join("; "));
    const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
    await plain.goto(url);
    const text = await plain.textContent("body");
    check("without scripts it says what is missing", text.includes("JavaScript"), text);
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.log(`not ok the browser gets in by itself: ${error.message.replace(/\s+/g, " ")}`);
  process.exit(1);
});

/** Pages that stand still in the middle of what they do, as one that is killed there. */

/** Runs in the page: counts each call of storage, network and chance, before and after, and stands still at the one numbered `dieAt`. */
function installStops() {
  globalThis.standStillAt = (dieAt) => {
    let steps = 0;
    const step = () => {
      steps += 1;
      if (steps !== dieAt) return;
      console.log('frozen');
      for (;;);
    };
    const watch = (object, name) => {
      const original = object[name];
      object[name] = function (...args) {
        step();
        const result = original.apply(this, args);
        step();
        return result;
      };
    };
    for (const name of ['get', 'put', 'delete']) watch(IDBObjectStore.prototype, name);
    watch(IDBDatabase.prototype, 'transaction');
    watch(Crypto.prototype, 'getRandomValues');
    watch(Response.prototype, 'json');
    watch(globalThis, 'fetch');
    return () => steps;
  };
}

/** Evaluates in a page of {@link withPage}; gives `frozen` where it stood still. In the page, `standStillAt(dieAt)` gives a function that counts steps. */
export function evaluateUntilStopped(page, work, argument) {
  const frozen = new Promise((resolve) => page.on('console', (message) => message.text() === 'frozen' && resolve('frozen')));
  const done = page.evaluate(work, argument);
  done.catch(() => {});
  return Promise.race([done, frozen]);
}

/** Opens a page for `work`, and ends it however it can be ended. */
export async function withPage(opened, work) {
  const page = await opened.context.newPage();
  const session = await opened.context.newCDPSession(page);
  await page.addInitScript(installStops);
  await page.goto(opened.url);
  const result = await work(page);
  if (result === 'frozen') {
    // A page that stands still does not close by itself.
    const crashed = new Promise((resolve) => page.once('crash', resolve));
    session.send('Page.crash').catch(() => {});
    await crashed;
  } else {
    await page.close();
  }
  return result;
}

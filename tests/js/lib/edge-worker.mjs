import { cp, mkdtemp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';

import { openFixture } from './fixture.mjs';
import { BUILD, WWW } from './paths.mjs';
import { bundleWorker, startWorkerd } from './workerd.mjs';

/** The edge worker's template as a deployer would have it: out of the tree, with the packed package installed. */
export async function openTemplate() {
  const fixture = await openFixture();
  const template = await mkdtemp(join(BUILD, 'js', 'edge-worker-'));
  await cp(join(WWW, 'edge-worker'), template, { recursive: true });
  await symlink(join(fixture.project, 'node_modules'), join(template, 'node_modules'));
  const modules = await bundleWorker({ entry: join(template, 'src/worker.ts'), project: fixture.project });
  const opened = [];
  /** To be closed at the latest with the template: what a failed test leaves would keep the tests from ending. */
  const closes = (what) => {
    opened.push(what);
    return what;
  };
  const start = async (options) => closes(await startWorkerd(options));
  const close = async () => {
    fixture.engine.free();
    await Promise.all(opened.map((what) => what.close()));
    await rm(template, { recursive: true, force: true });
  };
  return { fixture, template, modules, start, closes, close };
}

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { REPO } from './lib/paths.mjs';

const run = promisify(execFile);
const LONG_AGO = 1_600_000_000;

let folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sanderling-build-'));
});

after(() => rm(folder, { recursive: true, force: true }));

/** A clone with the build script and one old source file. */
async function clone(name) {
  const root = join(folder, name);
  await mkdir(join(root, 'crates/one/src'), { recursive: true });
  await mkdir(join(root, 'tests'));
  await cp(join(REPO, 'build.sh'), join(root, 'build.sh'));
  await cp(join(REPO, '.ci/versions'), join(root, '.ci/versions'));
  const source = join(root, 'crates/one/src/lib.rs');
  for (const path of [source, join(root, 'Cargo.toml'), join(root, 'Cargo.lock')]) {
    await writeFile(path, '');
    await utimes(path, LONG_AGO, LONG_AGO);
  }
  const environment = { ...process.env, SANDERLING_CACHE: join(folder, 'cache'), CARGO_TARGET_DIR: join(folder, 'target') };
  const bash = (script, env = {}) => run('bash', ['-c', script], { cwd: root, env: { ...environment, ...env } });
  const isOld = async () => (await stat(source)).mtimeMs === LONG_AGO * 1000;
  const age = () => utimes(source, LONG_AGO, LONG_AGO);
  return { root, bash, isOld, age };
}

test('a clone does not take what another clone built into a shared target folder for its own', async () => {
  const [left, right] = [await clone('left'), await clone('right')];
  await left.bash('source ./build.sh; claim_targets');
  await left.age();
  await left.bash('source ./build.sh; claim_targets');
  assert.ok(await left.isOld(), 'a clone that built last builds nothing anew');
  await right.bash('source ./build.sh; claim_targets');
  assert.ok(!(await right.isOld()));
  await left.bash('source ./build.sh; claim_targets');
  assert.ok(!(await left.isOld()), 'what the other clone built passes for fresh');
  for (const target of ['target', 'cache/target-wasm']) {
    assert.equal((await readFile(join(folder, target, '.sanderling-clone'), 'utf8')).trim(), left.root);
  }
});

test('a clone waits while another one builds', async () => {
  const [left, right] = [await clone('slow'), await clone('waiting')];
  const slow = left.bash('source ./build.sh; claim_targets; echo ready; sleep 1.5; cp crates/one/src/lib.rs ended');
  while (!(await readFile(join(folder, 'target/.sanderling-clone'), 'utf8').catch(() => '')).includes(left.root)) await new Promise((resolve) => setTimeout(resolve, 20));
  const { stdout } = await right.bash('source ./build.sh; claim_targets; ls ../slow/ended');
  assert.match(stdout, /waiting: .*\/slow is building/);
  await slow;
});

test('clean --cache removes the folder that build.sh made and no other', async () => {
  const { bash } = await clone('cleaner');
  const [ours, foreign] = [join(folder, 'ours'), join(folder, 'foreign')];
  await bash('source ./build.sh; make_cache; mkdir "$CACHE/target"', { SANDERLING_CACHE: ours });
  await bash('./build.sh clean --cache', { SANDERLING_CACHE: ours });
  await assert.rejects(stat(ours), { code: 'ENOENT' });
  await mkdir(foreign);
  await writeFile(join(foreign, 'thesis.txt'), 'work of years');
  await bash('source ./build.sh; make_cache', { SANDERLING_CACHE: foreign });
  await assert.rejects(bash('./build.sh clean --cache', { SANDERLING_CACHE: foreign }), (error) => {
    assert.equal(error.code, 1);
    assert.match(error.stderr, /was not made by build\.sh/);
    return true;
  });
  assert.equal(await readFile(join(foreign, 'thesis.txt'), 'utf8'), 'work of years');
});

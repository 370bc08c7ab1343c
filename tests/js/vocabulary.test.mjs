// The last resort reads `vocabulary.bin` without an engine, and must see what the engine sees.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { decodeVocabulary } from '../../www/pkg/dist/vocabulary.js';
import { openFixture } from './lib/fixture.mjs';
import { PROGRAM } from './lib/paths.mjs';

let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

test('it knows the items of a bundle as the program does', async () => {
  const { stdout } = await promisify(execFile)(PROGRAM, ['items', 'list', fixture.bundle, '--json'], { maxBuffer: 1 << 26 });
  const { items } = JSON.parse(stdout);
  const { itemIds, categories, itemCategories, prices } = decodeVocabulary(fixture.files['vocabulary.bin']);
  assert.deepEqual(itemIds, items.map(({ item_id }) => item_id));
  assert.deepEqual(itemIds, fixture.itemIds);
  assert.deepEqual(itemCategories.map((numbers) => numbers.map((number) => categories[number])), items.map((item) => item.categories));
  assert.deepEqual(itemIds.map((_, row) => prices[row] ?? null), items.map(({ price }) => price));
});

test('texts keep every character, also one that looks like a byte order mark', () => {
  const texts = new TextEncoder();
  const [ids, names] = [['\uFEFFa', '', 'é🦜'], ['\uFEFF']].map((list) => list.map((text) => texts.encode(text)));
  const u16 = (...values) => values.flatMap((value) => [value & 255, value >> 8]);
  const u32 = (...values) => values.flatMap((value) => [...u16(value & 65_535), ...u16(value >>> 16)]);
  const sum = (list) => list.reduce((total, { length }) => total + length, 0);
  const bytes = Uint8Array.of(
    ...texts.encode('SNDV'), ...u16(1, 2), ...u32(ids.length, names.length, 2, sum(ids), sum(names)),
    ...u32(3, 2, 1), ...ids.flatMap(() => [0, 0, 0, 0, 0, 0, 0, 0x80]), ...u16(...ids.map(({ length }) => length)), ...u16(1, 0, 1), ...u16(names[0].length),
    ...u16(0, 0), ...ids.flatMap((id) => [...id]), ...names[0],
  );
  assert.deepEqual(decodeVocabulary(bytes), {
    itemIds: ['\uFEFFa', '', 'é🦜'], categories: ['\uFEFF'], itemCategories: [[0], [], [0]], prices: [],
  });
});

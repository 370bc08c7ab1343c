import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** Every model file that a peer may want for a catalogue of so many items, relative to the folder. */
export async function filesOf(folder, items) {
  const of = async (name) => (await readdir(join(folder, name), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  return [...(await of(String(items))), 'encoder.f32', 'encoder.json', 'encoder-small.json'];
}

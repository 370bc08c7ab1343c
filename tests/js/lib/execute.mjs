/**
 * Runs operations against the packed package; the same module runs in Node, Chromium and workerd.
 * `sanderling` is the package's module, `files` the bundle's files by name.
 */
export async function execute(sanderling, files, operations) {
  const recommender = await sanderling.Recommender.load({ files, consent: 'none' });
  const outcomes = [];
  for (const operation of operations) {
    outcomes.push(operation.op === 'load' ? await load(sanderling, files, operation) : recommender.engine.runOperation(operation));
  }
  recommender.free();
  return outcomes;
}

/** Loads a bundle, with one file changed and a key if stated: `{"ok": null}`, or the typed error. */
async function load(sanderling, files, { mutate = {}, public_key: publicKey }) {
  const signed = publicKey === undefined ? {} : { publicKey };
  try {
    const recommender = await sanderling.Recommender.load({ files: mutated(files, mutate), consent: 'none', ...signed });
    recommender.free();
    return { ok: null };
  } catch (error) {
    if (error instanceof sanderling.RecommenderError) return { error: error.toJSON() };
    throw error;
  }
}

/** `flip_byte` and `truncate_to` count bytes, `replace_format_version` writes another version. */
export function mutated(files, { file = 'manifest.json', flip_byte, truncate_to, replace_format_version, replace, remove }) {
  const copy = { ...files };
  if (remove) {
    delete copy[file];
    return copy;
  }
  let bytes = copy[file]?.slice() ?? new Uint8Array();
  // All bits: of one, a digit becomes another digit and the manifest stays a good one.
  if (flip_byte !== undefined) bytes[flip_byte] ^= 0xff;
  if (truncate_to !== undefined) bytes = bytes.slice(0, truncate_to);
  if (replace_format_version !== undefined) {
    const text = new TextDecoder().decode(bytes);
    bytes = new TextEncoder().encode(text.replace(/"format_version":\d+/, `"format_version":${replace_format_version}`));
  }
  if (replace !== undefined) bytes = new TextEncoder().encode(new TextDecoder().decode(bytes).replace(...replace));
  copy[file] = bytes;
  return copy;
}

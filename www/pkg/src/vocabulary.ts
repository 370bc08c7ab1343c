/** `vocabulary.bin` for the last resort, which has no engine; `docs/formats/vocabulary.md` has the layout. */

export interface Vocabulary {
  itemIds: string[];
  categories: string[];
  /** Per item: indices into `categories`, ascending. */
  itemCategories: number[][];
  /** Per item, or empty when no item has a price. */
  prices: (number | null)[];
}

const HEADER_BYTES = 28;
const [HAS_PRICES, HAS_PUBLISHED_AT] = [1, 2];

/** Reads what an engine has checked. */
export function decodeVocabulary(bytes: Uint8Array): Vocabulary {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint16(6, true);
  const [numItems, numCategories, numLinks, idBytes] = [8, 12, 16, 20].map((at) => view.getUint32(at, true)) as [number, number, number, number];
  let at = HEADER_BYTES + 4 * numItems;
  const column = (length: number, width: number, read: (offset: number) => number): number[] => {
    const start = at;
    at += length * width;
    return Array.from({ length }, (_, row) => read(start + row * width));
  };
  const halves = (length: number): number[] => column(length, 2, (offset) => view.getUint16(offset, true));
  const prices = flags & HAS_PRICES ? column(numItems, 4, (offset) => view.getFloat32(offset, true)) : [];
  if (flags & HAS_PUBLISHED_AT) at += 8 * numItems;
  const [idLengths, numLinksOf, nameLengths, links] = [halves(numItems), halves(numItems), halves(numCategories), halves(numLinks)];
  const texts = (lengths: number[], start: number): string[] => {
    // An id may begin with what would otherwise be taken for a byte order mark.
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    let end = start;
    return lengths.map((length) => decoder.decode(bytes.subarray(end, (end += length))));
  };
  let link = 0;
  return {
    itemIds: texts(idLengths, at),
    categories: texts(nameLengths, at + idBytes),
    itemCategories: numLinksOf.map((count) => links.slice(link, (link += count))),
    prices: prices.map((price) => (price < 0 ? null : price)),
  };
}

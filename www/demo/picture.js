import { svg } from './dom.js';

/** Silhouettes in a 100 by 100 box, by the word that a category's name starts with. */
const SHAPES = {
  bag: 'M34 44c0-22 32-22 32 0M26 44h48l5 36H21Z',
  foot: 'M20 62c0-4 2-6 6-8 8-4 11-9 14-16l10 2c2 8 12 13 24 15 5 1 7 4 7 9v6H20ZM20 70h61v6H20Z',
  jacket: 'M38 22l-20 12 7 16 8-4v36h34V46l8 4 7-16-20-12c-4 9-20 9-24 0ZM50 29v53M33 62h8M67 62h-8',
  knit: 'M38 22l-20 12 7 16 8-4v36h34V46l8 4 7-16-20-12c-4 9-20 9-24 0ZM33 58h34M33 66h34M33 74h34',
  tent: 'M50 22 14 78h72ZM50 44 37 78h26ZM46 16l4 6 4-6',
  kitchen: 'M28 36h38v26c0 12-8 18-19 18s-19-6-19-18ZM66 42h6c12 0 12 18 0 18h-6M38 28c-4-6 4-8 0-14M52 28c-4-6 4-8 0-14',
  light: 'M36 36h28v34H36ZM31 36h38M31 70h38v8H31ZM41 36c0-20 18-20 18 0M50 44c7 7 6 15 0 18-6-3-7-11 0-18Z',
  optic: 'M33 78a14 14 0 1 0 0-28 14 14 0 0 0 0 28ZM67 78a14 14 0 1 0 0-28 14 14 0 0 0 0 28ZM22 54l7-30h13l3 32M78 54l-7-30H58l-3 32M44 40h12M47 64h6',
  book: 'M24 28c10-4 18-3 26 3 8-6 16-7 26-3v44c-10-4-18-3-26 3-8-6-16-7-26-3ZM50 31v44',
  cycl: 'M28 78a15 15 0 1 0 0-30 15 15 0 0 0 0 30ZM72 78a15 15 0 1 0 0-30 15 15 0 0 0 0 30ZM28 63l12-25h22l10 25M40 38l12 25 12-25M52 63H28M34 32h11M62 38l-3-10h9',
  water: 'M10 50c26 9 54 9 80 0-9 24-71 24-80 0ZM42 53c0-8 16-8 16 0M24 22l52 58M18 20l10-2 4 12ZM82 82l-10 2-4-12Z',
  garden: 'M50 74V42M50 54c-16 2-24-8-24-22 16-2 24 8 24 22ZM50 48c0-12 8-22 24-20 0 14-8 22-24 20ZM35 82h30l4-10H31Z',
};
const FALLBACKS = [
  'M50 80a30 30 0 1 0 0-60 30 30 0 0 0 0 60ZM22 40c18 10 38 10 56 0M22 60c18-10 38-10 56 0',
  'M22 36l28-14 28 14v30L50 80 22 66ZM22 36l28 14 28-14M50 50v30',
  'M30 30h40v50H30ZM38 20h24v10H38ZM38 46h24M38 58h24',
  'M40 34l3-16h14l3 16M40 66l3 16h14l3-16M50 70a20 20 0 1 0 0-40 20 20 0 0 0 0 40ZM50 40v10l7 5',
  'M20 38h14l6-9h20l6 9h14v36H20ZM50 68a13 13 0 1 0 0-26 13 13 0 0 0 0 26Z',
  'M24 50a26 26 0 0 1 52 0M22 50h10v22H22ZM68 50h10v22H68Z',
];

/** A picture that is drawn from the item itself, so that the shop needs no image host. */
export function picture(item, categories) {
  const category = item.categories[0] ?? '';
  const rank = Math.max(0, categories.indexOf(category));
  const seed = hash(item.item_id);
  const hue = (rank * 137.5 + (seed % 36) - 18 + 360) % 360;
  const turn = ((seed >> 6) % 13) - 6;
  const own = (hue + ((seed >> 9) % 50) - 25 + 360) % 360;
  return svg(
    'svg',
    { class: 'picture', viewBox: '0 0 100 100', 'aria-hidden': 'true', focusable: 'false', preserveAspectRatio: 'xMidYMid slice' },
    svg('rect', { width: 100, height: 100, fill: `hsl(${hue} 42% 87%)` }),
    svg('circle', { cx: 15 + (seed % 70), cy: 12 + ((seed >> 4) % 30), r: 34, fill: `hsl(${(hue + 24) % 360} 55% 80%)` }),
    svg('ellipse', { cx: 50, cy: 84, rx: 28, ry: 3.5, fill: `hsl(${hue} 35% 35%)`, opacity: 0.2 }),
    svg(
      'g',
      { transform: `translate(50 52) rotate(${turn}) scale(0.84) translate(-50 -51)` },
      svg('path', {
        d: shapeOf(category, rank),
        fill: `hsl(${own} 46% ${54 + ((seed >> 3) % 12)}%)`,
        'fill-rule': 'evenodd',
        stroke: `hsl(${own} 48% 27%)`,
        'stroke-width': 2.4,
        'stroke-linejoin': 'round',
        'stroke-linecap': 'round',
      }),
    ),
  );
}

/** The silhouette of a category; any other name gets one of the plain ones, always the same. */
function shapeOf(category, rank) {
  const name = category.toLowerCase();
  const word = Object.keys(SHAPES).find((start) => name.startsWith(start));
  return word === undefined ? FALLBACKS[rank % FALLBACKS.length] : SHAPES[word];
}

/** FNV-1a, for looks only. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0), 0x01000193);
  return value >>> 0;
}

import { byId, element } from './dom.js';
import { formatPrice, formatTime } from './format.js';
import { picture } from './picture.js';

/** Session items on show; the engine reads more. */
const NUM_STRIP_ITEMS = 12;

const FAULTS = {
  empty_session: 'Popular items, until you open one',
  unknown_items: 'Some of your items are too new for this model',
  encoder_failed: 'Popular items: the model could not run',
  ranker_failed: 'In retrieval order: the ranker could not run',
  too_few_items: 'Few items match',
  limit_lowered: '',
  engine_failed: 'Popular items: the engine failed',
};

/** Shows the latest interactions, newest first. */
export function renderSession(session, { items, categories }) {
  byId('session-count').textContent = session.length === 0 ? 'nothing yet' : `${session.length} viewed`;
  const latest = session.slice(-NUM_STRIP_ITEMS).reverse();
  const entries = latest.map(({ itemId, timestamp }) => {
    const item = items.get(itemId) ?? { item_id: itemId, title: itemId, categories: [] };
    const title = item.title || itemId;
    return element(
      'li',
      { title: `${title}, ${formatTime(timestamp)}` },
      element('span', { className: 'thumb' }, picture(item, categories)),
      element('span', { className: 'sr-only' }, `${title}, ${formatTime(timestamp)}`),
    );
  });
  const hint = element('li', { className: 'hint' }, 'Open an item in the catalogue and watch this list change.');
  byId('session-strip').replaceChildren(...(entries.length > 0 ? entries : [hint]));
}

/** Shows the recommendations with the strongest reason of each. */
export function renderSuggestions({ recommendations, faults, filtered }, context) {
  const list = byId('suggestions');
  list.setAttribute('aria-busy', 'false');
  list.replaceChildren(...recommendations.map((recommendation) => suggestion(recommendation, context)));
  const note = faults.map(({ code }) => FAULTS[code] ?? code).find((text) => text !== '');
  byId('for-you-note').textContent = note ?? (filtered ? 'within your filter' : 'ranked on this device');
  byId('announcer').textContent = `${recommendations.length} recommendations updated`;
}

function suggestion(recommendation, { items, categories, onView }) {
  const item = items.get(recommendation.itemId) ?? { item_id: recommendation.itemId, title: '', categories: [], price: null };
  const button = element(
    'button',
    { type: 'button', className: 'suggestion', 'data-item-id': item.item_id },
    element('span', { className: 'thumb' }, picture(item, categories)),
    element(
      'span',
      { className: 'about' },
      element('span', { className: 'title' }, item.title || item.item_id),
      reason(recommendation.reasons[0], items),
    ),
    element('span', { className: 'price' }, formatPrice(item.price)),
  );
  button.addEventListener('click', () => onView(item));
  return element('li', {}, button);
}

function reason(strongest, items) {
  const name = (itemId) => items.get(itemId)?.title || itemId;
  const line = (...children) => element('span', { className: 'reason' }, ...children);
  switch (strongest?.kind) {
    case 'similar_to':
    case 'chosen_with':
      return line('Because you viewed ', element('em', {}, name(strongest.itemId)));
    case 'category':
      return line('You have been looking at ', element('em', {}, strongest.category));
    case 'popular':
      return line('Popular with everyone');
    default:
      return line('Fits your session');
  }
}

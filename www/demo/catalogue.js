import { byId, element } from './dom.js';
import { formatNumber, formatPrice } from './format.js';
import { picture } from './picture.js';

const PAGE_SIZE = 24;

/** The grid of everything there is, with its filters. */
export class Catalogue {
  /** Category names, the largest first. */
  categories;
  #items;
  #actions;
  #numShown = PAGE_SIZE;
  #maxPrice;
  #cards = new Map();

  constructor(items, actions) {
    this.#items = items;
    this.#actions = actions;
    this.categories = countCategories(items);
    this.#maxPrice = Math.ceil(items.reduce((max, { price }) => Math.max(max, price ?? 0), 0));
    this.#prepareFilters();
  }

  /** The filter in the terms of the engine's rules. */
  get filter() {
    const category = byId('category').value;
    const price = Number(byId('price').value);
    return {
      ...(category === '' ? {} : { categories: [category] }),
      ...(price < this.#maxPrice ? { maxPrice: price } : {}),
    };
  }

  get isFiltered() {
    return Object.keys(this.filter).length > 0;
  }

  render() {
    const matching = this.#matching();
    byId('catalogue-count').textContent = `${formatNumber(matching.length)} ${matching.length === 1 ? 'item' : 'items'}`;
    this.#cards.clear();
    byId('grid').replaceChildren(...matching.slice(0, this.#numShown).map((item) => this.#card(item)));
    byId('more').hidden = matching.length <= this.#numShown;
  }

  markSeen(item) {
    this.#cards.get(item.item_id)?.classList.add('seen');
  }

  #prepareFilters() {
    byId('category').append(...this.categories.map((name) => element('option', { value: name }, name)));
    const price = byId('price');
    price.max = String(this.#maxPrice);
    price.value = price.max;
    this.#showPrice();
    byId('search').addEventListener('input', () => this.#filterChanged(false));
    byId('category').addEventListener('change', () => this.#filterChanged(true));
    price.addEventListener('input', () => this.#showPrice());
    price.addEventListener('change', () => this.#filterChanged(true));
    byId('more').addEventListener('click', () => {
      this.#numShown += PAGE_SIZE;
      this.render();
    });
  }

  #showPrice() {
    const value = Number(byId('price').value);
    byId('price-shown').textContent = value >= this.#maxPrice ? 'any price' : formatPrice(value);
  }

  #filterChanged(alsoRules) {
    this.#numShown = PAGE_SIZE;
    this.render();
    if (alsoRules) this.#actions.onFilter();
  }

  #matching() {
    const words = byId('search').value.trim().toLowerCase();
    const { categories, maxPrice } = this.filter;
    return this.#items.filter(
      (item) =>
        (words === '' || item.title.toLowerCase().includes(words)) &&
        (categories === undefined || item.categories.includes(categories[0])) &&
        (maxPrice === undefined || (item.price !== null && item.price <= maxPrice)),
    );
  }

  #card(item) {
    const button = element(
      'button',
      { type: 'button', className: 'card', 'data-item-id': item.item_id },
      element('span', { className: 'frame' }, picture(item, this.categories), element('span', { className: 'tick' }, 'Viewed')),
      element('span', { className: 'title' }, item.title || item.item_id),
      element(
        'span',
        { className: 'meta' },
        element('span', { className: 'tag' }, item.categories[0] ?? ''),
        element('span', { className: 'price' }, formatPrice(item.price)),
      ),
    );
    if (this.#actions.isSeen(item)) button.classList.add('seen');
    button.addEventListener('click', () => this.#actions.onView(item));
    this.#cards.set(item.item_id, button);
    return element('li', {}, button);
  }
}

function countCategories(items) {
  const counts = new Map();
  for (const { categories } of items) {
    for (const name of categories) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].toSorted(([left, a], [right, b]) => b - a || left.localeCompare(right)).map(([name]) => name);
}

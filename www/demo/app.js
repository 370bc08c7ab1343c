import { Recommender } from './sanderling/dist/browser.js';

import { Catalogue } from './catalogue.js';
import { byId } from './dom.js';
import { formatBytes, formatMillis, formatNumber, median } from './format.js';
import { PrivacyPanel } from './privacy.js';
import { renderSession, renderSuggestions } from './suggestions.js';

const NUM_SUGGESTIONS = 10;
/** A shop window with one kind of thing is a dull one. */
const CATEGORY_CAP = 4;
/** Calls behind the median that is shown. */
const NUM_TIMED_CALLS = 50;
const CONSENT_KEY = 'sanderling-demo-consent';

start().catch((error) => {
  byId('where').dataset.state = 'failed';
  byId('where-text').textContent = 'Not available';
  byId('failure').hidden = false;
  byId('failure').textContent = `The shop could not start: ${error.message}${error.code ? ` (${error.code})` : ''}`;
});

async function start() {
  const [settings, items] = await Promise.all([fetchJson('demo.json'), fetchJson('catalogue.json')]);
  // Without a choice the package's default holds, which knows the browser's privacy signals.
  const consent = localStorage.getItem(CONSENT_KEY);
  const started = performance.now();
  const recommender = await Recommender.load({
    baseUrl: './bundle/',
    ...(consent === null ? {} : { consent }),
    ...(settings.collector_url === null ? {} : { collectorUrl: settings.collector_url }),
    ...(settings.public_key === null ? {} : { publicKey: settings.public_key }),
  });
  const shop = new Shop(recommender, items);
  shop.showLoaded(performance.now() - started);
}

async function fetchJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} answered with status ${response.status}`);
  return response.json();
}

/** The page's state: the recommender, the catalogue, and the list that is on show. */
class Shop {
  #recommender;
  #items;
  #catalogue;
  #shown = [];
  #callMillis = [];
  #privacy;

  constructor(recommender, items) {
    this.#recommender = recommender;
    this.#items = new Map(items.map((item) => [item.item_id, item]));
    this.#catalogue = new Catalogue(items, {
      onView: (item) => this.#view(item),
      onFilter: () => this.#refresh(),
      isSeen: (item) => this.#recommender.session.some(({ itemId }) => itemId === item.item_id),
    });
    this.#privacy = new PrivacyPanel(recommender, {
      onConsent: (consent) => localStorage.setItem(CONSENT_KEY, consent),
      onErase: () => {
        this.#refresh();
        this.#catalogue.render();
      },
    });
    this.#catalogue.render();
    this.#refresh();
  }

  showLoaded(millis) {
    const { bytes, numItems } = this.#recommender.bundle;
    byId('where').dataset.state = 'ready';
    byId('where-text').textContent = 'Runs in this tab';
    byId('load-time').textContent = formatMillis(millis);
    byId('bundle-size').textContent = formatBytes(bytes);
    byId('bundle-items').textContent = formatNumber(numItems);
  }

  /** Opening an item answers the list that was on show, and then becomes part of the session. */
  #view(item) {
    const chosen = this.#shown.find(({ itemId }) => itemId === item.item_id);
    this.#recommender.recordOutcome(chosen === undefined ? {} : { position: chosen.position });
    this.#recommender.observe({ itemId: item.item_id, kind: 'view' });
    this.#catalogue.markSeen(item);
    this.#refresh();
  }

  #refresh() {
    const { recommendations, faults } = this.#recommend();
    this.#shown = recommendations;
    const context = {
      items: this.#items,
      categories: this.#catalogue.categories,
      onView: (item) => this.#view(item),
    };
    renderSession(this.#recommender.session, context);
    renderSuggestions({ recommendations, faults, filtered: this.#catalogue.isFiltered }, context);
    byId('call-time').textContent = formatMillis(median(this.#callMillis));
  }

  /** Whoever asks for one category gets as much of it as there is. */
  #categoryCap() {
    return this.#catalogue.filter.categories === undefined ? CATEGORY_CAP : NUM_SUGGESTIONS;
  }

  #recommend() {
    const options = { limit: NUM_SUGGESTIONS, rules: { categoryCap: this.#categoryCap(), filter: this.#catalogue.filter } };
    const started = performance.now();
    const response = this.#recommender.recommend(options);
    this.#callMillis = [...this.#callMillis, performance.now() - started].slice(-NUM_TIMED_CALLS);
    return response;
  }
}

/**
 * The entry `sanderling/element`: the custom element `<sanderling-recommendations>`, for pages without a framework.
 * Importing it defines the element where there are elements; on a server it does nothing.
 *
 * ```html
 * <sanderling-recommendations base-url="/bundle/" limit="6">
 *   <template>
 *     <a data-item-href="/shop/{itemId}"><span data-item-id></span> <small data-reason></small></a>
 *   </template>
 * </sanderling-recommendations>
 * ```
 *
 * Each recommendation becomes one copy of the template in the element's own (light) DOM, so that the page's styles
 * apply. The page fills in what it knows of an item in a `sanderling:item` listener. An item that is in the next list, too, keeps its node, and the focus.
 */
import { Recommender } from './browser.js';
import { anySignal } from './bundle.js';
import { defaultConsent } from './consent.js';
import { toRecommenderError, type RecommenderError } from './errors.js';
import type { Consent, LoadOptions, Reason, Recommendation, RecommendOptions, RecommendResponse } from './types.js';

const TAG = 'sanderling-recommendations';

/** `detail` of `sanderling:item`: one recommendation and the node that shows it, before it is seen; once more where the reasons of an item have changed. */
export interface ItemDetail {
  recommendation: Recommendation;
  element: HTMLElement;
}

/** `detail` of `sanderling:choose`: what was clicked; `preventDefault` keeps it from being observed. */
export interface ChooseDetail {
  recommendation: Recommendation;
}

/** An item of the list, and the node that shows it. */
interface Shown {
  node: HTMLElement;
  recommendation: Recommendation;
}

/** Servers have no elements; a class must still be able to extend something. */
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

/**
 * `<sanderling-recommendations>`. Attributes: `base-url` (folder of the bundle), `limit` (10), `consent`, `collector-url`, `personalise`,
 * `kind` (`click`: the kind of interaction that a click is observed as). Properties: `options` of `recommend`, `loadOptions` of `load`, `recommender` in place of one that is
 * loaded. Events, all of which bubble: `sanderling:ready`, `sanderling:list` (`detail`: the response), `sanderling:item`, `sanderling:choose`, `sanderling:error` (`detail`: the error,
 * which is logged unless a listener calls `preventDefault`).
 */
export class SanderlingRecommendations extends Base {
  static readonly observedAttributes = ['base-url', 'collector-url', 'consent', 'limit', 'personalise'];

  #recommender: Recommender | undefined;
  /** What a page set: several elements may show lists of one recommender, which stays the page's to free. */
  #given: Recommender | undefined;
  /** Whether the recommender is the element's to free. */
  #isOwn = false;
  #options: RecommendOptions = {};
  #loadOptions: LoadOptions = {};
  #controller: AbortController | undefined;
  #hasFailed = false;
  /** By item, in the order of the list. */
  #shown = new Map<string, Shown>();
  #template: HTMLTemplateElement | null = null;
  #stopListening: (() => void) | undefined;
  #isScheduled = false;
  /** Between the callbacks: attributes are told of before, where an element that is in the page is defined. */
  #isInPage = false;

  /** The one that a page set, or the loaded one, between `sanderling:ready` and removal. */
  get recommender(): Recommender | undefined {
    return this.#recommender;
  }

  /** In place of what the attributes say; none loads that again. */
  set recommender(recommender: Recommender | null | undefined) {
    const given = recommender ?? undefined;
    if (given === this.#given) return;
    this.#given = given;
    // The element's own is the page's from now on.
    if (given !== undefined && given === this.#recommender) this.#isOwn = false;
    else if (this.#isInPage) this.#loadAnew();
  }

  /** Options of `recommend` beside `limit`, such as rules. */
  get options(): RecommendOptions {
    return this.#options;
  }

  set options(options: RecommendOptions) {
    this.#options = options;
    this.#showSoon();
  }

  /** Options of `Recommender.load` that no attribute has, such as `publicKey`; attributes go before them. */
  get loadOptions(): LoadOptions {
    return this.#loadOptions;
  }

  set loadOptions(options: LoadOptions) {
    const before = this.#loadOptions;
    this.#loadOptions = { ...options };
    // Frameworks set what is the same at every render.
    if (this.#isInPage && this.#given === undefined && (this.#hasFailed || !haveSameValues(before, this.#loadOptions))) this.#loadAnew();
  }

  connectedCallback(): void {
    for (const name of ['options', 'loadOptions', 'recommender'] as const) {
      if (!Object.hasOwn(this, name)) continue;
      // Set before the element was defined, it would hide the accessor.
      const value = this[name];
      delete (this as Partial<SanderlingRecommendations>)[name];
      if (name === 'options') this.#options = value as RecommendOptions;
      else if (name === 'recommender') this.#given = (value as Recommender | null) ?? undefined;
      else this.#loadOptions = { ...(value as LoadOptions) };
    }
    this.#isInPage = true;
    void this.#load();
  }

  disconnectedCallback(): void {
    this.#isInPage = false;
    this.#unload();
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    // A consent may have been taken back in another tab, and is given again.
    const isGone = name === 'consent' && this.#recommender !== undefined && this.#recommender.consent !== after;
    if ((before === after && !isGone) || !this.#isInPage) return;
    if (name === 'limit') return this.#showSoon();
    if (this.#given !== undefined) return;
    if (name === 'consent' && this.#recommender !== undefined) return this.#setConsent(this.#recommender, after as Consent | null);
    this.#loadAnew();
  }

  #loadAnew(): void {
    this.#unload();
    void this.#load();
  }

  async #load(): Promise<void> {
    if (this.#given !== undefined) {
      try {
        return this.#use(this.#given, false);
      } catch (thrown) {
        return this.#fail(thrown, 'the recommender cannot be used');
      }
    }
    const options: LoadOptions = { ...this.#loadOptions };
    const baseUrl = this.getAttribute('base-url');
    if (baseUrl !== null) options.baseUrl = baseUrl;
    const hasSource = ['baseUrl', 'channelUrl', 'engine', 'files'].some((name) => options[name as keyof LoadOptions] !== undefined);
    if (!hasSource || this.#controller !== undefined) return;
    const controller = new AbortController();
    this.#controller = controller;
    this.#hasFailed = false;
    options.signal = anySignal(options.signal, controller.signal);
    const consent = this.getAttribute('consent');
    if (consent !== null) options.consent = consent as Consent;
    const collectorUrl = this.getAttribute('collector-url');
    if (collectorUrl !== null) options.collectorUrl = collectorUrl;
    if (this.hasAttribute('personalise')) options.personalise = true;
    try {
      const recommender = await Recommender.load(options);
      if (controller.signal.aborted) return recommender.free();
      this.#use(recommender, true);
    } catch (thrown) {
      if (controller.signal.aborted) return;
      this.#hasFailed = true;
      this.#fail(thrown, 'the bundle cannot be opened');
    }
  }

  #use(recommender: Recommender, isOwn: boolean): void {
    this.#recommender = recommender;
    this.#isOwn = isOwn;
    this.#stopListening = recommender.onChange(() => this.#showSoon());
    this.#tell('sanderling:ready', recommender);
    this.#show();
  }

  #setConsent(recommender: Recommender, consent: Consent | null): void {
    recommender.setConsent(consent ?? defaultConsent()).catch((thrown: unknown) => {
      this.#fail(thrown, 'the consent cannot be changed');
    });
  }

  #unload(): void {
    this.#controller?.abort();
    this.#controller = undefined;
    this.#stopListening?.();
    this.#stopListening = undefined;
    if (this.#isOwn) this.#recommender?.free();
    this.#recommender = undefined;
    this.#clear();
  }

  #showSoon(): void {
    if (this.#isScheduled || this.#recommender === undefined) return;
    this.#isScheduled = true;
    // Not before the event that led here has been everywhere: what was clicked stays in the page so long.
    setTimeout(() => {
      this.#isScheduled = false;
      this.#show();
    });
  }

  #show(): void {
    if (this.#recommender === undefined) return;
    const limit = Number(this.getAttribute('limit') ?? 10);
    let response: RecommendResponse;
    try {
      response = this.#recommender.recommend({ ...this.#options, limit });
      this.#arrange(response.recommendations);
    } catch (thrown) {
      return this.#fail(thrown, 'no list can be shown');
    }
    this.#tell('sanderling:list', response);
  }

  /** Shows the items of a list, each in the node that it has, if it has one. */
  #arrange(recommendations: readonly Recommendation[]): void {
    const template = this.querySelector('template');
    if (template !== this.#template) this.#clear();
    this.#template = template;
    const before = this.#shown;
    this.#shown = new Map(recommendations.map((recommendation) => [recommendation.itemId, this.#shownAs(recommendation, before.get(recommendation.itemId))]));
    for (const [itemId, { node }] of before) if (!this.#shown.has(itemId)) node.remove();
    const focused = this.ownerDocument.activeElement;
    let last: Node | undefined;
    for (const { node } of this.#shown.values()) {
      // What is in its place already keeps what a move would take, such as a selection.
      if (node.parentNode !== this || (last !== undefined && last.nextSibling !== node)) this.insertBefore(node, last?.nextSibling ?? null);
      last = node;
    }
    if (focused instanceof HTMLElement && this.contains(focused)) focused.focus({ preventScroll: true });
  }

  #clear(): void {
    for (const { node } of this.#shown.values()) node.remove();
    this.#shown.clear();
  }

  #shownAs(recommendation: Recommendation, before: Shown | undefined): Shown {
    const shown = { node: before?.node ?? this.#node(recommendation.itemId), recommendation };
    if (before !== undefined && JSON.stringify(before.recommendation.reasons) === JSON.stringify(recommendation.reasons)) return shown;
    fill(shown.node, recommendation);
    this.#tell('sanderling:item', { recommendation, element: shown.node } satisfies ItemDetail);
    return shown;
  }

  #node(itemId: string): HTMLElement {
    const node = document.createElement('div');
    if (this.#template === null) node.textContent = itemId;
    else node.append(this.#template.content.cloneNode(true));
    node.dataset['itemId'] = itemId;
    node.addEventListener('click', () => this.#choose(itemId));
    return node;
  }

  #choose(itemId: string): void {
    const recommendation = this.#shown.get(itemId)?.recommendation;
    if (recommendation === undefined) return;
    const isWanted = this.#tell('sanderling:choose', { recommendation } satisfies ChooseDetail);
    if (!isWanted || this.#recommender === undefined) return;
    try {
      this.#recommender.recordOutcome({ position: recommendation.position, itemId });
      this.#recommender.observe({ itemId, kind: this.getAttribute('kind') ?? 'click' });
    } catch (thrown) {
      this.#fail(thrown, 'the click cannot be observed');
    }
  }

  #fail(thrown: unknown, what: string): void {
    const error = toRecommenderError(thrown, 'internal', what);
    if (this.#tell('sanderling:error', error)) console.error(error);
  }

  #tell(type: string, detail: unknown): boolean {
    return this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true, cancelable: true }));
  }
}

function haveSameValues(one: object, other: object): boolean {
  const keys = new Set([...Object.keys(one), ...Object.keys(other)]) as Set<never>;
  return [...keys].every((key) => one[key] === other[key]);
}

function fill(node: HTMLElement, { itemId, reasons }: Recommendation): void {
  for (const place of node.querySelectorAll('[data-item-id]')) place.textContent = itemId;
  for (const place of node.querySelectorAll('[data-reason]')) place.textContent = describe(reasons[0]);
  for (const place of node.querySelectorAll<HTMLElement>('[data-item-href]')) {
    place.setAttribute('href', (place.dataset['itemHref'] ?? '').replaceAll('{itemId}', encodeURIComponent(itemId)));
  }
}

function describe(reason: Reason | undefined): string {
  switch (reason?.kind) {
    case 'similar_to':
    case 'chosen_with':
      return `because you viewed ${reason.itemId}`;
    case 'category':
      return `more from ${reason.category}`;
    case 'popular':
      return 'popular';
    default:
      return '';
  }
}

if (globalThis.customElements !== undefined && customElements.get(TAG) === undefined) {
  customElements.define(TAG, SanderlingRecommendations);
}

declare global {
  interface HTMLElementTagNameMap {
    [TAG]: SanderlingRecommendations;
  }

  interface HTMLElementEventMap {
    'sanderling:ready': CustomEvent<Recommender>;
    'sanderling:list': CustomEvent<RecommendResponse>;
    'sanderling:item': CustomEvent<ItemDetail>;
    'sanderling:choose': CustomEvent<ChooseDetail>;
    'sanderling:error': CustomEvent<RecommenderError>;
  }
}

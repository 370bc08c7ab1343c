import { byId, element } from './dom.js';
import { formatDate, formatName, formatNumber } from './format.js';

const NOT_REPORTABLE = {
  consent: 'Nothing will be sent: you have not allowed it.',
  privacy_signal: 'Nothing will be sent: your browser asks sites not to.',
  no_collector: 'Nothing can be sent: this site has no collector.',
  no_storage: 'Nothing will be sent: this browser keeps nothing for this site, so a day could be reported twice.',
  already_reported: 'The report of this window was made. The next one comes with the next window.',
  nothing_observed: 'There is nothing to report yet.',
};

const SIGNALS = {
  gpc: 'Your browser sends Global Privacy Control. It is honoured: nothing leaves this device, whatever is chosen here.',
  dnt: 'Your browser sends Do Not Track. It is honoured: nothing leaves this device, whatever is chosen here.',
};

/** Where session and counts are, in a sentence. */
function whereabouts(consent, storage, kept) {
  if (consent === 'none') return `Nothing is stored: ${kept} and the counts below are in the memory of this tab and gone with it.`;
  if (storage === 'memory') return `This browser keeps nothing for this site: ${kept} and the counts below are gone with this tab.`;
  return `In this browser’s database: ${kept}, and the counts below.`;
}

/** The panel that shows exactly what is stored and what would be sent, and changes either. */
export class PrivacyPanel {
  #recommender;
  #actions;
  #dialog = byId('privacy');

  constructor(recommender, actions) {
    this.#recommender = recommender;
    this.#actions = actions;
    byId('open-privacy').addEventListener('click', () => this.#open());
    byId('close-privacy').addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('click', (event) => {
      if (event.target === this.#dialog) this.#dialog.close();
    });
    byId('consent').addEventListener('change', (event) => this.#do(() => this.#changeConsent(event.target.value)));
    byId('send').addEventListener('click', () => this.#do(() => this.#send()));
    byId('erase').addEventListener('click', () => this.#do(() => this.#erase()));
    byId('export').addEventListener('click', () => this.#do(() => this.#export()));
  }

  #open() {
    byId('privacy-status').textContent = '';
    this.#dialog.showModal();
    this.#do(async () => '');
  }

  /** Runs an action, says what it did, and shows the state after it. */
  async #do(action) {
    const status = byId('privacy-status');
    this.#dialog.setAttribute('aria-busy', 'true');
    try {
      status.textContent = await action();
    } catch (error) {
      status.textContent = error.message;
    }
    await this.#render();
    this.#dialog.setAttribute('aria-busy', 'false');
  }

  async #changeConsent(consent) {
    await this.#recommender.setConsent(consent);
    this.#actions.onConsent(consent);
    return consent === 'none' ? 'Everything that was stored is gone; only this choice is kept.' : '';
  }

  async #send() {
    const { accepted, duplicate, dropped, waiting, notReportable } = await this.#recommender.telemetry.flush();
    if (accepted + duplicate > 0) return 'Sent and acknowledged by the collector.';
    if (dropped.length > 0) return `The collector refused it: ${dropped.join(', ')}.`;
    if (waiting > 0) return 'The collector did not acknowledge it. It waits here and is sent again later.';
    return NOT_REPORTABLE[notReportable] ?? 'There is nothing to send.';
  }

  async #erase() {
    await this.#recommender.erase();
    this.#actions.onErase();
    return 'Erased. What you allow stays as you chose it.';
  }

  async #export() {
    const everything = { ...(await this.#recommender.export()), page: { ...localStorage } };
    const url = URL.createObjectURL(new Blob([JSON.stringify(everything, null, 2)], { type: 'application/json' }));
    element('a', { href: url, download: 'sanderling-export.json' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
    return 'Exported to your downloads.';
  }

  async #render() {
    const preview = await this.#recommender.telemetry.preview();
    const stored = await this.#recommender.export();
    this.#renderConsent(preview);
    this.#renderReport(preview);
    this.#renderStored(stored, preview);
  }

  #renderConsent({ consent, privacySignal, notReportable }) {
    for (const radio of byId('consent').querySelectorAll('input')) {
      radio.checked = radio.value === consent;
      radio.disabled = radio.value === 'share' && (privacySignal !== null || notReportable === 'no_collector');
    }
    byId('consent-note').hidden = privacySignal === null;
    byId('consent-note').textContent = SIGNALS[privacySignal] ?? '';
  }

  #renderReport({ report, body, notReportable, windowStart, windowSeconds, epsilon, outbox, counters }) {
    byId('report').hidden = report === null;
    byId('report').textContent = report === null ? '' : readable(report);
    byId('report-summary').textContent = NOT_REPORTABLE[notReportable] ?? 'Exactly these bytes will be sent, once. Padding is shown by its length.';
    byId('send').disabled = report === null && outbox.length === 0;
    const window = `${formatDate(windowStart)}, ${windowSeconds / 3600} h`;
    const dropped = Object.entries(counters.dropped).map(([code, times]) => `${code} ${times}`);
    facts(byId('report-facts'), [
      ['Window', window],
      ['Size', body === null ? '–' : `${new TextEncoder().encode(body).length} bytes`],
      ['Privacy budget', `ε = ${epsilon}`],
      ['Waiting', formatNumber(outbox.length)],
      ['Acknowledged', formatNumber(counters.accepted + counters.duplicate)],
      ['Refused', dropped.length === 0 ? '0' : dropped.join(', ')],
    ]);
  }

  #renderStored({ storage, session, records }, { state, consent }) {
    const kept = `${session.length} ${session.length === 1 ? 'interaction' : 'interactions'}`;
    byId('stored-summary').textContent = `${whereabouts(consent, storage, kept)} They never leave this device.`;
    byId('stored').textContent = JSON.stringify({ records, page: { ...localStorage } }, null, 2);
    const charts = histograms(state).map(([name, counts]) => histogram(name, counts));
    byId('histograms').replaceChildren(...charts);
  }
}

function facts(list, entries) {
  list.replaceChildren(
    ...entries.map(([term, value]) => element('div', {}, element('dt', {}, term), element('dd', {}, value))),
  );
}

/** The report as JSON, with the padding's length in place of its spaces. */
function readable(report) {
  return JSON.stringify({ ...report, padding: `(${report.padding.length} spaces)` }, null, 2);
}

/** The named histograms of a telemetry state that counted anything, wherever they are in it. */
function histograms(state, name = '') {
  if (Array.isArray(state)) {
    const counts = state.every((value) => typeof value === 'number');
    return counts && state.some((value) => value > 0) ? [[name, state]] : [];
  }
  if (typeof state !== 'object' || state === null) return [];
  return Object.entries(state).flatMap(([key, value]) => histograms(value, key));
}

function histogram(name, counts) {
  const max = Math.max(...counts, 1);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const bars = counts.map((count) => {
    const bar = element('span', { className: 'bar', title: `${count}` });
    bar.style.setProperty('--share', String(count / max));
    return bar;
  });
  const label = `${formatName(name)}: ${counts.join(', ')}`;
  return element(
    'figure',
    { className: 'histogram' },
    element('div', { className: 'bars', role: 'img', 'aria-label': label }, ...bars),
    element('figcaption', {}, formatName(name), element('span', { className: 'muted' }, ` ${total}`)),
  );
}

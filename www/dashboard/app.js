import { Unauthorised, ask, setToken, token } from './api.js';
import { clear, showEffects, showReports, showShares } from './charts.js';
import { byId, element, legend, note, numbers, table } from './dom.js';
import { binLabels, formatCount, formatNumber, formatShare, formatTime, formatVerdict, formatWindow } from './format.js';

const NO_REPORTS = 'No reports have arrived yet.';
/** What is on show. */
const state = { status: null, decisions: [], bundle: null, field: null, about: null, verdict: null, series: null };
/** Counts loads, so that a slow answer does not overwrite a newer one. */
let round = 0;

function say(text) {
  byId('message').textContent = text;
  byId('message').hidden = text === '';
}

/** Shows the form, with what is wrong with the token that was tried. */
function lock(problem = '') {
  round += 1;
  byId('sections').hidden = byId('tools').hidden = true;
  byId('token-form').hidden = false;
  byId('token-problem').textContent = problem;
  byId('token').value = '';
  byId('token').focus();
  say('');
}

async function load() {
  if (token() === null) return lock();
  const mine = (round += 1);
  byId('token-form').hidden = true;
  byId('tools').hidden = false;
  if (state.status === null) say('Loading…');
  try {
    const [status, decisions] = await Promise.all([ask('v1/status'), ask('v1/decisions')]);
    if (mine !== round) return undefined;
    Object.assign(state, { status, decisions });
    const known = status.bundles.map((bundle) => bundle.bundle_sha256);
    if (!known.includes(state.bundle)) state.bundle = (status.bundles.findLast(({ windows }) => windows.length > 0) ?? status.bundles.at(-1))?.bundle_sha256 ?? null;
    byId('sections').hidden = false;
    say('');
    renderStatus();
    return await loadBundle(mine);
  } catch (error) {
    return mine === round ? fail(error) : undefined;
  }
}

/** Loads what is known of the chosen bundle. */
async function loadBundle(mine = (round += 1)) {
  if (state.bundle === null) {
    Object.assign(state, { about: null, verdict: null, series: null });
    return renderBundle();
  }
  try {
    const of = `bundle=${state.bundle}`;
    const [about, verdict, series] = await Promise.all([
      ask(`v1/bundles/${state.bundle}`), ask(`v1/drift?${of}&windows=${byId('windows').value}`), ask(`v1/drift/series?${of}`),
    ]);
    if (mine !== round) return undefined;
    Object.assign(state, { about, verdict, series });
    say('');
    return renderBundle();
  } catch (error) {
    return mine === round ? fail(error) : undefined;
  }
}

function fail(error) {
  if (error instanceof Unauthorised) {
    setToken(null);
    return lock(error.message);
  }
  say(`${error.message} ${state.status === null ? 'Try again with Refresh.' : 'What is shown is from before; try again with Refresh.'}`);
  return undefined;
}

function renderStatus() {
  renderBundles();
  renderRejections();
  renderDecisions();
}

/** The sum of what may be told. */
function numReports(windows) {
  if (windows.length === 0) return '0';
  const known = windows.filter(({ num_reports: count }) => count !== null);
  const sum = known.reduce((total, { num_reports: count }) => total + count, 0);
  return `${known.length < windows.length ? 'over ' : ''}${formatCount(sum, 0)}`;
}

function renderBundles() {
  const { bundles } = state.status;
  if (bundles.length === 0) return byId('bundles').replaceChildren(note('No bundle is registered. Start the collector with --bundle.'));
  const rows = bundles.map(({ bundle_sha256: hash, name, version, windows }) => {
    const choose = element('button', { type: 'button', className: 'link', 'aria-pressed': String(hash === state.bundle) }, `${name} ${version}`);
    choose.addEventListener('click', () => chooseBundle(hash));
    const latest = windows.at(-1);
    return [choose, element('code', { title: hash }, hash.slice(0, 12)), numReports(windows), String(windows.length),
      latest === undefined ? '–' : formatWindow(latest.window_start)];
  });
  return byId('bundles').replaceChildren(table(['Bundle', 'Hash', 'Reports', 'Windows', 'Latest window'], rows, [2, 3]));
}

async function chooseBundle(hash) {
  state.bundle = hash;
  state.field = null;
  renderBundles();
  byId('bundles').querySelector('[aria-pressed=true]').focus();
  await loadBundle();
}

function renderRejections() {
  const rows = Object.entries(state.status.rejections).toSorted(([, left], [, right]) => right - left);
  if (rows.length === 0) return byId('rejections').replaceChildren(note('None since the collector started.'));
  const cells = rows.map(([code, count]) => [element('code', {}, code), formatCount(count, 0)]);
  return byId('rejections').replaceChildren(table(['Code', 'Since the start'], cells, [1]));
}

/** Hashes as short as in the list of bundles. */
const shorten = (text) => text.replaceAll(/\b[0-9a-f]{64}\b/g, (hash) => hash.slice(0, 12));

/** Decisions are others' JSON: a time and a name where they have one, and the rest as it is. */
function renderDecisions() {
  if (state.decisions.length === 0) return byId('decisions').replaceChildren(note('None have been written down.'));
  const items = state.decisions.toReversed().map((decision) => {
    if (decision === null || typeof decision !== 'object') return element('li', {}, JSON.stringify(decision));
    const take = (...names) => names.find((name) => name in decision);
    const [when, what] = [take('at', 'time', 'timestamp'), take('decision', 'action', 'event', 'kind')];
    const time = when === undefined ? '' : typeof decision[when] === 'number' ? formatTime(decision[when]) : String(decision[when]);
    const rest = Object.entries(decision).filter(([name]) => name !== when && name !== what);
    const words = rest.map(([name, value]) => `${name} ${shorten(typeof value === 'string' ? value : JSON.stringify(value))}`);
    return element('li', {},
      element('strong', {}, what === undefined ? 'decision' : String(decision[what])), ' ',
      element('span', { className: 'muted' }, time), element('div', { className: 'detail' }, words.join(' · ')));
  });
  return byId('decisions').replaceChildren(element('ol', { className: 'decisions', tabIndex: 0, 'aria-label': 'Decisions, newest first' }, ...items));
}

const rank = (field) => (field.drifted ? 0 : field.shifted ? 1 : field.skipped === null ? 2 : 3);

function renderBundle() {
  const { verdict } = state;
  const fields = [...(verdict?.fields ?? [])].sort((left, right) => rank(left) - rank(right) || (right.effect ?? 0) - (left.effect ?? 0));
  if (!fields.some(({ name }) => name === state.field)) state.field = fields[0]?.name ?? null;
  byId('field').replaceChildren(...fields.map(({ name }) => element('option', { value: name, selected: name === state.field }, name)));
  byId('field').disabled = fields.length === 0;
  renderVerdict(fields);
  renderField();
  renderReports();
}

function renderVerdict(fields) {
  const { verdict } = state;
  const judged = fields.filter(({ skipped }) => skipped === null);
  const drifted = judged.filter((field) => field.drifted);
  const shifted = judged.filter((field) => field.shifted);
  byId('verdict').dataset.kind = drifted.length > 0 ? 'drift' : shifted.length > 0 ? 'shift' : 'calm';
  if (verdict === null || verdict.windows.num_windows === 0) {
    byId('verdict').textContent = NO_REPORTS;
    return byId('fields').replaceChildren();
  }
  const within = `${formatCount(verdict.num_reports, verdict.min_answers)} reports in ${verdict.windows.num_windows} windows`;
  const found = judged.length === 0 ? `No field has ${verdict.min_answers} answers yet`
    : drifted.length > 0 ? `DRIFT in ${drifted.length} of ${judged.length} judged fields`
    : shifted.length > 0 ? `No drift; a small shift in ${shifted.length} of ${judged.length} judged fields`
    : `No drift in ${judged.length} judged fields`;
  byId('verdict').textContent = `${found}. ${within}.`;
  const rows = fields.map((field) => {
    const choose = element('button', { type: 'button', className: 'link', 'aria-pressed': String(field.name === state.field) }, field.name);
    choose.addEventListener('click', () => chooseField(field.name));
    const badge = element('span', { className: 'badge', 'data-kind': ['drift', 'shift', 'calm', 'none'][rank(field)] }, formatVerdict(field));
    return [choose, badge, formatNumber(field.effect), formatNumber(field.adjusted_p_value), formatNumber(field.psi), formatCount(field.num_answers, verdict.min_answers)];
  });
  return byId('fields').replaceChildren(table(['Field', 'Verdict', 'Effect', 'Adjusted p', 'PSI', 'Answers'], rows, [2, 3, 4, 5]));
}

function chooseField(name) {
  state.field = name;
  byId('field').value = name;
  for (const button of byId('fields').querySelectorAll('button')) button.setAttribute('aria-pressed', String(button.textContent === name));
  renderField();
}

function renderField() {
  renderEffects();
  renderShares();
}

function renderEffects() {
  const box = byId('effect');
  clear(box);
  const { series, field: name } = state;
  const of = (window) => window.fields.find((field) => field.name === name);
  const judged = (series?.windows ?? []).filter((window) => window.fields.some(({ effect }) => effect !== null));
  if (judged.length === 0) return box.append(note(series?.windows.length > 0 ? `No window alone has ${series.min_answers} answers of a field.` : NO_REPORTS));
  showEffects(box, { ...series, windows: judged }, name);
  const marks = legend(['line', name], ['other', 'other fields'], ['drift', 'drift'], ['shift', 'shift']);
  const rows = judged.toReversed().map((window) => {
    const field = of(window);
    return [formatWindow(window.window_start), formatNumber(field.effect), formatNumber(field.adjusted_p_value), formatCount(field.num_answers, series.min_answers), formatVerdict(field)];
  });
  return box.append(marks, numbers(table(['Window', 'Effect', 'Adjusted p', 'Answers', 'Verdict'], rows, [1, 2, 3])));
}

function renderShares() {
  const box = byId('shares');
  clear(box);
  const field = state.verdict?.fields.find(({ name }) => name === state.field);
  const declared = state.about?.fields.find(({ name }) => name === state.field);
  if (field === undefined || declared === undefined || state.verdict.windows.num_windows === 0) return box.append(note(NO_REPORTS));
  if (field.skipped !== null) return box.append(note(`${field.name} was not judged: ${formatVerdict(field)}.`));
  const labels = binLabels(declared);
  showShares(box, field, labels);
  const marks = legend(['other bar', 'at training time, or in the windows before'], ['band', 'now, ± 2 standard errors of sampling and noise']);
  const rows = labels.map((label, at) => [label, formatShare(field.shares[at]), `± ${formatShare(2 * field.standard_errors[at])}`, formatShare(field.baseline_shares[at])]);
  const moved = field.moves.length > 0 ? `: ${formatMoves(field.moves)}` : '';
  const untold = labels.at(-1) === 'untold' ? ' Verdicts leave untold out.' : '';
  box.append(element('p', { className: 'muted' }, `${field.name}${moved}.${untold}`), marks, numbers(table(['Value', 'Now', '2 standard errors', 'Baseline'], rows, [1, 2, 3])));
  if (field.segments.length > 0) box.append(segments(field));
}

const formatMoves = (moves) => moves
  .map(({ label, baseline_share: before, share }) => `${label} ${formatShare(before)} → ${formatShare(share)}`).join(', ');

/** For whom a field moved: a row for each of its segments. */
function segments(field) {
  const rows = field.segments.map(({ name, share, baseline_share: before, moves, effect, shifted }) => {
    const moved = formatMoves(moves);
    const words = effect === null ? 'too few answers' : shifted ? moved || 'no bin by itself' : 'no clear change';
    return [name, formatShare(share), formatShare(before), words];
  });
  return element('details', { open: field.segments.some(({ shifted }) => shifted) },
    element('summary', {}, 'By segment'), table(['Segment', 'Now', 'Baseline', 'Inside'], rows, [1, 2]));
}

function renderReports() {
  const box = byId('reports');
  clear(box);
  const windows = state.status?.bundles.find((bundle) => bundle.bundle_sha256 === state.bundle)?.windows ?? [];
  const least = state.series?.min_answers ?? 0;
  const hidden = windows.filter(({ num_reports: count }) => count === null).length;
  const left = hidden === 0 ? '' : `${hidden === 1 ? '1 window has' : `${hidden} windows have`} under ${least} reports, and no bar.`;
  if (windows.length === 0) return box.append(note(NO_REPORTS));
  if (hidden === windows.length) return box.append(note(left));
  showReports(box, windows);
  const rows = windows.toReversed().map((window) => [formatWindow(window.window_start), formatCount(window.num_reports, least)]);
  return box.append(element('p', { className: 'muted' }, left), numbers(table(['Window', 'Reports'], rows, [1])));
}

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  setToken(byId('token').value.trim());
  load();
});
byId('forget').addEventListener('click', () => {
  setToken(null);
  Object.assign(state, { status: null, bundle: null, field: null });
  lock();
});
byId('refresh').addEventListener('click', () => load());
byId('windows').addEventListener('change', () => loadBundle());
byId('field').addEventListener('change', () => chooseField(byId('field').value));
load();

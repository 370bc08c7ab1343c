// The charts, drawn by uPlot with the colours of the style sheet.
import { element } from './dom.js';
import { formatNumber, formatShare, formatWindow } from './format.js';

const { uPlot } = window;
const HEIGHT = 240;
/** Height of a line of names under a chart. */
const LABEL_ROOM = 34;
const FONT = '12px ui-sans-serif, system-ui, sans-serif';
const MOST_LABEL_CHARACTERS = 16;
const drawn = new Map();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Puts a chart in the place of what is in `container`; `options` makes its options and data, again for other colours and widths. */
function show(container, label, options) {
  const readout = element('p', { className: 'readout', 'aria-hidden': 'true' });
  const box = element('div', { className: 'chart', role: 'img', 'aria-label': label });
  container.replaceChildren(box, readout);
  const draw = () => {
    drawn.get(container)?.plot?.destroy();
    const width = Math.max(240, box.clientWidth);
    const { data, ...rest } = options({ width, say: (text) => { readout.textContent = text; } });
    const plot = new uPlot({ width, height: HEIGHT, legend: { show: false }, ...rest }, data, box);
    drawn.set(container, { box, draw, plot, width });
  };
  draw();
  watcher.observe(box);
}

const watcher = new ResizeObserver(() => {
  for (const { box, draw, width } of drawn.values()) {
    if (box.isConnected && box.clientWidth > 0 && Math.abs(box.clientWidth - width) > 1) draw();
  }
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  for (const { box, draw } of drawn.values()) if (box.isConnected) draw();
});

/** Takes a chart away. */
export function clear(container) {
  const chart = drawn.get(container);
  if (chart !== undefined) {
    watcher.unobserve(chart.box);
    chart.plot.destroy();
    drawn.delete(container);
  }
  container.replaceChildren();
}

const axis = (more = {}) => ({
  stroke: colour('muted'), font: FONT, grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line'), width: 1 }, ...more,
});
const days = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short', timeZone: 'UTC' });
const shortDate = (seconds) => days.format(seconds * 1000);
const timeAxis = () => axis({ space: 70, size: LABEL_ROOM, values: (_, splits) => splits.map(shortDate) });
const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC');
const still = { drag: { x: false, y: false }, y: false };

/** Effects of every field over the windows, the chosen one in front; `windows` and `min_effect` as the series has them. */
export function showEffects(container, { windows, min_effect: floor }, chosen) {
  const names = windows[0].fields.map(({ name }) => name);
  const order = [...names.filter((name) => name !== chosen), chosen];
  const of = (window, name) => window.fields.find((field) => field.name === name);
  const effects = order.map((name) => windows.map((window) => of(window, name)?.effect ?? null));
  const most = Math.max(floor * 1.6, ...effects.flat().map((effect) => (effect ?? 0) * 1.15));
  show(container, `Effect of ${chosen} by window, with the floor of ${floor}`, ({ say }) => ({
    data: [windows.map((window) => window.window_start), ...effects],
    tzDate: utc,
    padding: [12, 16, 0, 0],
    cursor: still,
    scales: { x: { time: true, range: padded(windows) }, y: { range: [0, most] } },
    axes: [timeAxis(), axis({ size: 48 })],
    series: [{}, ...order.map((name) => (name === chosen
      ? { stroke: colour('accent'), width: 2.5, points: { show: true, size: 5, fill: colour('accent') } }
      : { stroke: colour('quiet'), width: 1, points: { show: false } }))],
    hooks: {
      draw: [(plot) => {
        drawFloor(plot, floor);
        for (const name of order) for (const window of windows) drawMark(plot, window, of(window, name), name === chosen);
      }],
      setCursor: [({ cursor }) => {
        const window = windows[cursor.idx ?? -1];
        if (window === undefined) return say('');
        const { effect, drifted, shifted } = of(window, chosen);
        return say(`${formatWindow(window.window_start)}: effect ${formatNumber(effect)}${drifted ? ', DRIFT' : shifted ? ', shift' : ''}`);
      }],
    },
  }));
}

/** The range of the windows, with half a window at each end. */
function padded(windows) {
  const starts = windows.map((window) => window.window_start);
  const gaps = starts.slice(1).map((start, at) => start - starts[at]);
  const half = Math.min(...gaps, 86400) / 2;
  return [starts[0] - half, starts.at(-1) + half];
}

function drawFloor(plot, floor) {
  const { ctx, bbox } = plot;
  const y = plot.valToPos(floor, 'y', true);
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour('danger');
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${12 * devicePixelRatio}px ui-sans-serif, system-ui, sans-serif`;
  ctx.textBaseline = 'bottom';
  ctx.textAlign = 'left';
  ctx.fillText(`drift from ${floor}`, bbox.left + 6 * devicePixelRatio, y - 3 * devicePixelRatio);
  ctx.restore();
}

/** A disk for drift, a ring for a shift. */
function drawMark(plot, window, field, inFront) {
  if (field === undefined || field.effect === null || !field.shifted) return;
  const { ctx } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour(field.drifted ? 'danger' : 'warning');
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.beginPath();
  const [x, y] = [plot.valToPos(window.window_start, 'x', true), plot.valToPos(field.effect, 'y', true)];
  ctx.arc(x, y, (inFront ? 6 : 3.5) * devicePixelRatio, 0, 2 * Math.PI);
  if (field.drifted) ctx.fill();
  ctx.stroke();
  ctx.restore();
}

/** Shares of a field's bins as devices have them now, with bands of two standard errors, over bars of the baseline. */
export function showShares(container, field, labels) {
  const { shares, standard_errors: errors, baseline_shares: before } = field;
  const ends = shares.flatMap((share, at) => [share - 2 * errors[at], share + 2 * errors[at]]);
  const [least, most] = [Math.min(0, ...ends), Math.max(...before, ...ends) * 1.08];
  show(container, `Shares of ${field.name} now and before`, ({ width, say }) => ({
    height: HEIGHT + labelRoom(labels, width - 56) - LABEL_ROOM,
    data: [labels.map((_, at) => at), before, shares],
    padding: [12, 8, 0, 0],
    cursor: { ...still, points: { show: false } },
    scales: { x: { time: false, range: [-0.6, labels.length - 0.4] }, y: { range: [least, most] } },
    axes: [binAxis(labels, width - 56), axis({ size: 52, values: (_, splits) => splits.map((share) => `${Math.round(share * 100)} %`) })],
    series: [
      {},
      { fill: colour('quiet'), stroke: colour('quiet'), width: 0, paths: uPlot.paths.bars({ size: [0.8, 90] }), points: { show: false } },
      { paths: () => null, points: { show: false } },
    ],
    hooks: {
      draw: [(plot) => shares.forEach((share, at) => drawBand(plot, at, share, errors[at]))],
      setCursor: [({ cursor: { idx } }) => say(idx === null || idx === undefined ? ''
        : `${labels[idx]}: ${formatShare(shares[idx])} ± ${formatShare(2 * errors[idx])}, baseline ${formatShare(before[idx])}`)],
    },
  }));
}

function drawBand(plot, bin, share, error) {
  const { ctx } = plot;
  const [low, middle, high] = [share - 2 * error, share, share + 2 * error].map((value) => plot.valToPos(value, 'y', true));
  const step = plot.valToPos(1, 'x', true) - plot.valToPos(0, 'x', true);
  const half = Math.min(step * 0.22, 24 * devicePixelRatio);
  const x = plot.valToPos(bin, 'x', true);
  ctx.save();
  ctx.fillStyle = ctx.strokeStyle = colour('accent');
  ctx.globalAlpha = 0.35;
  ctx.fillRect(x - half, high, 2 * half, low - high);
  ctx.globalAlpha = 1;
  ctx.lineWidth = 3 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(x - half, middle);
  ctx.lineTo(x + half, middle);
  ctx.stroke();
  ctx.restore();
}

const shorten = (label) => (label.length > MOST_LABEL_CHARACTERS ? `${label.slice(0, MOST_LABEL_CHARACTERS - 1)}…` : label);
const longest = (labels) => Math.max(...labels.map((label) => shorten(label).length));
/** Whether names of bins would run into each other side by side. */
const isCrowded = (labels, width) => longest(labels) * 7 > width / labels.length;

/** Height of the names under the bins, in pixels. */
function labelRoom(labels, width) {
  return isCrowded(labels, width) ? 24 + Math.round(longest(labels) * 4.8) : LABEL_ROOM;
}

/** Names under the bins, turned where they are crowded. */
function binAxis(labels, width) {
  return axis({
    splits: () => labels.map((_, at) => at),
    values: () => labels.map(shorten),
    space: 1,
    grid: { show: false },
    rotate: isCrowded(labels, width) ? 45 : 0,
    size: labelRoom(labels, width),
  });
}

/** Reports of each window, where they are many enough to be told. */
export function showReports(container, windows) {
  const most = Math.max(...windows.map((window) => window.num_reports ?? 0));
  show(container, 'Reports by window', ({ say }) => ({
    data: [windows.map((window) => window.window_start), windows.map((window) => window.num_reports)],
    tzDate: utc,
    padding: [12, 16, 0, 0],
    cursor: { ...still, points: { show: false } },
    scales: { x: { time: true, range: padded(windows) }, y: { range: [0, most * 1.1] } },
    axes: [timeAxis(), axis({ size: 60 })],
    series: [{}, { fill: colour('accent'), stroke: colour('accent'), width: 0, paths: uPlot.paths.bars({ size: [0.6, 60] }), points: { show: false } }],
    hooks: {
      setCursor: [({ cursor: { idx } }) => {
        const window = windows[idx ?? -1];
        say(window === undefined ? '' : `${formatWindow(window.window_start)}: ${window.num_reports ?? 'too few to tell'}`);
      }],
    },
  }));
}

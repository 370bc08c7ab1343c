/** The element of an id; the page is broken without it. */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element;
}

/** Makes an element: properties by name, `aria-*` and `data-*` as attributes, then its children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-')) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** A table in a box that scrolls by itself; cells are texts or elements, `numeric` names the columns of numbers. */
export function table(headings, rows, numeric = []) {
  const kind = (at) => (numeric.includes(at) ? 'number' : '');
  const head = element('tr', {}, ...headings.map((text, at) => element('th', { scope: 'col', className: kind(at) }, text)));
  const cells = (row) => row.map((cell, at) => element(at === 0 ? 'th' : 'td', at === 0 ? { scope: 'row' } : { className: kind(at) }, cell));
  const body = rows.map((row) => element('tr', {}, ...cells(row)));
  return element('div', { className: 'scroll' }, element('table', {}, element('thead', {}, head), element('tbody', {}, ...body)));
}

/** A text in the place of what there is nothing of. */
export function note(text) {
  return element('p', { className: 'empty' }, text);
}

/** The numbers of a chart, for whoever cannot see or point at it. */
export function numbers(...content) {
  return element('details', {}, element('summary', {}, 'The numbers'), ...content);
}

/** What the marks of a chart mean: the style of a mark with its text. */
export function legend(...entries) {
  const entry = ([mark, text]) => element('li', {}, element('span', { className: `key ${mark}`, 'aria-hidden': 'true' }), text);
  return element('ul', { className: 'legend' }, ...entries.map(entry));
}

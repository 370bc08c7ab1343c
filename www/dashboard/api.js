const KEY = 'sanderling-admin-token';

/** The collector does not take the token. */
export class Unauthorised extends Error {}

/** The token of this tab, if there is one. */
export const token = () => sessionStorage.getItem(KEY);

/** Keeps a token until the tab is closed; `null` forgets it. */
export function setToken(text) {
  if (text === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, text);
}

/** What the collector answers at an address; an error says what went wrong, for people. */
export async function ask(path) {
  const response = await fetch(path, { headers: { authorization: `Bearer ${token()}` } }).catch(() => {
    throw new Error('The collector cannot be reached.');
  });
  if (response.status === 401) throw new Unauthorised('The collector does not know this token.');
  const body = await response.json().catch(() => {
    throw new Error(`The collector gave an answer that is not its own (status ${response.status}).`);
  });
  if (!response.ok) throw new Error(`The collector says: ${body.detail ?? body.title ?? response.status}.`);
  return body;
}

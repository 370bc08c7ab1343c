/** What a device keeps of its draws for canaries, so that it stays with its bundle: a random number for each channel, which nobody is told. */

const PREFIX = 'sanderling-channel:';

/** The key of a channel in `localStorage`. */
export function drawKey(channel: URL): string {
  return PREFIX + channel.href;
}

/** Forgets them all. */
export function dropDraws(): void {
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key);
  } catch {
    // Workers and servers have no such storage, and a private window may refuse it.
  }
}

/** How long a page waits for what may never answer: some browsers have opened databases that did not. */

/** For what is stored, before a first list is made without it. */
export const LOAD_MILLIS = 1000;
/** For a write or a read that somebody waits for. */
export const STORAGE_MILLIS = 5000;
/** For one more, where storage did not answer in that time. */
export const STUCK_MILLIS = 200;

/** What `work` comes to or, after `millis`, what `late` says. The work goes on. */
export function inTime<T, L>(work: Promise<T>, millis: number, late: () => L): Promise<T | L> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = new Promise<L>((resolve) => {
    timer = setTimeout(() => resolve(late()), millis);
  });
  return Promise.race([work, end]).finally(() => clearTimeout(timer));
}

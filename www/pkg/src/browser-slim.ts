/**
 * The entry `sanderling/slim` for browsers: the slim runtime alone, so that no bundler carries the full one.
 */
import { recommenderOn } from './load.js';
import { browser } from './platforms/browser.js';
import { slimInBrowsers } from './slim-in-browsers.js';
import type { RecommenderBase } from './recommender.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(browser({
  slim: slimInBrowsers,
}));
export type Recommender = RecommenderBase;

// Copies what the page loads of uPlot into vendor/, which is checked in: the collector is built without npm.
// `npm run vendor` after a change of the version in package.json.
import { copyFile, mkdir } from 'node:fs/promises';

const FILES = { 'dist/uPlot.iife.min.js': 'uPlot.iife.min.js', 'dist/uPlot.min.css': 'uPlot.min.css', LICENSE: 'uPlot.LICENSE' };
const at = (path) => new URL(path, import.meta.url);

await mkdir(at('vendor/'), { recursive: true });
for (const [from, to] of Object.entries(FILES)) await copyFile(at(`node_modules/uplot/${from}`), at(`vendor/${to}`));

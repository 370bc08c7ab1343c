import { parseArgs } from 'node:util';

/**
 * Reads `--name value` arguments. `flags` says which exist: `{ required, default }`; an unknown or
 * missing one ends the program with status 2 and one line on stderr.
 */
export function readFlags(flags, args = process.argv.slice(2)) {
  const options = Object.fromEntries(Object.keys(flags).map((name) => [name, { type: 'string' }]));
  let values;
  try {
    ({ values } = parseArgs({ args, options }));
  } catch (error) {
    return refuse(error.message);
  }
  for (const [name, flag] of Object.entries(flags)) {
    values[name] ??= flag.default;
    if (flag.required && values[name] === undefined) return refuse(`--${name} is missing`);
  }
  return values;
}

function refuse(message) {
  console.error(message);
  process.exit(2);
}

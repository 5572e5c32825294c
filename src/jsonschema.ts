import { isSettings, type Settings } from './configfile.ts';
import { valueAt } from './settings.ts';

/** What stands where a secret is. */
const masked = '********';

/** The named properties of an object's JSON Schema. */
export function propertiesOf(schema: unknown): Settings {
  const properties = valueAt(schema, ['properties']);
  return isSettings(properties) ? properties : {};
}

/** The JSON Schema of what lies at a path of keys, whatever names and places the user gives. */
export function schemaAt(schema: unknown, path: readonly string[]): unknown {
  let at = schema;
  for (const key of path) at = valueAt(propertiesOf(at), [key]) ?? below(at);
  return at;
}

/**
 * A value without its secrets, as its JSON Schema marks them (`"secret": true`). Text is masked; a reference to where
 * a secret is kept stays.
 */
export function mask(schema: unknown, value: unknown): unknown {
  if (valueAt(schema, ['secret']) === true && typeof value === 'string') return masked;
  const branches = valueAt(schema, ['anyOf']);
  if (Array.isArray(branches))
    return branches.reduce<unknown>((rest, branch: unknown) => mask(branch, rest), value);
  if (Array.isArray(value)) return value.map((item) => mask(below(schema), item));
  if (!isSettings(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [key, mask(schemaAt(schema, [key]), one)]),
  );
}

/** The schema of a list's items, or of values under names of the user's. */
function below(schema: unknown): unknown {
  return valueAt(schema, ['items']) ?? valueAt(schema, ['additionalProperties']);
}

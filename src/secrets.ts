import { readFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import * as z from 'zod';
import type { Environment } from './configfile.ts';
import { NexusError } from './errors.ts';

const text = z.string().min(1);

/** A secret as the configuration names it: itself, or where it is kept. */
export const secretSchema = z
  .union(
    [
      text,
      z.strictObject({ env: text.regex(/^[A-Za-z_][A-Za-z0-9_]*$/) }),
      z.strictObject({ file: text.refine(isAbsolute) }),
      // A name below $CREDENTIALS_DIRECTORY, where systemd's LoadCredential= puts it.
      z.strictObject({ credential: text.regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]*$/) }),
    ],
    {
      error:
        'must be text, {"env": "NAME"}, {"file": "/absolute/path"} or {"credential": "name"} (of LoadCredential=)',
    },
  )
  .meta({ secret: true });
export type Secret = z.infer<typeof secretSchema>;

const longestSecret = 64 * 1024;

/** One that was looked up already. */
export function known(secret: Secret | undefined): string | undefined {
  if (secret === undefined || typeof secret === 'string') return secret;
  throw new Error('A secret was not looked up.');
}

/** The secret itself, without the newline that an editor leaves at a file's end. `config` when it is not there. */
export async function resolveSecret(secret: Secret, env: Environment): Promise<string> {
  if (typeof secret === 'string') return secret;
  const [value, where] = await lookUp(secret, env);
  if (value === undefined || value === '' || value.length > longestSecret)
    throw new NexusError('config', `There is no secret in ${where}.`, {
      hint: 'Put it there, or name another place in the configuration.',
    });
  return value;
}

async function lookUp(
  secret: Exclude<Secret, string>,
  env: Environment,
): Promise<[value: string | undefined, where: string]> {
  if ('env' in secret) return [env[secret.env], `the environment variable ${secret.env}`];
  if ('file' in secret) return [await contentOf(secret.file), secret.file];
  const directory = env['CREDENTIALS_DIRECTORY'];
  if (directory === undefined || directory === '')
    return [undefined, `the credential ${secret.credential} (CREDENTIALS_DIRECTORY is not set)`];
  return [await contentOf(join(directory, secret.credential)), `the credential ${secret.credential}`];
}

async function contentOf(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).replace(/\r?\n$/, '');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new NexusError('config', `The secret in ${file} cannot be read (${code}).`, {
      hint: `Look at it with \`ls -l ${file}\`.`,
      cause: error,
    });
  }
}

/** The names of the environment variables that a configuration takes secrets from. */
export function secretVariables(config: unknown): string[] {
  if (typeof config !== 'object' || config === null) return [];
  const named: string[] = 'env' in config && typeof config.env === 'string' ? [config.env] : [];
  return [...named, ...Object.values(config).flatMap(secretVariables)];
}

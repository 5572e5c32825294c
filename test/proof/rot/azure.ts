import type { Site } from '../part.ts';
type Note = (what: string, kind: string, again: string | undefined, wrong: string | undefined) => void;
export async function azureRot(_site: Site, _random: () => number, _note: Note): Promise<string[]> {
  return await Promise.resolve(['Azure']);
}

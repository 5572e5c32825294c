/** So many of a kind are named each time; the others are counted. */
export const mostNamed = 20;

/** What to say of each of the first, and of how many more there are. */
export function few<T, Said>(
  all: readonly T[],
  each: (one: T) => Said,
  rest: (count: number) => Said,
): Said[] {
  const said = all.slice(0, mostNamed).map(each);
  return all.length > mostNamed ? [...said, rest(all.length - mostNamed)] : said;
}
